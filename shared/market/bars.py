"""Which bars are closed, which are usable, and bars out of trades."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import fields

from shared.market.model import UNITS_PER_COIN, Bar, Market, Side, Trade, units
from shared.times import MINUTE_MS, floor_minute_ms

_MOST = 1e15


def is_closed(bar: Bar, exchange_now_ms: int) -> bool:
    """Return whether the bar's close time lies before the exchange's own clock."""
    return bar.close_ms < exchange_now_ms


def closed_bars(bars: Iterable[Bar], exchange_now_ms: int) -> list[Bar]:
    """Return the closed ones, in the order given."""
    return [bar for bar in bars if bar.close_ms < exchange_now_ms]


def normalize_bars(bars: Iterable[Bar]) -> tuple[list[Bar], int]:
    """Return the bars ascending and unique by open time, and how many repeats were dropped; the last one given wins."""
    by_open: dict[int, Bar] = {}
    came = 0
    for bar in bars:
        by_open[bar.open_ms] = bar
        came += 1
    return [by_open[open_ms] for open_ms in sorted(by_open)], came - len(by_open)


def make_bars(*columns: Iterable[object]) -> list[Bar]:
    """Return bars from one column per field, in the order of the fields; the second column sets how many.

    Half a million at a time are read at a start. A frozen dataclass sets each field by a call from Python; filling
    the slots column by column does the same from C in a third of the time.
    """
    made = [object.__new__(Bar) for _ in columns[1]]
    for fill, column in zip(_SLOTS, columns, strict=True):
        deque(map(fill, made, column), maxlen=0)
    return made


_SLOTS = [getattr(Bar, field.name).__set__ for field in fields(Bar)]


class BarBuilder:
    """Build one symbol's 1-minute bars from trades fed in order of arrival.

    A bar is returned when a trade of a later minute arrives, or by `flush`. As on the exchange, a minute without
    trades between two others is a bar of its own: volume zero, all four prices the last close. Trades of minutes
    already returned are counted in `late_trades`, those without a usable price or quantity in `refused`.
    """

    def __init__(self, market: Market, symbol: str) -> None:
        self.market = market
        self.symbol = symbol
        self.late_trades = 0
        self.refused = 0
        self._open_ms: int | None = None
        self._prices = (0.0, 0.0, 0.0, 0.0)  # open, high, low, close
        self._units = self._taker_units = self._count = 0
        self._quote = 0.0

    def add(self, trade: Trade) -> list[Bar]:
        """Take one trade; return the bars that its minute closes, oldest first."""
        if not (0.0 < trade.price <= _MOST and 0.0 < trade.quantity <= _MOST):
            self.refused += 1
            return []
        minute = floor_minute_ms(trade.event_ms)
        if self._open_ms is not None and minute < self._open_ms:
            self.late_trades += 1
            return []
        closed = self._advance(minute)
        price, amount = trade.price, units(trade.quantity)
        if self._count == 0:
            self._prices = (price, price, price, price)
        else:
            first, high, low, _ = self._prices
            self._prices = (first, max(high, price), min(low, price), price)
        self._units += amount
        self._taker_units += amount if trade.side is Side.BUY else 0
        self._quote += price * trade.quantity
        self._count += 1
        return closed

    def flush(self, now_exchange_ms: int | None) -> list[Bar]:
        """Return every bar that has closed by the exchange's time; None closes the running one as well."""
        if self._open_ms is None:
            return []
        return self._advance(self._open_ms + MINUTE_MS if now_exchange_ms is None else floor_minute_ms(now_exchange_ms))

    def running(self) -> Bar | None:
        """Return the running bar as it stands."""
        return None if self._open_ms is None else self._bar(self._open_ms)

    def _advance(self, minute: int) -> list[Bar]:
        closed: list[Bar] = []
        if self._open_ms is None:
            self._open_ms = minute
        while self._open_ms < minute:
            closed.append(self._bar(self._open_ms))
            self._open_ms += MINUTE_MS
            close = self._prices[3]
            self._prices = (close, close, close, close)
            self._units = self._taker_units = self._count = 0
            self._quote = 0.0
        return closed

    def _bar(self, open_ms: int) -> Bar:
        first, high, low, last = self._prices
        return Bar(
            market=self.market,
            symbol=self.symbol,
            open_ms=open_ms,
            close_ms=open_ms + MINUTE_MS - 1,
            open=first,
            high=high,
            low=low,
            close=last,
            volume=self._units / UNITS_PER_COIN,
            quote_volume=self._quote,
            trades=self._count,
            taker_buy_volume=self._taker_units / UNITS_PER_COIN,
        )
