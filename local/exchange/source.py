"""What the local exchange needs from a market, simulated or recorded: values ready for the wire.

Prices and quantities are text, as the exchange prints them; times are epoch milliseconds. `now_ms` is always handed in:
a source shows nothing that lies after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.market.model import Market


@dataclass(frozen=True, slots=True)
class Instrument:
    """One listed symbol; `tags` are the exchange's sector words (USD-M only)."""

    market: Market
    symbol: str
    base: str
    quote: str
    tick_decimals: int
    step_decimals: int
    tags: tuple[str, ...] = ()
    onboard_ms: int = 1_569_398_400_000


@dataclass(frozen=True, slots=True)
class Candle:
    """One kline, running or closed. `first_id` is -1 in a minute without trades."""

    open_ms: int
    close_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    trades: int
    taker_volume: str
    taker_quote_volume: str
    first_id: int = -1
    last_id: int = -1


@dataclass(frozen=True, slots=True)
class Print:
    """One execution, or one aggregate (then `first_id` and `last_id` name the trades in it)."""

    id: int
    price: str
    quantity: str
    quote: str
    time_ms: int
    buyer_is_maker: bool
    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """The best levels of a book, best first, as (price, quantity)."""

    update_id: int
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    event_ms: int


@dataclass(frozen=True, slots=True)
class Mark:
    price: str
    index: str
    rate: str
    next_ms: int


@dataclass(frozen=True, slots=True)
class Forced:
    """One liquidation order. `side` SELL closes longs."""

    symbol: str
    side: str
    price: str
    quantity: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Played:
    """One recorded message: when it came, on which stream, and its bytes.

    `wrapped` is the combined form exactly as recorded; `data` is the inner message, which raw connections get.
    """

    at_ms: int
    market: Market
    stream: str
    data: bytes
    wrapped: bytes | None = None


class MarketSource(Protocol):
    """A market to serve. None or an empty answer means that it has nothing of that kind."""

    def instruments(self, market: Market) -> Sequence[Instrument]: ...

    def candles(
        self, market: Market, symbol: str, *, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
    ) -> list[Candle]:
        """Return 1-minute candles whose open time lies in [start_ms, end_ms], ascending, the running one last.

        With a start: the oldest `limit` from it; else the newest `limit` up to the end.
        """
        ...

    def prints(
        self,
        market: Market,
        symbol: str,
        *,
        aggregate: bool,
        from_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int,
        now_ms: int,
    ) -> list[Print]:
        """Return trades (or aggregates), ascending; from an id, in a time range, or the newest."""
        ...

    def ladder(self, market: Market, symbol: str, *, levels: int, now_ms: int) -> Ladder | None: ...

    def open_interest(self, symbol: str, at_ms: int) -> str | None:
        """Return the open contracts (base asset) of a USD-M symbol."""
        ...

    def mark(self, symbol: str, at_ms: int) -> Mark | None: ...

    def liquidations(self, *, after_ms: int, upto_ms: int) -> list[Forced]:
        """Return every symbol's liquidations in (after_ms, upto_ms], ascending."""
        ...

    def playback(self) -> Iterator[Played] | None:
        """Return the recorded messages in order; None where streams are made from the methods above."""
        ...
