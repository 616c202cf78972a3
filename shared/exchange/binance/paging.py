"""Fetch a long stretch of bars in pages of the cheapest size."""

from __future__ import annotations

from collections.abc import Iterator

from shared.exchange.binance.endpoints import KLINES_PAGE
from shared.exchange.market_data import MarketData
from shared.market.model import Bar, Market

_MINUTE_MS = 60_000


def iter_klines(
    market_data: MarketData,
    market: Market,
    symbol: str,
    start_ms: int,
    end_ms: int,
    page_limit: int | None = None,
) -> Iterator[list[Bar]]:
    """Yield pages of bars with start_ms <= open_ms < end_ms, ascending, no bar twice.

    A page may be short where the exchange has holes; the end is reached at end_ms or at an empty page. Stopping
    after any page and going on from its last bar + 1 minute gives the same bars as one run.
    """
    most = page_limit or KLINES_PAGE[market]
    cursor = -(-start_ms // _MINUTE_MS) * _MINUTE_MS
    while cursor < end_ms:
        limit = min(most, -(-(end_ms - cursor) // _MINUTE_MS))
        answer = market_data.klines(market, symbol, limit=limit, start_ms=cursor, end_ms=end_ms - 1)
        page = [bar for bar in answer if cursor <= bar.open_ms < end_ms]
        if not page:
            return
        yield page
        cursor = page[-1].open_ms + _MINUTE_MS
