"""What a lease leaves behind when it is lost: fetching, fits. They serve no session but the one that began them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection

from shared.clock import SystemClock
from shared.detection.forest import FlatForest
from shared.detection.window_anomaly import FEATURES, FitRequest
from shared.exchange.binance.events import Gap
from shared.exchange.binance.ids import IdFollower
from shared.exchange.binance.stream import StreamParser
from shared.market.model import Market, Trade, TradeKind
from shared.storage.sqlite import SqliteTable
from streamer.actions import FitModel
from streamer.service import StreamerService
from streamer.session import Session
from tests.streamer.feed import Feed
from tests.streamer.streams import settings, trades, with_urls
from tests.streamer.test_service import FakeAlerts, FakeExchange, ServedFeed, make, wait_until


class SlowPage(FakeExchange):
    """Answers one page only when told, the first time it is asked for; notes who asks for which."""

    def __init__(self, past: list[Trade], slow: int) -> None:
        super().__init__(past)
        self.slow, self.reached, self.go = slow, threading.Event(), threading.Event()
        self.asked: list[tuple[threading.Thread, int | None]] = []

    def historical_trades(self, market: Market, symbol: str, *, from_id: int | None, limit: int = 1000) -> list[Trade]:
        self.asked.append((threading.current_thread(), from_id))
        if from_id == self.slow and not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(30)
        return super().historical_trades(market, symbol, from_id=from_id, limit=limit)

    agg_trades = historical_trades


async def quiet(feed: Feed, client: ServerConnection, number: int) -> None:
    await client.wait_closed()


def test_the_past_of_a_lost_lease_does_not_go_into_the_next_session() -> None:
    stream = trades(6000, seed=1)
    exchange = SlowPage(stream, stream[3000].trade_id or 0)
    base = settings(warmup_trades=True, warmup_hours=10_000.0)
    with ServedFeed(quiet) as feed:
        service = make(feed, SqliteTable(":memory:"), base=base, exchange=exchange)
        service.run_in_thread()
        assert exchange.reached.wait(30)
        first, thread = service.session, exchange.asked[-1][0]
        known = first.trades
        service._on_loop(service._lose)  # and won again at once: whoever took over has ended
        wait_until(lambda: service.session is not first and service.past.status["state"] == "done")
        second, asked = service.session, len(exchange.asked)
        learnt = second.trades
        exchange.go.set()
        thread.join(30)
        assert not thread.is_alive()
        assert [who for who, _ in exchange.asked[asked:] if who is thread] == []
        assert (first.trades, second.trades, second.missing, second.gaps) == (known, learnt, 0, 0)
        assert second.position("BTCUSDT")[0] == stream[-1].trade_id
        assert service.stop()


class SlowFit(FitRequest):
    """A fit that ends when told."""

    def fit(self) -> FlatForest:
        self.reached.set()
        assert self.go.wait(30)
        return super().fit()

    @classmethod
    def asked(cls, symbol: str = "BTCUSDT") -> SlowFit:
        features = np.random.default_rng(1).random((40, len(FEATURES)))
        made = cls(Market.SPOT, symbol, features, 40, 10, 1)
        object.__setattr__(made, "reached", threading.Event())
        object.__setattr__(made, "go", threading.Event())
        return made

    reached: threading.Event
    go: threading.Event


def lost_and_won(service: StreamerService) -> Session:
    """Lose the lease, win it again at once (whoever took over has ended); return the session that begins."""
    first = service.session
    service._on_loop(service._lose)
    wait_until(lambda: service.session is not first and service.backlog.live and service.owning)
    return service.session


def on_loop(service: StreamerService, call: Callable[[], Any]) -> None:
    """Do it on the loop, behind all that waits there."""
    done = threading.Event()
    service._on_loop(lambda: (call(), done.set()))
    assert done.wait(10)


@pytest.mark.parametrize("fails", [False, True])
def test_a_fit_of_a_lost_lease_does_not_go_into_the_next_session(fails: bool) -> None:
    running, waiting, own = SlowFit.asked(), SlowFit.asked("OTHERUSDT"), SlowFit.asked()
    if fails:
        object.__setattr__(running, "features", np.empty((0, 0)))
    with ServedFeed(quiet) as feed:
        service = make(feed, SqliteTable(":memory:"))
        service.run_in_thread()
        wait_until(lambda: service.backlog.live and service.owning)
        executor, first = service.executor, service.session
        on_loop(service, lambda: executor.execute([FitModel("BTCUSDT", running), FitModel("OTHERUSDT", waiting)]))
        assert running.reached.wait(10)
        second = lost_and_won(service)
        anomaly = second.states["BTCUSDT"].anomaly
        assert anomaly is not None
        anomaly._asked_after = 40  # its own request is out too, and after as many windows
        running.go.set()
        wait_until(lambda: executor.fitter.fitted + executor.fitter.failed == 1)
        time.sleep(0.05)
        on_loop(service, lambda: None)
        assert (anomaly.model, anomaly._asked_after) == (None, 40)
        assert executor.worker.done["model"] == 0
        assert not waiting.reached.is_set()  # nobody waits for it any more
        own.go.set()
        on_loop(service, lambda: executor.execute([FitModel("BTCUSDT", own)]))
        wait_until(lambda: second.models == 1)
        wait_until(lambda: executor.worker.done["model"] == 1)
        assert first.models == 0
        assert service.stop()


def test_the_models_of_a_start_that_lost_its_lease_do_not_go_into_the_next_session() -> None:
    """Those that were due at a restart are fitted before the first trade, on a thread that no cancelling ends."""
    request = SlowFit.asked()

    class Due(Session):
        def due_fits(self) -> list[Any]:
            return [FitModel("BTCUSDT", request), FitModel("BTCUSDT", SlowFit.asked())]

    class Begins(StreamerService):
        def _new_session(self) -> Session:
            kind = Session if hasattr(self, "session") else Due
            return kind(self.settings, self._market, self._symbols, together=True)

    with ServedFeed(quiet) as feed:
        base = with_urls(settings(), feed.url)
        service = Begins(base, FakeExchange(), FakeAlerts(), SqliteTable(":memory:"), SystemClock())  # type: ignore[arg-type]
        service.run_in_thread()
        assert request.reached.wait(30)
        first = service.session
        service._on_loop(service._lose)
        time.sleep(0.3)
        request.go.set()
        wait_until(lambda: service.session is not first and service.backlog.live and service.owning)
        time.sleep(0.2)
        assert service.session.models == 0
        assert service.stop()


def test_what_is_missing_can_be_asked_while_symbols_are_added() -> None:
    parser = StreamParser(Market.SPOT)

    class Adding(IdFollower):
        """Another symbol's first trade comes while the holes are counted."""

        def gaps(self) -> list[tuple[int, int]]:
            parser._trades.setdefault("NEWUSDT", IdFollower())
            return [(5, 6)]

    parser._trades["BTCUSDT"] = Adding()
    assert parser.missing() == [Gap(Market.SPOT, "BTCUSDT", TradeKind.TRADE, 5, 6)]
