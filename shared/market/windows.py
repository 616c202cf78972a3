"""Trades into fixed windows, aligned to the epoch by the trades' own times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from shared.market.model import UNITS_PER_COIN, Market, Trade, Window, units

_LEAST, _MOST = 1e-12, 1e15  # no price or quantity of the exchange lies outside; beyond it squares would overflow
_EXACT_BELOW = 2e7  # where rounding quantity x 1e8 is exact (see model.units)
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """`window_ms` is the length; `lateness_ms` is how long a window waits for stragglers after its end."""

    window_ms: int = 20_000
    lateness_ms: int = 2_000

    def __post_init__(self) -> None:
        if self.window_ms <= 0 or self.lateness_ms < 0:
            raise ValueError("window_ms must be positive and lateness_ms not negative")


class _Open:
    """A window that still takes trades. Price sums are kept relative to `base`, which is one of the prices, so the
    variance of a hundred thousand prices loses no digits to their common height."""

    __slots__ = (
        "base", "count", "end", "first_id", "first_ms", "first_price", "last_id", "last_ms", "last_price",
        "squares", "start", "sum", "units",
    )  # fmt: skip

    def __init__(self, start: int, end: int, trade: Trade) -> None:
        self.start = start
        self.end = end
        self.count = 0
        self.units = 0
        self.base = self.first_price = self.last_price = trade.price
        self.first_ms = self.last_ms = trade.event_ms
        self.first_id = self.last_id = trade.trade_id
        self.sum = 0.0
        self.squares = 0.0


class WindowAggregator:
    """Aggregate one symbol's trades, fed in order of arrival.

    A window [start, end) closes when the newest trade time reaches end + lateness. Until then several windows are
    open at once and trades may arrive out of order; a trade for a closed window is counted in `late_trades` and
    nowhere else. Volume is summed in integers of 1e-8. Windows without trades are counted in `empty_windows`.
    Trades without a usable price or quantity are counted in `refused`.
    """

    def __init__(self, market: Market, symbol: str, config: WindowConfig | None = None) -> None:
        self.market = market
        self.symbol = symbol
        self.config = config or WindowConfig()
        self.late_trades = 0
        self.refused = 0
        self.empty_windows = 0
        self._closed_trades = 0
        self._windows: dict[int, _Open] = {}
        self._newest: _Open | None = None  # the open window with the latest start: nearly every trade's
        self._horizon = -_NEVER  # everything that ends at or before horizon - lateness is closed
        self._close_at = _NEVER  # the horizon at which the oldest open window closes
        self._last_closed: int | None = None
        self._late_unreported = 0
        self._incomplete: list[tuple[int, int]] = []

    @property
    def trades(self) -> int:
        """The trades that are in a window, closed or open."""
        return self._closed_trades + sum(window.count for window in self._windows.values())

    @property
    def newest_closed_ms(self) -> int:
        """The start of the newest closed window; -1 before the first."""
        return -1 if self._last_closed is None else self._last_closed

    def add(self, trade: Trade) -> list[Window]:
        """Take one trade; return the windows that its time closes, oldest first."""
        price, quantity, event_ms = trade.price, trade.quantity, trade.event_ms
        if not (_LEAST <= price <= _MOST and 0.0 < quantity <= _MOST):
            self.refused += 1
            return []
        closed: list[Window] = []
        if event_ms > self._horizon:
            self._horizon = event_ms
            if event_ms >= self._close_at:
                closed = self._close()
        window = self._newest
        if window is None or not window.start <= event_ms < window.end:
            window = self._window_of(trade)
            if window is None:
                return closed
        window.count += 1
        window.units += round(quantity * 1e8) if quantity < _EXACT_BELOW else units(quantity)
        away = price - window.base
        window.sum += away
        window.squares += away * away
        trade_id, last_id = trade.trade_id, window.last_id
        if trade_id is None or last_id is None:
            newer, older = event_ms >= window.last_ms, event_ms < window.first_ms
        else:
            newer = trade_id > last_id
            older = not newer and trade_id < (window.first_id or 0)
        if newer:
            window.last_price, window.last_ms, window.last_id = price, event_ms, trade_id
        if older:
            window.first_price, window.first_ms, window.first_id = price, event_ms, trade_id
        return closed

    def flush(self, now_exchange_ms: int | None) -> list[Window]:
        """Close every window whose end + lateness is at or before the exchange's time; None closes all of them."""
        if now_exchange_ms is None:
            ends = [window.end for window in self._windows.values()]
            now_exchange_ms = max(ends) + self.config.lateness_ms if ends else self._horizon
        self._horizon = max(self._horizon, now_exchange_ms)
        return self._close() if self._horizon >= self._close_at else []

    def due(self, now_exchange_ms: int) -> list[Window]:
        """Return the windows that `flush` would close then, as they stand; nothing changes."""
        limit = now_exchange_ms - self.config.lateness_ms
        return [self._made(window, 0) for _, window in sorted(self._windows.items()) if window.end <= limit]

    def mark_incomplete(self, from_ms: int, to_ms: int) -> None:
        """Note that trades are missing between two times, both included; windows they touch say `complete=False`."""
        self._incomplete.append((from_ms, to_ms))

    def mark_filled(self, from_ms: int, to_ms: int) -> None:
        """Take back `mark_incomplete(from_ms, to_ms)`: the missing trades have arrived."""
        if (from_ms, to_ms) in self._incomplete:
            self._incomplete.remove((from_ms, to_ms))

    def snapshot(self) -> dict[str, Any]:
        """Return the open windows and counters, ready for JSON or msgpack."""
        return {
            "version": 1,
            "window_ms": self.config.window_ms,
            "counters": [
                self._closed_trades,
                self.late_trades,
                self.refused,
                self.empty_windows,
                self._late_unreported,
            ],
            "horizon": self._horizon,
            "last_closed": self._last_closed,
            "incomplete": [list(span) for span in self._incomplete],
            "windows": [_pack(window) for window in self._windows.values()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot of an aggregator with the same window length.

        Raises:
            ValueError: the snapshot is of another version or window length.
        """
        if state.get("version") != 1 or state.get("window_ms") != self.config.window_ms:
            raise ValueError("the window snapshot does not fit this configuration")
        counters = state["counters"]
        self._closed_trades, self.late_trades, self.refused, self.empty_windows, self._late_unreported = counters
        self._horizon = state["horizon"]
        self._last_closed = state["last_closed"]
        self._incomplete = [(span[0], span[1]) for span in state["incomplete"]]
        self._windows = {window.start: window for window in map(_unpack, state["windows"])}
        self._settle()

    def _window_of(self, trade: Trade) -> _Open | None:
        """Find or open the window of a trade outside the newest one; None for a straggler."""
        start = trade.event_ms - trade.event_ms % self.config.window_ms
        end = start + self.config.window_ms
        if end + self.config.lateness_ms <= self._horizon:
            self.late_trades += 1
            self._late_unreported += 1
            return None
        window = self._windows.get(start)
        if window is None:
            window = self._windows[start] = _Open(start, end, trade)
            self._settle()
        return window

    def _settle(self) -> None:
        self._newest = self._windows[max(self._windows)] if self._windows else None
        self._close_at = (
            min(self._windows) + self.config.window_ms + self.config.lateness_ms if self._windows else _NEVER
        )

    def _close(self) -> list[Window]:
        limit = self._horizon - self.config.lateness_ms
        due = sorted(start for start, window in self._windows.items() if window.end <= limit)
        closed = [self._finish(self._windows.pop(start)) for start in due]
        self._settle()
        self._incomplete = [span for span in self._incomplete if span[1] >= limit - self.config.window_ms]
        return closed

    def _finish(self, window: _Open) -> Window:
        if self._last_closed is not None:
            self.empty_windows += (window.start - self._last_closed) // self.config.window_ms - 1
        self._last_closed = window.start
        self._closed_trades += window.count
        late, self._late_unreported = self._late_unreported, 0
        return self._made(window, late)

    def _made(self, window: _Open, late: int) -> Window:
        count = window.count
        spread = window.squares - window.sum * window.sum / count
        return Window(
            market=self.market,
            symbol=self.symbol,
            start_ms=window.start,
            end_ms=window.end,
            trade_count=count,
            volume=window.units / UNITS_PER_COIN,
            avg_trade_size=window.units / (UNITS_PER_COIN * count),
            return_=window.last_price / window.first_price - 1.0,
            volatility=sqrt(spread / (count - 1)) if count > 1 and spread > 0 else 0.0,
            first_price=window.first_price,
            last_price=window.last_price,
            first_id=window.first_id,
            last_id=window.last_id,
            complete=not any(a < window.end and b >= window.start for a, b in self._incomplete),
            late_trades=late,
        )


def _pack(window: _Open) -> list[Any]:
    values = [getattr(window, name) for name in _Open.__slots__]
    return [str(value) if name == "units" else value for name, value in zip(_Open.__slots__, values, strict=True)]


def _unpack(packed: list[Any]) -> _Open:
    window = _Open.__new__(_Open)
    for name, value in zip(_Open.__slots__, packed, strict=True):
        setattr(window, name, int(value) if name == "units" else value)
    return window
