"""The container's entry: a signal ends it cleanly, an error is one line."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.world import probe
from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.exchange.binance.endpoints import plan_connections, stream_name, streamable
from shared.exchange.market_data import Listing
from shared.market.model import Market
from shared.settings import SectorSettings, Settings, UniverseSettings
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


STRANGE = ("](tg://x)USDT", "A/BUSDT", "X@YUSDT", "!XUSDT")


def test_symbols_come_from_the_settings_or_the_listing(caplog: pytest.LogCaptureFixture) -> None:
    class Listed:
        def listings(self, market: Market) -> list[Listing]:
            return [
                Listing(Market.SPOT, "BUSDT", "B", "USDT", "TRADING"),
                Listing(Market.SPOT, "AUSDT", "A", "USDT", "TRADING"),
                Listing(Market.SPOT, "CUSDT", "C", "USDT", "BREAK"),
                Listing(Market.SPOT, "ABTC", "A", "BTC", "TRADING"),
            ]

    strange = [Listing(Market.SPOT, name, name[:-4], "USDT", "TRADING") for name in STRANGE]

    class Hostile(Listed):
        def listings(self, market: Market) -> list[Listing]:
            return [*strange[:2], *super().listings(market), *strange[2:]]

    everything = Settings(universe=UniverseSettings(all="USDT"))
    assert symbols_to_stream(everything, Hostile()) == ("AUSDT", "BUSDT")  # type: ignore[arg-type]
    assert "symbols_left_out" in caplog.text
    assert [(r.count, set(r.symbols)) for r in caplog.records] == [(len(STRANGE), set(STRANGE))]  # type: ignore[attr-defined]

    def asked(universe: UniverseSettings) -> tuple[str, ...]:
        return symbols_to_stream(Settings(universe=universe), Listed())  # type: ignore[arg-type]

    assert asked(UniverseSettings(spot_symbols=("X", "Y", "X"))) == ("X", "Y")
    assert asked(UniverseSettings(all="usdt")) == ("AUSDT", "BUSDT")
    with pytest.raises(ConfigurationError):
        asked(UniverseSettings(spot_symbols=()))


def test_a_listed_name_that_no_stream_can_carry_is_left_out_on_one_machine_too() -> None:
    class Hostile:
        def server_time_ms(self, market: Market) -> int:
            return SystemClock().now_ms()

        def listings(self, market: Market) -> list[Listing]:
            return [Listing(Market.SPOT, name, name[:-4], "USDT", "TRADING") for name in (*STRANGE, "AUSDT")]

    settings = Settings(universe=UniverseSettings(all="USDT"), sector=SectorSettings(enabled=False))
    found = probe(settings, Hostile())  # type: ignore[arg-type]
    assert found.spot_symbols == ("AUSDT",)
    assert [note[:2] for note in found.notes] == ["4 "]


@given(st.lists(st.text(max_size=12)))
def test_what_is_not_left_out_can_be_streamed(names: list[str]) -> None:
    good, strange = streamable(Market.SPOT, names, "trade")
    assert sorted((*good, *strange)) == sorted(names)
    plan_connections("wss://exchange", Market.SPOT, [stream_name(name, "trade") for name in good])
