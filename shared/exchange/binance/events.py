"""What a stream can tell: facts for the detectors, and holes or nonsense for the shell to act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from shared.market.model import Bar, BookLevel, Market, OrderBook, Side, Trade, TradeKind


@dataclass(frozen=True, slots=True)
class BarUpdate:
    """A 1-minute bar as it stands; only `closed` ones may decide anything."""

    bar: Bar
    closed: bool


@dataclass(frozen=True, slots=True)
class DepthDiff:
    """Changed levels of a book; quantity 0 removes one. `prev_id` is None on spot, which chains by `first_id`."""

    symbol: str
    first_id: int
    last_id: int
    prev_id: int | None
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    event_ms: int


@dataclass(frozen=True, slots=True)
class BookSnapshot:
    """The best levels as a whole: a partial-depth stream, or a REST body stored inline by a recorder."""

    book: OrderBook


@dataclass(frozen=True, slots=True)
class MarkPrice:
    """`funding_rate` (per interval) and `next_funding_ms` are None for contracts without funding."""

    symbol: str
    price: float
    funding_rate: float | None
    next_funding_ms: int | None
    event_ms: int


@dataclass(frozen=True, slots=True)
class Liquidation:
    """A forced order: SELL closes longs. A throttled sample (one per symbol and second), so a lower bound.

    `quantity` is what was filled (`z`), `price` the average fill (`ap`), `notional` their product.
    """

    symbol: str
    side: Side
    price: float
    quantity: float
    notional: float
    event_ms: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Ids first_id..last_id (inclusive) have not arrived; stands before the event that revealed it."""

    market: Market
    symbol: str
    kind: TradeKind
    first_id: int
    last_id: int

    @property
    def size(self) -> int:
        return self.last_id - self.first_id + 1


@dataclass(frozen=True, slots=True)
class Repeat:
    """An id that was delivered before; nothing else is made of the message."""

    symbol: str
    kind: str
    id: int


@dataclass(frozen=True, slots=True)
class DepthGap:
    """The chain of depth updates broke: take a new snapshot. `expected` is the id that should have come."""

    symbol: str
    expected: int
    got: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """The exchange began to number anew; ids before and after do not compare.

    With `back_to` it did not: `old_id` was a stray far ahead, and the stream goes on behind `back_to`. `recovered` ids
    that had been given up on the stray's account are open again, or were never sent.
    """

    symbol: str
    kind: str
    old_id: int
    new_id: int
    back_to: int | None = None
    recovered: int = 0


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that could not be understood; `text` is its first 200 characters."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """A message with a usable id and an unusable value: the id counts as seen, the value goes nowhere."""

    reason: str
    symbol: str
    kind: str
    id: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that is fine and not for us: an unknown event, another product, a ticker."""

    kind: str


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to a command. `error` None only says that it was understood, not that a stream exists."""

    id: int | str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ServerShutdown:
    """This connection will be closed soon: open the next one now."""


StreamEvent: TypeAlias = (
    Trade
    | BarUpdate
    | DepthDiff
    | BookSnapshot
    | MarkPrice
    | Liquidation
    | Gap
    | Repeat
    | DepthGap
    | Epoch
    | Malformed
    | SetAside
    | Ignored
    | Ack
    | ServerShutdown
)
