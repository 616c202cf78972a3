"""What the market looked like when an alert was made: the bars of the two hours up to it. Pure values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from shared.alerts.model import Alert
from shared.market.model import Bar
from shared.times import MINUTE_MS, floor_minute_ms

MINUTES = 120
FEWEST = 10  # with fewer bars there is nothing to see


@dataclass(frozen=True, slots=True)
class SnapshotBar:
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`bars` ascend; `at_ms` and `price` are where the alert stands, `price` None where it has none of its own."""

    symbol: str
    title: str
    at_ms: int
    price: float | None
    direction: str | None
    bars: tuple[SnapshotBar, ...]


def span_of(alert: Alert) -> tuple[int, int]:
    """Return [start_ms, end_ms) of the open times that belong into an alert's picture."""
    end_ms = floor_minute_ms(alert.event_ms) + MINUTE_MS
    return end_ms - MINUTES * MINUTE_MS, end_ms


def make_snapshot(alert: Alert, bars: Sequence[Bar]) -> Snapshot | None:
    """Return the picture's data from the bars that had closed when the alert was made; None when they are too few."""
    start_ms, end_ms = span_of(alert)
    usable = [
        bar
        for bar in sorted(bars, key=lambda bar: bar.open_ms)
        if start_ms <= bar.open_ms < end_ms
        and bar.close_ms <= alert.detected_ms
        and all(isfinite(x) for x in (bar.open, bar.high, bar.low, bar.close, bar.volume))
        and bar.low > 0
    ]
    if len(usable) < FEWEST:
        return None
    price = alert.values.get("price")
    return Snapshot(
        symbol=alert.symbol,
        title=alert.title,
        at_ms=alert.event_ms,
        price=float(price) if isinstance(price, int | float) and not isinstance(price, bool) else None,
        direction=alert.direction.value if alert.direction else None,
        bars=tuple(SnapshotBar(b.open_ms, b.open, b.high, b.low, b.close, b.volume) for b in usable),
    )
