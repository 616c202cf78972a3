"""The futures' forced orders, summed by symbol and minute: one of the sector detector's confirmations.

The stream is a throttled sample (one order per symbol and second) without ids, so what was missed stays unknown: a
minute is stored only when the connection stood for all of it, and then also when nobody was liquidated in it. While a
connection is renewed two of them bring the same orders: each counts once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from shared.clock import MINUTE_MS
from shared.exchange.binance.events import Liquidation, MarkPrice
from shared.exchange.binance.stream import StreamParser
from shared.market.model import Market

STREAM = "!forceOrder@arr"
PULSE = "btcusdt@markPrice@1s"
"""Comes every second on the same path: liquidations may be silent for minutes, and silence alone proves nothing."""
DEAF_MS = 5_000
_LATE_MS = 2_000  # how long a minute waits for its last orders

Rows = dict[str, dict[str, float]]


class LiquidationSums:
    """Pure. `store` gets each minute that was covered, once it is over."""

    def __init__(self, store: Callable[[int, Rows], None]) -> None:
        self._store = store
        self._parser = StreamParser(Market.USDM)
        self._sums: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._seen: dict[int, set[Liquidation]] = defaultdict(set)  # the orders of the minutes still open
        self._covered_from_ms: int | None = None  # the connection has stood since then, by the exchange's clock
        self._done_ms = 0  # everything before this minute is stored or given up
        self.heard_ms = 0  # exchange time of the newest message
        self.orders = 0
        self.minutes = 0

    def broken(self) -> None:
        """The connection ended: the running minute is not covered any more."""
        self._covered_from_ms = None

    def receive_many(self, batch: Sequence[bytes], recv_ms: int) -> None:
        """Take messages of the futures' market path; COIN-M orders, whose sizes are contracts, are left out."""
        for data in batch:
            for event in self._parser.receive(data, recv_ms):
                if isinstance(event, Liquidation):
                    self._heard(event.event_ms)
                    minute_ms = event.event_ms - event.event_ms % MINUTE_MS
                    if minute_ms >= self._done_ms and event not in self._seen[minute_ms]:
                        self._seen[minute_ms].add(event)
                        self.orders += 1
                        self._sums[minute_ms][event.symbol] += event.notional
                elif isinstance(event, MarkPrice):
                    self._heard(event.event_ms)

    def _heard(self, event_ms: int) -> None:
        if self._covered_from_ms is None or event_ms - self.heard_ms > DEAF_MS:
            self._covered_from_ms = max(event_ms, self._covered_from_ms or 0)
        self.heard_ms = max(self.heard_ms, event_ms)
        over_ms = (self.heard_ms - _LATE_MS) // MINUTE_MS * MINUTE_MS
        if self._done_ms == 0:
            self._done_ms = over_ms
        first_ms = max(self._done_ms, -(-self._covered_from_ms // MINUTE_MS) * MINUTE_MS)
        for minute_ms in range(first_ms, over_ms, MINUTE_MS):
            sums = self._sums.pop(minute_ms, {})
            self._seen.pop(minute_ms, None)
            self.minutes += 1
            self._store(minute_ms, {symbol: {"notional": notional} for symbol, notional in sums.items()})
        self._done_ms = max(self._done_ms, over_ms)
        for minute_ms in [at for at in self._sums if at < self._done_ms]:
            del self._sums[minute_ms], self._seen[minute_ms]
