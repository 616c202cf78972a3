"""What the jobs need to ask an exchange: implemented over REST, faked in tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shared.market.model import Bar, Market, OrderBook, Trade


@dataclass(frozen=True, slots=True)
class Listing:
    """One instrument as the exchange lists it. `tags` are the exchange's own sector words (USD-M only)."""

    market: Market
    symbol: str
    base: str
    quote: str
    status: str
    contract_type: str | None = None  # USD-M: PERPETUAL, TRADIFI_PERPETUAL, CURRENT_QUARTER, ...
    tags: tuple[str, ...] = ()
    onboard_ms: int | None = None


@dataclass(frozen=True, slots=True)
class OpenInterest:
    """Open contracts (base asset, not value) at the exchange's own `event_ms`."""

    symbol: str
    contracts: float
    event_ms: int


@dataclass(frozen=True, slots=True)
class Funding:
    """The latest funding rate (per interval, 0.0001 = 0.01 %) and when the next one is due."""

    symbol: str
    rate: float
    event_ms: int
    next_ms: int | None = None
    mark_price: float | None = None


class MarketData(Protocol):
    """Every method may raise the ExchangeError tree; each waits for the weight budget by itself."""

    def server_time_ms(self, market: Market) -> int: ...

    def listings(self, market: Market) -> list[Listing]: ...

    def klines(
        self,
        market: Market,
        symbol: str,
        *,
        limit: int,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> list[Bar]:
        """Return 1-minute bars in ascending order, the running bar included when the exchange sends it."""
        ...

    def depth(self, market: Market, symbol: str, *, levels: int) -> OrderBook:
        """Return at least `levels` per side where the book has them, asked with the smallest allowed limit."""
        ...

    def agg_trades(self, market: Market, symbol: str, *, from_id: int, limit: int = 1000) -> list[Trade]: ...

    def historical_trades(self, market: Market, symbol: str, *, from_id: int | None, limit: int = 1000) -> list[Trade]:
        """Return single trades from an id on (None: the newest); not served by the market-data-only host."""
        ...

    def open_interest(self, symbol: str) -> OpenInterest: ...

    def open_interest_history(self, symbol: str, *, limit: int = 30) -> list[OpenInterest]:
        """Return the 5-minute history, ascending."""
        ...

    def funding_all(self) -> dict[str, Funding]:
        """Return the latest funding of every USD-M symbol in one call (premiumIndex)."""
        ...

    def funding_hours(self) -> dict[str, float]:
        """Return the hours of a funding interval of the symbols whose interval is not 8 h (fundingInfo)."""
        ...
