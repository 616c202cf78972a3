"""Fetch the trades of the hours before the start, so that windows and models need not be learnt live.

The stream is opened first and its messages wait; when the last page reaches the newest trade, the two overlap and
the parser drops what it has had. So a restart fills its own gap, as long as the exchange still has the trades.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

from shared.errors import BadRequest, Blocked, ExchangeError, RateLimited, RestrictedLocation
from shared.exchange.market_data import MarketData
from shared.market.model import Market, Trade, TradeKind

logger = logging.getLogger(__name__)

PAGE = 1000
_SEARCH_STEPS = 24
_CLOSE_ENOUGH_MS = 60_000


@dataclass(frozen=True, slots=True)
class Position:
    """Where a symbol stands: newest id delivered (None: never seen) and its time."""

    last_id: int | None
    last_ms: int


@dataclass(frozen=True, slots=True)
class NotServed:
    """The exchange does not give past trades of this kind here; `reason` says why in its own words.

    `left` are the symbols that had not got theirs; `again` says that asking later may help.
    """

    reason: str
    left: tuple[str, ...] = ()
    again: bool = False


class PastTrades:
    """Pages of past trades of one kind.

    Args:
        stopped: asked between calls; True ends the fetching early, quietly.
    """

    def __init__(
        self, market_data: MarketData, market: Market, kind: TradeKind, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._market_data = market_data
        self._market = market
        self._kind = kind
        self._stopped = stopped

    def stopped(self) -> bool:
        """No further page is wanted."""
        return self._stopped()

    def pages(self, symbol: str, position: Position, since_ms: int) -> Iterator[list[Trade]]:
        """Yield pages in ascending order, from the position or `since_ms`, whichever is later, to the newest trade.

        Raises:
            ExchangeError: not served here, or no answer.
        """
        start = self._start(symbol, position, since_ms)
        while start is not None and not self._stopped():
            page = self._fetch(symbol, start)
            if not page:
                return
            yield page
            newest = page[-1].trade_id
            if len(page) < PAGE or newest is None or newest < start:
                return
            start = newest + 1

    def _start(self, symbol: str, position: Position, since_ms: int) -> int | None:
        """Return the id to begin with; None when there is no way to know one."""
        if position.last_id is not None and position.last_ms >= since_ms:
            return position.last_id + 1
        if self._stopped():
            return None
        newest = self._newest(symbol)
        if newest is None or newest.trade_id is None:
            return None if position.last_id is None else position.last_id + 1
        low, high = position.last_id or 0, newest.trade_id
        if newest.event_ms <= since_ms:
            return high
        span = PAGE
        # Walk back in doubling steps, then halve: about 2 log2(hours of trades) calls, however uneven the rate.
        steps = 0
        while high - span > low and steps < _SEARCH_STEPS and not self._stopped():
            steps += 1
            asked = newest.trade_id - span
            row = self._at(symbol, asked)
            if row is not None and row.trade_id is not None and row.trade_id > asked:
                return row.trade_id  # nothing between: the exchange gives no older rows, asking further back is vain
            if row is None or row.event_ms <= since_ms:
                low = max(low, newest.trade_id - span)
                break
            high = newest.trade_id - span
            span *= 2
        while high - low > PAGE and steps < _SEARCH_STEPS and not self._stopped():
            steps += 1
            middle = (low + high) // 2
            row = self._at(symbol, middle)
            if row is not None and row.event_ms > since_ms:
                high = middle
                if row.event_ms - since_ms <= _CLOSE_ENOUGH_MS:
                    break
            else:
                low = middle
        return high

    def _newest(self, symbol: str) -> Trade | None:
        if self._kind is not TradeKind.TRADE:
            return None  # aggTrades cannot be asked for its newest row by id; only a known position helps
        rows = self._market_data.historical_trades(self._market, symbol, from_id=None, limit=1)
        return rows[-1] if rows else None

    def _at(self, symbol: str, trade_id: int) -> Trade | None:
        rows = self._fetch(symbol, max(0, trade_id), limit=1)
        return rows[0] if rows else None

    def _fetch(self, symbol: str, from_id: int, limit: int = PAGE) -> list[Trade]:
        if self._kind is TradeKind.TRADE:
            return self._market_data.historical_trades(self._market, symbol, from_id=from_id, limit=limit)
        return self._market_data.agg_trades(self._market, symbol, from_id=from_id, limit=limit)


def warm_up(
    past: PastTrades,
    symbols: tuple[str, ...],
    *,
    position: Callable[[str], Position],
    since_ms: int,
    feed: Callable[[str, list[Trade]], None],
    wait: Callable[[float], object],
    progress: Callable[[str, int, int], None],
    complete: Callable[[str], None] = lambda symbol: None,
) -> NotServed | None:
    """Feed the past trades of every symbol, one after the other.

    A symbol whose fetching fails is left to learn live; when the exchange does not serve past trades at all, this
    is found out once and said once, by the value returned. `complete` is told each symbol whose past has come whole.
    """
    for done, symbol in enumerate(symbols):
        if past.stopped():
            return None
        progress(symbol, done, len(symbols))
        for attempt in (1, 2):
            try:
                for page in past.pages(symbol, position(symbol), since_ms):
                    feed(symbol, page)
                if not past.stopped():
                    complete(symbol)
                break
            except RateLimited as exc:
                if attempt == 2:
                    logger.warning("warmup_failed", extra={"symbol": symbol, "reason": str(exc)})
                else:
                    for _ in range(ceil(min(exc.retry_after_s, 120.0))):
                        if past.stopped():
                            return None
                        wait(1.0)
            except ExchangeError as exc:
                # A 400 speaks of one symbol; a 404 or the client's own refusal of all of them.
                one_symbol = isinstance(exc, BadRequest) and exc.status not in (None, 404)
                if not exc.retryable and not one_symbol and exc.code not in ("unknown_symbol", "banned"):
                    # As for a gap: only the client's own word, which has no status, holds for good.
                    again = exc.status is not None or isinstance(exc, Blocked | RestrictedLocation)
                    return NotServed(str(exc), symbols[done:], again)
                logger.warning("warmup_failed", extra={"symbol": symbol, "reason": str(exc)})
                break
    progress("", len(symbols), len(symbols))
    return None
