"""Stand-ins with real behaviour: a market that answers like the exchange, a world for jobs, a Lambda context."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shared.alerts.model import Alert
from shared.alerts.service import AlertService
from shared.clock import MINUTE_MS, Clock, ManualClock, floor_minute_ms
from shared.errors import UnknownSymbol
from shared.exchange.market_data import Funding, Listing, OpenInterest
from shared.jobs.deps import Dependencies
from shared.market.model import Bar, BookLevel, Market, OrderBook, Trade
from shared.settings import Settings
from shared.storage.sqlite import SqliteTable

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z, where the tests' time begins."""


def make_bar(
    symbol: str,
    open_ms: int,
    *,
    market: Market = Market.USDM,
    close: float = 100.0,
    volume: float = 10.0,
    taker_share: float | None = 0.5,
) -> Bar:
    """One 1-minute bar that closes at `close`."""
    return Bar(
        market=market,
        symbol=symbol,
        open_ms=open_ms,
        close_ms=open_ms + MINUTE_MS - 1,
        open=close,
        high=close,
        low=close,
        close=close,
        volume=volume,
        quote_volume=volume * close,
        trades=10,
        taker_buy_volume=None if taker_share is None else volume * taker_share,
    )


def wavy(symbol: str, minute: int) -> tuple[float, float]:
    """Return (close, volume) of a quiet market: never constant, the same every time, different for each symbol."""
    seed = sum(map(ord, symbol))
    wave = math.sin(minute * 0.37 + seed) + 0.5 * math.sin(minute * 1.93 + 2 * seed) + 0.3 * math.cos(minute * 5.1)
    return 100.0 + 0.05 * wave, 10.0 + 2.0 * math.sin(minute * 2.11 + seed) + 1.5 * math.cos(minute * 0.71)


@dataclass
class FakeMarketData:
    """Answers from its own bars as Binance does: `end_ms` inclusive by open time, the running bar included.

    `errors` raises for a symbol, or for a method by its name (`klines`, `server_time_ms`, ...); an entry may be a
    callable that raises or not. `calls` counts by method, `asked` keeps (method, symbol, limit).
    """

    clock: Clock
    bars: dict[tuple[Market, str], dict[int, Bar]] = field(default_factory=dict)
    books: dict[str, OrderBook] = field(default_factory=dict)
    errors: dict[str, Exception | Callable[[], None]] = field(default_factory=dict)
    interest: dict[str, list[OpenInterest]] = field(default_factory=dict)
    funding: dict[str, Funding] = field(default_factory=dict)
    intervals: dict[str, float] = field(default_factory=dict)
    listed: list[Listing] = field(default_factory=list)
    offset_ms: int = 0  # the exchange's clock against ours
    calls: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # --- filling it --------------------------------------------------------------------------------------
    def put(self, bar: Bar) -> None:
        self.bars.setdefault((bar.market, bar.symbol), {})[bar.open_ms] = bar

    def fill(self, market: Market, symbol: str, start_ms: int, end_ms: int) -> None:
        """Make quiet bars of [start_ms, end_ms)."""
        for open_ms in range(start_ms, end_ms, MINUTE_MS):
            close, volume = wavy(symbol, open_ms // MINUTE_MS)
            self.put(make_bar(symbol, open_ms, market=market, close=close, volume=volume))

    def change(self, market: Market, symbol: str, open_ms: int, **values: Any) -> None:
        bar = self.bars[market, symbol][open_ms]
        self.put(replace(bar, **values))

    def book(self, symbol: str, bid: float, ask: float) -> None:
        """Set a book with this much quantity on each side."""
        bids, asks = (BookLevel(100.0, bid),), (BookLevel(100.0, ask),)
        self.books[symbol] = OrderBook(Market.SPOT, symbol, 1, bids if bid else (), asks if ask else ())

    # --- answering ---------------------------------------------------------------------------------------
    def _ask(self, method: str, symbol: str = "", limit: int = 0) -> None:
        with self._lock:
            self.calls[method] += 1
            self.asked.append((method, symbol, limit))
        for name in (symbol, method, f"{method}:{symbol}"):
            error = self.errors.get(name)
            if isinstance(error, Exception):
                raise error
            if error is not None:
                error()

    def server_time_ms(self, market: Market) -> int:
        self._ask("server_time_ms", market.value)
        return self.clock.now_ms() + self.offset_ms

    def listings(self, market: Market) -> list[Listing]:
        self._ask("listings", market.value)
        return [listing for listing in self.listed if listing.market is market]

    def klines(
        self, market: Market, symbol: str, *, limit: int, start_ms: int | None = None, end_ms: int | None = None
    ) -> list[Bar]:
        self._ask("klines", symbol, limit)
        self._ask(f"klines:{market.value}", symbol, limit)
        if (market, symbol) not in self.bars:
            raise UnknownSymbol("Invalid symbol.", status=400, api_code=-1121)
        now_ms = self.clock.now_ms() + self.offset_ms
        low = start_ms or 0
        high = now_ms if end_ms is None else min(end_ms, now_ms)
        rows = [bar for at_ms, bar in sorted(self.bars[market, symbol].items()) if low <= at_ms <= high]
        return rows[:limit] if start_ms is not None else rows[-limit:]

    def depth(self, market: Market, symbol: str, *, levels: int) -> OrderBook:
        self._ask("depth", symbol, levels)
        if symbol not in self.books:
            raise UnknownSymbol("Invalid symbol.", status=400, api_code=-1121)
        return self.books[symbol]

    def agg_trades(self, market: Market, symbol: str, *, from_id: int, limit: int = 1000) -> list[Trade]:
        self._ask("agg_trades", symbol, limit)
        return []

    def historical_trades(self, market: Market, symbol: str, *, from_id: int | None, limit: int = 1000) -> list[Trade]:
        self._ask("historical_trades", symbol, limit)
        return []

    def open_interest(self, symbol: str) -> OpenInterest:
        self._ask("open_interest", symbol)
        if symbol not in self.interest:
            raise UnknownSymbol("Invalid symbol.", status=400, api_code=-1121)
        return self.interest[symbol][-1]

    def open_interest_history(self, symbol: str, *, limit: int = 30) -> list[OpenInterest]:
        self._ask("open_interest_history", symbol, limit)
        return self.interest.get(symbol, [])[-limit:]

    def funding_all(self) -> dict[str, Funding]:
        self._ask("funding_all")
        return dict(self.funding)

    def funding_hours(self) -> dict[str, float]:
        self._ask("funding_hours")
        return dict(self.intervals)


@dataclass
class RecordingChannel:
    """A channel that keeps what it was sent."""

    name: str = "recording"
    sent: list[Alert] = field(default_factory=list)

    def send(self, alert: Alert) -> None:
        self.sent.append(alert)


@dataclass
class FakeWorld:
    """Everything that jobs stand on, in memory: `deps` for one process, `another()` for a second one on its state."""

    settings: Settings = field(default_factory=Settings)
    clock: ManualClock = field(default_factory=lambda: ManualClock(START_MS))
    table: SqliteTable = field(default_factory=lambda: SqliteTable(":memory:"))
    channel: RecordingChannel = field(default_factory=RecordingChannel)
    emitted: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    market: FakeMarketData = field(init=False)
    deps: Dependencies = field(init=False)

    def __post_init__(self) -> None:
        self.market = FakeMarketData(self.clock)
        self.deps = self.another()

    def another(self) -> Dependencies:
        """Return dependencies of a process with nothing warm, on the same state and market."""
        return Dependencies(
            settings=self.settings,
            market_data=self.market,
            table=self.table,
            alerts=AlertService.on_table(self.table, [self.channel], self.settings, self.clock),
            clock=self.clock,
            emit=lambda detail_type, detail: self.emitted.append((detail_type, dict(detail))),
        )

    def at(self, now_ms: int) -> int:
        """Move the clock and return the minute that has just closed then."""
        self.clock.set(now_ms)
        return floor_minute_ms(now_ms) - MINUTE_MS


class FakeContext:
    """The fields of a Lambda context that the handlers and powertools read."""

    function_name = "tapewatch-test"
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:tapewatch-test"
    aws_request_id = "52fdfc07-2182-454f-963f-5f0f9a621d72"

    def __init__(self, remaining_ms: int = 50_000) -> None:
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining_ms
