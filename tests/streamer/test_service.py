"""The whole streamer over a real socket: trades in; windows, alerts, heartbeats and checkpoints out."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import sklearn.ensemble  # noqa: F401 - its import takes seconds on a busy machine and is not what is tested here
from websockets.asyncio.server import ServerConnection

from shared.clock import SystemClock
from shared.detection.reading import Detector, Signal
from shared.errors import BadRequest, ExchangeUnavailable, StorageUnavailable
from shared.market.model import Market, Trade
from shared.settings import Settings
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.sqlite import SqliteTable
from shared.storage.windows import WindowRepository
from streamer.actions import Action, EmitSignal, FitModel, StoreWindows
from streamer.connection import Connector
from streamer.picows_connection import PicowsConnector
from streamer.service import StreamerService
from streamer.session import Session
from streamer.websockets_connection import WebsocketsConnector
from tests.streamer.feed import Feed, Script
from tests.streamer.streams import frame, settings, trades, with_urls

FAR_MS = 9_999_999_999_999


class FakeExchange:
    """Past trades by REST, as far as they are `kept`; the part of MarketData that the streamer asks."""

    def __init__(self, past: list[Trade] | None = None) -> None:
        self.past = past or []
        self.refusal: Exception | None = None
        self.calls = 0

    def server_time_ms(self, market: Market) -> int:
        return self.past[-1].event_ms + 300_000 if self.past else SystemClock().now_ms()

    def historical_trades(self, market: Market, symbol: str, *, from_id: int | None, limit: int = 1000) -> list[Trade]:
        self.calls += 1
        if self.refusal is not None:
            raise self.refusal
        kept = [trade for trade in self.past if trade.symbol == symbol]
        if from_id is None:
            return kept[-limit:]
        return [trade for trade in kept if (trade.trade_id or 0) >= from_id][:limit]

    agg_trades = historical_trades


class FakeAlerts:
    def __init__(self) -> None:
        self.signals: list[Signal] = []
        self.answers: list[Exception] = []

    def handle(self, signal: Signal) -> None:
        if self.answers:
            raise self.answers.pop()
        self.signals.append(signal)


class ServedFeed:
    """A loopback exchange on a thread of its own, so that the service under test may have its own too."""

    def __init__(self, script: Script) -> None:
        self._feed = Feed(script)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    async def _main(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self._feed:
            self.url = self._feed.url
            self._ready.set()
            await self._end.wait()

    def __enter__(self) -> ServedFeed:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(5)

    @property
    def clients(self) -> int:
        return self._feed.clients


def wait_until(true: Callable[[], object], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def sending(stream: list[Trade], *, per_burst: int = 50) -> Script:
    """Send the stream to whoever connects, from where the last client was cut."""

    async def script(feed: Feed, client: ServerConnection, number: int) -> None:
        position = feed.next_id - 1000
        while position < len(stream):
            for trade in stream[position : position + per_burst]:
                await client.send(frame(trade))
            position += per_burst
            feed.next_id = 1000 + position
            await asyncio.sleep(0.001)
        await client.wait_closed()

    return script


def make(
    feed: ServedFeed,
    table: SqliteTable,
    *,
    alerts: FakeAlerts | None = None,
    exchange: FakeExchange | None = None,
    base: Settings | None = None,
    connector: Connector | None = None,
) -> StreamerService:
    return StreamerService(
        with_urls(base or settings(), feed.url),
        exchange or FakeExchange(),  # type: ignore[arg-type]
        alerts or FakeAlerts(),
        table,
        SystemClock(),
        connector=connector,
    )


def replayed(stream: list[Trade]) -> tuple[list[Signal], list[int]]:
    """Return what a replay says: the trade spikes, and the starts of the closed windows."""
    session, spikes, windows = Session(settings(), Market.SPOT, ("BTCUSDT",)), [], []

    def take(actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, EmitSignal) and action.signal.detector is Detector.TRADE_SPIKE:
                spikes.append(action.signal)
            elif isinstance(action, StoreWindows):
                windows.extend(v.window.start_ms for v in action.verdicts)
            elif isinstance(action, FitModel):
                session.install(action.symbol, action.request.fit(), action.request)

    for trade in stream:
        take(session.trade(trade))
    return spikes, windows


@pytest.mark.parametrize("library", [PicowsConnector, WebsocketsConnector])
def test_trades_become_windows_signals_and_a_heartbeat(library: Callable[..., Connector]) -> None:
    stream, table, alerts = trades(3000, seed=21), SqliteTable(":memory:"), FakeAlerts()
    with ServedFeed(sending(stream)) as feed:
        service = make(feed, table, alerts=alerts, connector=library(SystemClock().now_ms))
        service.run_in_thread()
        wait_until(lambda: service.status()["trades"] == 3000)
        wait_until(lambda: service.status()["models"] == 1)
        status = service.status()
        assert service.stop()
    spikes, windows = replayed(stream)
    assert [s for s in alerts.signals if s.detector is Detector.TRADE_SPIKE] == spikes
    rows = WindowRepository(table).range("spot", "BTCUSDT", 0, FAR_MS)
    assert [row["start_ms"] for row in rows] == windows
    assert status["state"] in ("live", "quiet")
    assert status["symbols"] == 1
    assert status["learning"] == {}
    assert status["rejected"] == {}
    assert status["not_stored"] == {}
    beat = HeartbeatRepository(table).all()["streamer"]
    assert beat["last_event_ms"] == stream[-1].event_ms
    assert {"lag_ms", "trades", "rejected", "windows", "models", "gaps", "loop", "beat_ms"} <= beat.keys()
    assert (beat["trades"], beat["state"]) == (3000, "stopped")


@pytest.mark.parametrize("flush_seconds", [0.0, 600.0])
def test_a_restart_continues_where_it_stopped(tmp_path: Path, flush_seconds: float) -> None:
    stream, spikes = trades(3000, seed=22), []
    for part in (stream[:700], stream[700:1900], stream[1900:]):
        alerts, table = FakeAlerts(), SqliteTable(str(tmp_path / "state.sqlite"))
        with ServedFeed(sending(part)) as feed:
            service = make(feed, table, alerts=alerts, base=settings(flush_seconds=flush_seconds))
            service.run_in_thread()
            wait_until(lambda: service.status()["trades"] == len(part))  # noqa: B023
            assert service.stop()
            assert service.status()["gaps"] == 0
        spikes += [s for s in alerts.signals if s.detector is Detector.TRADE_SPIKE]
    assert spikes == replayed(stream)[0]
    rows = WindowRepository(table).range("spot", "BTCUSDT", 0, FAR_MS)
    assert [row["start_ms"] for row in rows] == replayed(stream)[1]
    assert all(row["complete"] for row in rows)
    assert service.status()["restored"] == 1


@pytest.mark.parametrize("flush_seconds", [0.0, 0.3, 600.0])
def test_a_killed_streamer_loses_nothing_that_the_exchange_still_has(tmp_path: Path, flush_seconds: float) -> None:
    """A kill is a copy of the state file at any moment: whatever it holds must continue to the same end."""
    stream, kept = trades(2500, seed=23), tmp_path / "killed.sqlite"
    table, first = SqliteTable(str(tmp_path / "state.sqlite")), FakeAlerts()
    with ServedFeed(sending(stream[:1500], per_burst=5)) as feed:
        service = make(feed, table, alerts=first, base=settings(flush_seconds=flush_seconds))
        service.run_in_thread()
        wait_until(lambda: service.status()["windows"] > 0 and service.status()["queued"] == 0)
        with sqlite3.connect(str(tmp_path / "state.sqlite")) as source, sqlite3.connect(str(kept)) as target:
            source.backup(target)
        taken = list(first.signals)
        service.stop()
    second, table = FakeAlerts(), SqliteTable(str(kept))
    with ServedFeed(sending(stream[1500:])) as feed:
        base = settings(warmup_trades=True, warmup_hours=1.0, flush_seconds=flush_seconds)
        service = make(feed, table, alerts=second, base=base, exchange=FakeExchange(stream[:1600]))
        service.run_in_thread()
        wait_until(lambda: service.status()["last_event_ms"] == stream[-1].event_ms)
        wait_until(lambda: service.status()["queued"] == 0)  # what a stop leaves undone the next start does again
        assert service.stop(15)
        assert service.status()["gaps"] == 0
    rows = WindowRepository(table).range("spot", "BTCUSDT", 0, FAR_MS)
    assert [row["start_ms"] for row in rows] == replayed(stream)[1]
    assert all(row["complete"] for row in rows)
    said = [s for s in (*taken, *second.signals) if s.detector is Detector.TRADE_SPIKE]
    golden = {s.trade_id: s for s in replayed(stream)[0]}
    assert {s.trade_id: s for s in said} == golden  # one said twice is the same, and its alert has the same id
    assert taken == first.signals[: len(taken)]


def test_past_trades_make_the_models_before_the_first_live_trade() -> None:
    stream, alerts = trades(4000, seed=24), FakeAlerts()
    table = SqliteTable(":memory:")
    with ServedFeed(sending(stream[3500:])) as feed:
        base = settings(warmup_trades=True, warmup_hours=5.0)
        service = make(feed, table, alerts=alerts, base=base, exchange=FakeExchange(stream[:3600]))
        service.run_in_thread()
        wait_until(lambda: service.status()["last_event_ms"] == stream[-1].event_ms)
        status = service.status()
        assert service.stop()
    assert status["warmup"]["state"] == "done"
    assert status["models"] == 1
    assert status["gaps"] == 0
    assert status["rejected"] == {"repeat": 100}
    expected = [s for s in replayed(stream)[0] if (s.trade_id or 0) >= 1000 + 3600]
    assert [s for s in alerts.signals if s.detector is Detector.TRADE_SPIKE] == expected


@pytest.mark.parametrize("error", [BadRequest("not served here", status=404), ExchangeUnavailable("away")])
def test_without_past_trades_it_learns_live(error: Exception) -> None:
    stream, exchange = trades(300, seed=25), FakeExchange()
    exchange.refusal = error
    with ServedFeed(sending(stream)) as feed:
        service = make(feed, SqliteTable(":memory:"), base=settings(warmup_trades=True), exchange=exchange)
        service.run_in_thread()
        wait_until(lambda: service.status()["trades"] == 300)
        wait_until(lambda: service.status()["windows"] > 5)
        status = service.status()
        assert service.stop()
    assert exchange.calls == 1
    assert status["warmup"]["state"] == "not_served"  # and asked for again
    assert status["learning"]["BTCUSDT"] > 5


def test_a_silent_feed_is_replaced_within_the_watchdog_and_a_second() -> None:
    stream = trades(4000, seed=26)

    async def deaf(feed: Feed, client: ServerConnection, number: int) -> None:
        half = stream[:2000] if number == 1 else stream[2000:]
        for trade in half:
            await client.send(frame(trade))
            await asyncio.sleep(0.001)
        await client.wait_closed()

    with ServedFeed(deaf) as feed:
        exchange = FakeExchange(stream)  # whose REST side shows that the market has not fallen silent
        service = make(feed, SqliteTable(":memory:"), base=settings(watchdog_seconds=1.0), exchange=exchange)
        service.run_in_thread()
        wait_until(lambda: service.status()["trades"] == 2000, 15)
        started = time.monotonic()
        wait_until(lambda: feed.clients == 2)
        assert 0.5 < time.monotonic() - started <= 3.0  # the watchdog, a second, and a busy machine
        wait_until(lambda: service.status()["trades"] > 2100)
        assert service.status()["reconnects"] == 1
        assert service.stop()


def test_a_lost_stretch_is_fetched_and_the_windows_are_whole() -> None:
    stream = trades(1200, seed=27)

    async def skipping(feed: Feed, client: ServerConnection, number: int) -> None:
        for trade in [*stream[:500], *stream[502:]]:
            await client.send(frame(trade))
            await asyncio.sleep(0.02 if 500 < (trade.trade_id or 0) - 1000 < 512 else 0)
        await client.wait_closed()

    table = SqliteTable(":memory:")
    with ServedFeed(skipping) as feed:
        service = make(feed, table, exchange=FakeExchange(stream))
        service.run_in_thread()
        wait_until(lambda: service.status()["trades"] == 1200)
        status = service.status()
        assert service.stop()
    assert (status["gaps"], status["missing"]) == (1, 0)
    assert all(row["complete"] for row in WindowRepository(table).range("spot", "BTCUSDT", 0, FAR_MS))


def test_slow_alerts_never_block_the_reading_and_a_refused_one_is_repeated() -> None:
    stream, alerts = trades(2000, seed=28), FakeAlerts()
    alerts.answers = [StorageUnavailable("away")] * 2
    with ServedFeed(sending(stream)) as feed:
        service = make(feed, SqliteTable(":memory:"), alerts=alerts)
        service.run_in_thread()
        wait_until(lambda: service.status()["trades"] == 2000)
        wait_until(lambda: service.status()["queued"] == 0)
        assert service.stop()
    spikes = replayed(stream)[0]
    assert [s for s in alerts.signals if s.detector is Detector.TRADE_SPIKE] == spikes


def test_without_an_exchange_it_says_why_and_stops_in_time() -> None:
    with ServedFeed(sending([])) as feed:
        pass
    service = make(feed, SqliteTable(":memory:"))
    service.run_in_thread()
    wait_until(lambda: service.status()["state"] == "broken")
    assert "could not be opened" in service.status()["reason"]
    started = time.monotonic()
    assert service.stop()
    assert time.monotonic() - started < 3
    assert HeartbeatRepository(SqliteTable(":memory:")).all() == {}


def test_stopping_while_the_past_is_fetched_is_quick() -> None:
    class Slow(FakeExchange):
        def historical_trades(self, *args: object, **options: object) -> list[Trade]:
            time.sleep(5)
            return []

    with ServedFeed(sending(trades(10))) as feed:
        service = make(feed, SqliteTable(":memory:"), base=settings(warmup_trades=True), exchange=Slow())
        service.run_in_thread()
        wait_until(lambda: service.status()["warmup"]["state"] == "running")
        started = time.monotonic()
        assert service.stop()
        assert time.monotonic() - started < 3


def test_a_service_stopped_before_it_began_never_begins() -> None:
    with ServedFeed(sending(trades(10))) as feed:
        service = make(feed, SqliteTable(":memory:"))
        service._stopping.set()
        service.run_in_thread()
        assert service.stop()
        assert feed.clients == 0


def test_f605_a_service_that_does_not_end_in_time_gives_up_its_lease() -> None:
    """Whoever comes next in the same process streams at once, and what the old one still stores is refused."""
    table, hung = SqliteTable(":memory:"), threading.Event()

    class Hanging(StreamerService):
        async def run(self, stop: asyncio.Event, *, flush_within_s: float = 2.0) -> None:
            self.ownership.acquire(lambda: False, hung.wait)
            self.ownership.keep(lambda: None)
            owned.set()
            hung.wait()

    owned = threading.Event()
    wanted = with_urls(settings(), "ws://127.0.0.1:9")
    old = Hanging(wanted, FakeExchange(), FakeAlerts(), table, SystemClock(), owner="old")  # type: ignore[arg-type]
    old.run_in_thread()
    assert owned.wait(10)
    new = StreamerService(wanted, FakeExchange(), FakeAlerts(), table, SystemClock(), owner="new")  # type: ignore[arg-type]
    before = old.ownership.lease
    assert not old.stop(within_s=0.0)
    assert before is not None
    assert new.ownership.acquire(lambda: False, lambda s: pytest.fail("it waits for a lease that nobody needs"))
    assert not table.transact([before.check()]).applied
    hung.set()


def test_progress_is_told_the_status() -> None:
    told: list[dict[str, object]] = []
    with ServedFeed(sending(trades(100))) as feed:
        service = make(feed, SqliteTable(":memory:"))
        service._progress = told.append
        service.run_in_thread()
        wait_until(lambda: told and told[-1]["trades"] == 100)
        assert service.stop()
    assert msgspec.json.encode(told[-1])
