"""What the one-shot commands share: an exchange to ask, and a symbol as people type it."""

from __future__ import annotations

from shared.exchange.binance.rest import binance_market_data

from shared.clock import SystemClock
from shared.errors import ExchangeUnavailable, UsageError
from shared.exchange.market_data import MarketData
from shared.market.model import Market
from shared.market.universe import normalize_symbol
from shared.settings import Settings


def exchange_for(settings: Settings) -> MarketData:
    """Return the configured exchange, without a state file: a one-shot command owns none."""
    return binance_market_data(settings.exchange, SystemClock(), None)


def find_symbol(market_data: MarketData, text: str, settings: Settings) -> str:
    """Turn what was typed into a listed spot pair: `btc` becomes BTCUSDT, a listed pair stays.

    Raises:
        UsageError: the text is no symbol at all.
        ExchangeUnavailable: the exchange cannot be reached; one sentence that points to the demo.
    """
    try:
        listed = {listing.symbol for listing in market_data.listings(Market.SPOT)}
    except ExchangeUnavailable:
        raise ExchangeUnavailable(
            f"no answer from {settings.exchange.spot_rest_url}: check the network, or try `tapewatch demo`, "
            "which needs none"
        ) from None
    try:
        return normalize_symbol(text, listed)
    except ValueError as exc:
        raise UsageError(f"--symbol: {exc}") from None
