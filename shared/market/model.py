"""What a market is made of: symbols, trades, bars, books, windows. Frozen values without behaviour of their own."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from math import isfinite


class Market(StrEnum):
    SPOT = "spot"
    USDM = "usdm"


class Side(StrEnum):
    """The taker's side: who crossed the spread."""

    BUY = "BUY"
    SELL = "SELL"


class TradeKind(StrEnum):
    """Sizes of the two kinds are never mixed: an aggregate merges the fills of one taker order at one price."""

    TRADE = "trade"
    AGG_TRADE = "aggTrade"


UNITS_PER_COIN = 100_000_000
"""Quantities are summed in integers of 1e-8, the finest step that the exchange uses."""

_EXACT_PRODUCT_LIMIT = 2e7  # below this, round(quantity * 1e8) is exact: 2**51 / 1e8 = 2.25e7


def units(quantity: float) -> int:
    """Return a quantity in integer units of 1e-8, exactly for every decimal of at most 15 significant digits.

    The float nearest to a short decimal identifies that decimal, so the integer can be recovered; sums of
    such integers never drift.

    Raises:
        ValueError: quantity is not finite.
    """
    if not isfinite(quantity):
        raise ValueError("quantity is not finite")
    if -_EXACT_PRODUCT_LIMIT < quantity < _EXACT_PRODUCT_LIMIT:
        return round(quantity * UNITS_PER_COIN)
    return int((Decimal(repr(quantity)) * UNITS_PER_COIN).to_integral_value())


@dataclass(frozen=True, slots=True)
class Trade:
    """One execution, or one aggregate of a taker order's fills at one price.

    `event_ms` is the trade's own time (`T` on the wire), `recv_ms` when we learnt it; `trade_id` is `t` or `a`,
    None where a recording carries none.
    """

    market: Market
    symbol: str
    kind: TradeKind
    trade_id: int | None
    price: float
    quantity: float
    side: Side
    event_ms: int
    recv_ms: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One 1-minute kline, named by its open time. Volumes are base-asset unless the name says quote.

    `taker_buy_volume` is None where a source lacks it (never 0 in its place).
    """

    market: Market
    symbol: str
    open_ms: int
    close_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None = None
    trades: int | None = None
    taker_buy_volume: float | None = None


@dataclass(frozen=True, slots=True)
class BookLevel:
    price: float
    quantity: float


@dataclass(frozen=True, slots=True)
class OrderBook:
    """The best levels of a book, best first. `event_ms` is None on spot, whose depth carries no time."""

    market: Market
    symbol: str
    last_update_id: int
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    event_ms: int | None = None
    recv_ms: int = 0
    skipped_levels: int = 0  # levels whose price or quantity could not be read


@dataclass(frozen=True, slots=True)
class Window:
    """A closed window of trades: [start_ms, end_ms), aligned to the epoch by the trades' own times.

    `volatility` is the sample standard deviation of the prices, 0 for one trade; `return_` is last / first - 1.
    `complete` is False when trades are known to be missing from it.
    """

    market: Market
    symbol: str
    start_ms: int
    end_ms: int
    trade_count: int
    volume: float
    avg_trade_size: float
    return_: float
    volatility: float
    first_price: float
    last_price: float
    first_id: int | None = None
    last_id: int | None = None
    complete: bool = True
    late_trades: int = 0
