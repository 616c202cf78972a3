"""The container's entry: a signal ends it cleanly, an error is one line."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest

from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.exchange.market_data import Listing
from shared.market.model import Market
from shared.settings import Settings, UniverseSettings
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.sqlite import SqliteTable
from streamer.__main__ import main
from streamer.bootstrap import symbols_to_stream
from streamer.service import StreamerService
from tests.streamer.streams import trades
from tests.streamer.test_service import FakeAlerts, FakeExchange, ServedFeed, make, sending, wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_everything_stored(number: signal.Signals) -> None:
    table = SqliteTable(":memory:")
    with ServedFeed(sending(trades(500))) as feed:
        service = make(feed, table, alerts=FakeAlerts())

        def send_signal() -> None:
            wait_until(lambda: service.status()["trades"] == 500)
            os.kill(os.getpid(), number)

        threading.Thread(target=send_signal, daemon=True).start()
        started = time.monotonic()
        assert main(lambda: service) == 0
        assert time.monotonic() - started < 10
    assert HeartbeatRepository(table).all()["streamer"]["trades"] == 500
    later = StreamerService(
        Settings(),
        FakeExchange(),
        FakeAlerts(),
        table,
        SystemClock(),
        symbols=("BTCUSDT",),  # type: ignore[arg-type]
    )
    later.checkpoints.restore(later.session)
    assert later.session.rejected == {}


def test_a_wrong_setting_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def build() -> StreamerService:
        raise ConfigurationError("no symbol to stream")

    assert main(build) == 1
    assert json.loads(capsys.readouterr().err) == {"error": "no symbol to stream", "code": "configuration"}


def test_symbols_come_from_the_settings_or_the_listing() -> None:
    class Listed:
        def listings(self, market: Market) -> list[Listing]:
            return [
                Listing(Market.SPOT, "BUSDT", "B", "USDT", "TRADING"),
                Listing(Market.SPOT, "AUSDT", "A", "USDT", "TRADING"),
                Listing(Market.SPOT, "CUSDT", "C", "USDT", "BREAK"),
                Listing(Market.SPOT, "ABTC", "A", "BTC", "TRADING"),
            ]

    def asked(universe: UniverseSettings) -> tuple[str, ...]:
        return symbols_to_stream(Settings(universe=universe), Listed())  # type: ignore[arg-type]

    assert asked(UniverseSettings(spot_symbols=("X", "Y", "X"))) == ("X", "Y")
    assert asked(UniverseSettings(all="usdt")) == ("AUSDT", "BUSDT")
    with pytest.raises(ConfigurationError):
        asked(UniverseSettings(spot_symbols=()))
