"""How lopsided the best levels of a book are, and whether that lasts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from shared.detection.reading import Detector, Direction, Signal
from shared.market.model import BookLevel, Market, OrderBook
from shared.settings import OrderBookSettings
from shared.times import iso_utc

_MOST = 1e15  # no price or quantity lies beyond


@dataclass(frozen=True, slots=True)
class OrderBookReading:
    """`obi` in [-1, 1], positive when bids outweigh asks; 0.0 with `no_data`, which is not balance.

    `levels` is how many were asked for on each side; `skipped_levels` counts unreadable ones; `reason` says why
    there is no data.
    """

    market: Market
    symbol: str
    timestamp_ms: int
    obi: float
    notional_bid: float
    notional_ask: float
    levels: int
    status: Literal["ok", "no_data"]
    skipped_levels: int = 0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the product's output object, numbers rounded to 6 decimals."""
        return {
            "timestamp": iso_utc(self.timestamp_ms),
            "symbol": self.symbol,
            "obi": round(self.obi, 6),
            "notional_bid": round(self.notional_bid, 6),
            "notional_ask": round(self.notional_ask, 6),
            "levels": self.levels,
            "status": self.status,
        }


def read_order_book(book: OrderBook, *, levels: int, timestamp_ms: int) -> OrderBookReading:
    """Weigh the best `levels` readable bids against as many asks, in exact decimals.

    A side without a readable level makes the book malformed (`no_data`), and so does a notional of zero.
    """
    bid, bids, skipped_bids = _notional(book.bids, levels)
    ask, asks, skipped_asks = _notional(book.asks, levels)
    total = bid + ask
    reason = ""
    if not bids or not asks:
        reason = "empty" if not bids and not asks else ("no bids" if not bids else "no asks")
    elif not total:
        reason = "no quantity"
    return OrderBookReading(
        market=book.market,
        symbol=book.symbol,
        timestamp_ms=timestamp_ms,
        obi=0.0 if reason else float((bid - ask) / total),
        notional_bid=float(bid),
        notional_ask=float(ask),
        levels=levels,
        status="no_data" if reason else "ok",
        skipped_levels=book.skipped_levels + skipped_bids + skipped_asks,
        reason=reason,
    )


class OrderBookRule:
    """Fire when `alert_samples` samples in a row lie at or beyond `alert_threshold` on the same side.

    It fires once; that side is armed again when |obi| falls below `alert_release` or the other side fires. A sample
    without data breaks the row. One rule serves any number of symbols.
    """

    def __init__(self, settings: OrderBookSettings) -> None:
        self.settings = settings
        self._states: dict[str, tuple[int, int, int]] = {}  # symbol: side of the row, its length, side that fired

    def step(self, reading: OrderBookReading) -> Signal | None:
        """Take the next sample of its symbol; return a signal when the rule fires."""
        key = f"{reading.market.value}|{reading.symbol}"
        side, length, fired = self._states.get(key, (0, 0, 0))
        if reading.status != "ok":
            self._states[key] = (0, 0, fired)
            return None
        size = abs(reading.obi)
        if size < self.settings.alert_release:
            fired = 0
        if size >= self.settings.alert_threshold:
            now = 1 if reading.obi > 0 else -1
            length = length + 1 if now == side else 1
            side = now
        else:
            side, length = 0, 0
        fires = side != 0 and length >= self.settings.alert_samples and fired != side
        self._states[key] = (side, length, side if fires else fired)
        return self._signal(reading, side, length) if fires else None

    def snapshot(self) -> dict[str, Any]:
        return {"version": 1, "states": {key: list(state) for key, state in self._states.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot.

        Raises:
            ValueError: the snapshot is of another version.
        """
        if state.get("version") != 1:
            raise ValueError("unknown version of an order-book snapshot")
        self._states = {key: (side, length, fired) for key, (side, length, fired) in state["states"].items()}

    def _signal(self, reading: OrderBookReading, side: int, length: int) -> Signal:
        return Signal(
            detector=Detector.ORDER_BOOK_IMBALANCE,
            market=reading.market,
            symbol=reading.symbol,
            event_ms=reading.timestamp_ms,
            known_ms=reading.timestamp_ms,
            values={**reading.to_json(), "samples": length},
            thresholds={
                "alert_threshold": self.settings.alert_threshold,
                "alert_samples": self.settings.alert_samples,
                "alert_release": self.settings.alert_release,
            },
            direction=Direction.UP if side > 0 else Direction.DOWN,
            strength=abs(reading.obi) / self.settings.alert_threshold,
        )


def _notional(side: Iterable[BookLevel], levels: int) -> tuple[Decimal, int, int]:
    """Sum price x quantity over the first `levels` readable levels; how many they were, how many were skipped."""
    total, used, skipped = Decimal(0), 0, 0
    for level in side:
        if used == levels:
            break
        if not (0.0 < level.price <= _MOST and 0.0 <= level.quantity <= _MOST):
            skipped += 1
            continue
        total += Decimal(repr(level.price)) * Decimal(repr(level.quantity))
        used += 1
    return total, used, skipped
