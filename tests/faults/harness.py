"""A seeded exchange that goes on whether anybody listens or not, and the judgement of what a streamer made of it.

Trades become visible at a pace; a client hears only what comes from its connection on, REST serves everything that has
come. Golden is what a replay of all the trades says.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from math import isclose
from typing import Any

from websockets.asyncio.server import ServerConnection

from shared.clock import SystemClock
from shared.detection.reading import Detector, Signal, Status
from shared.market.model import Market, Trade
from shared.settings import Settings
from shared.storage.sqlite import SqliteTable
from shared.storage.windows import WindowRepository
from streamer.actions import Action, EmitSignal, FitModel, StoreWindows
from streamer.service import StreamerService
from streamer.session import Session
from tests.streamer.feed import Feed
from tests.streamer.streams import frame, settings, trades, with_urls
from tests.streamer.test_service import FakeAlerts, ServedFeed, wait_until

SYMBOLS = ("BTCUSDT", "ETHUSDT")
FAR_MS = 9_999_999_999_999
BURST_AT = 300  # where the burst that nobody hears begins
Mangle = Callable[[list[Trade]], Iterable[bytes]]
Act = Callable[["Exchange", Feed, ServerConnection, int], Awaitable[bool]]
"""Called before each step for each client, with the client's number; True: it has done all there is to do."""


@dataclass
class Exchange:
    """`mangle` turns the trades of one step into messages; `act` closes, mutes or shouts."""

    count: int = 1000
    per_s: float = 500.0
    symbols: tuple[str, ...] = SYMBOLS
    mangle: Mangle = lambda step: [frame(trade) for trade in step]
    act: Act | None = None
    muted: set[str] = field(default_factory=set)
    silent: bool = False
    served: bool = True  # REST has the past
    unheard: int = 0  # trades of the first symbol within ten seconds that no client ever hears
    kept_from: int = 0  # REST has forgotten the ids before
    calls: int = 0
    injected: int = 0
    began_s: float | None = None

    def __post_init__(self) -> None:
        self.streams = {s: trades(self.count, seed=30 + n, symbol=s) for n, s in enumerate(self.symbols)}
        if self.unheard:
            self.streams[self.symbols[0]] = _with_burst(self.streams[self.symbols[0]], self.unheard)

    def known(self, symbol: str, position: int) -> list[Trade]:
        """Return a symbol's trades up to a position of all symbols."""
        more = self.unheard if symbol == self.symbols[0] and position > BURST_AT else 0
        return self.streams[symbol][: position + more]

    @property
    def position(self) -> int:
        if self.began_s is None:
            return 0
        return min(self.count, int((time.monotonic() - self.began_s) * self.per_s))

    async def script(self, feed: Feed, client: ServerConnection, number: int) -> None:
        if self.began_s is None:
            self.began_s = time.monotonic()
        sent = self.position
        while True:
            if self.act is not None and await self.act(self, feed, client, number):
                return
            now = self.position
            step = [
                trade
                for at in range(sent, now)
                for symbol in self.symbols
                if symbol not in self.muted
                for trade in (self.known(symbol, at + 1)[-1],)
            ]
            sent = now
            if step and not self.silent:
                for message in self.mangle(step):
                    await client.send(message.decode() if isinstance(message, bytes) and _text(message) else message)
            await asyncio.sleep(0.01)

    # --- the part of MarketData that a streamer asks ------------------------------------------------------------
    def server_time_ms(self, market: Market) -> int:
        return SystemClock().now_ms()

    def historical_trades(self, market: Market, symbol: str, *, from_id: int | None, limit: int = 1000) -> list[Trade]:
        self.calls += 1
        known = self.known(symbol, self.position) if self.served else []
        if from_id is None or not known:
            return known[-limit:]
        first = known[0].trade_id or 0
        at = max(0, max(from_id, self.kept_from) - first)
        return known[at : at + limit]

    agg_trades = historical_trades


def _with_burst(stream: list[Trade], count: int) -> list[Trade]:
    """Put so many trades behind the first 300, within ten seconds of the exchange's time; ids go on without a hole."""
    before, after = stream[:BURST_AT], stream[BURST_AT:]
    last_id, start_ms = before[-1].trade_id or 0, before[-1].event_ms
    burst = [
        replace(t, trade_id=last_id + 1 + n, event_ms=start_ms + 10_000 * n // count)
        for n, t in enumerate(trades(count, seed=77, symbol=stream[0].symbol))
    ]
    return (
        before + burst + [replace(t, trade_id=(t.trade_id or 0) + count, event_ms=t.event_ms + 10_000) for t in after]
    )


def figure(**values: object) -> None:
    """Print what a row counted, under its id."""
    row = re.search(r"test_((?:f\d+_)+)", os.environ.get("PYTEST_CURRENT_TEST", ""))
    name = row[1].rstrip("_").upper().replace("_", " ") if row else "row"
    print(f"{name}: " + ", ".join(f"{word.replace('_', ' ')} {value}" for word, value in values.items()))


def _text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass
class Verdict:
    missing: int
    wrong: int
    extra: int
    incomplete: int
    taught: int  # incomplete windows that were scored or learnt all the same
    lost: int
    said_twice: int
    unknown: int

    @property
    def clean(self) -> bool:
        return not (
            self.missing or self.wrong or self.extra or self.incomplete or self.taught or self.lost or self.said_twice
        )


def golden(exchange: Exchange, base: Settings) -> tuple[dict[tuple[str, int], Any], dict[str, Signal]]:
    session = Session(base, Market.SPOT, exchange.symbols)
    windows: dict[tuple[str, int], Any] = {}
    signals: dict[str, Signal] = {}

    def take(actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, StoreWindows):
                windows.update({(v.window.symbol, v.window.start_ms): v.window for v in action.verdicts})
            elif isinstance(action, EmitSignal) and action.signal.detector is Detector.TRADE_SPIKE:
                signals[f"{action.signal.symbol}:{action.signal.trade_id}"] = action.signal
            elif isinstance(action, FitModel):
                session.give_up(action.symbol, action.request)

    for symbol in exchange.symbols:
        for trade in exchange.streams[symbol]:
            take(session.trade(trade))
    return windows, signals


def judge(exchange: Exchange, table: SqliteTable, alerts: Iterable[FakeAlerts], base: Settings) -> Verdict:
    windows, signals = golden(exchange, base)
    rows = {
        (symbol, row["start_ms"]): row
        for symbol in exchange.symbols
        for row in WindowRepository(table).range("spot", symbol, 0, FAR_MS)
    }
    said = [f"{s.symbol}:{s.trade_id}" for one in alerts for s in one.signals if s.detector is Detector.TRADE_SPIKE]

    def same(row: dict[str, Any], window: Any) -> bool:
        return all(
            row[name] == getattr(window, name)
            for name in ("trade_count", "volume", "first_id", "last_id", "first_price", "last_price")
        ) and isclose(row["volatility"], window.volatility, rel_tol=1e-9)  # a shuffled start sums in another order

    verdict = Verdict(
        missing=len(windows.keys() - rows.keys()),
        wrong=sum(not same(rows[key], windows[key]) for key in windows.keys() & rows.keys() if rows[key]["complete"]),
        extra=len(rows.keys() - windows.keys()),
        incomplete=sum(not row["complete"] for row in rows.values()),
        taught=sum(not row["complete"] and row["status"] != Status.UNSCORABLE for row in rows.values()),
        lost=len(signals.keys() - set(said)),
        said_twice=len(said) - len(set(said)),
        unknown=len(set(said) - signals.keys()),
    )
    figure(windows=len(rows), **asdict(verdict))
    return verdict


def make_service(
    url: str, exchange: Exchange, table: SqliteTable, alerts: FakeAlerts, base: Settings, **more: Any
) -> StreamerService:
    return StreamerService(
        with_urls(base, url),
        exchange,  # type: ignore[arg-type]
        alerts,
        table,
        SystemClock(),
        symbols=exchange.symbols,
        **more,
    )


def finished(service: StreamerService, exchange: Exchange) -> bool:
    """Tell whether the streamer stands at the last trade of every symbol, with nothing left to do."""
    session = service.session
    if exchange.position < exchange.count or not session.states.keys() >= set(exchange.symbols):
        return False
    last = {symbol: stream[-1].trade_id for symbol, stream in exchange.streams.items()}
    return all(session.states[s].used and session.position(s)[0] == last[s] for s in exchange.symbols)


def run_on_loop(service: StreamerService, call: Callable[[], object]) -> None:
    done = threading.Event()

    def main() -> None:
        call()
        done.set()

    service._on_loop(main)
    assert done.wait(5)


def stream_through(
    exchange: Exchange,
    *,
    within_s: float = 25.0,
    base: Settings | None = None,
    during: Callable[[StreamerService, ServedFeed], None] | None = None,
    whole: bool = True,
) -> tuple[Verdict, dict[str, Any]]:
    """Let one streamer live through it; return the judgement and its last status."""
    base = base or settings(watchdog_seconds=60.0)  # the silence after the last trade is no fault
    table, alerts = SqliteTable(":memory:"), FakeAlerts()
    with ServedFeed(exchange.script) as feed:
        service = make_service(feed.url, exchange, table, alerts, base)
        service.run_in_thread()
        if during is not None:
            during(service, feed)
        if whole:
            wait_until(lambda: finished(service, exchange), within_s)
        wait_until(lambda: service.status()["queued"] == 0, 10)
        status = service.status()
        assert service.stop(15)
    return judge(exchange, table, [alerts], base), status
