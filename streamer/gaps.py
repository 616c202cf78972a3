"""Fetch the trades that a stream lost, over REST and off the read path, and hand them back as late trades."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from shared.errors import BadRequest, Blocked, ExchangeError, RateLimited, RestrictedLocation
from shared.exchange.binance.events import Gap
from shared.exchange.market_data import MarketData
from shared.market.model import Market, Trade, TradeKind
from streamer.worker import Job, Worker

logger = logging.getLogger(__name__)

PAGE = 1000
MOST_IDS = 100_000  # a larger hole would eat the weight of everybody else; its windows stay incomplete
_WAITING = 1_000
_PATIENCE_S = 20.0  # how long a gap is asked for when the exchange does not answer; its symbol waits as long
_PAUSE_S = 1.0
REFUSED_S = 900.0  # a host that refused us is asked again after this


class GapFiller:
    """Fills gaps one at a time. `feed` gets each page, `give_up` what cannot be had; both on this filler's thread.

    While the exchange refuses us, gaps are given up at once; it is asked again after a quarter of an hour. Only the
    client's own word that past trades cannot be asked for (a missing key) holds for good.
    """

    def __init__(
        self,
        market_data: MarketData,
        feed: Callable[[list[Trade]], None],
        give_up: Callable[[Gap], None],
        *,
        sleep: Callable[[float], object] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._market_data = market_data
        self._feed = feed
        self._give_up = give_up
        self._sleep = sleep
        self._monotonic = monotonic
        self._worker = Worker("gap-fill", _WAITING)
        self._stopped = False
        self._refused_until_s = float("-inf")
        self.fetched = 0
        self.given_up: Counter[str] = Counter()

    @property
    def not_served(self) -> bool:
        """No question is worth asking now."""
        return self._monotonic() < self._refused_until_s

    def serves_again(self) -> None:
        """Past trades have just been served, whatever was refused before; the client's own word still holds."""
        if self._refused_until_s != float("inf"):
            self._refused_until_s = float("-inf")

    def start(self) -> None:
        self._worker.start()

    def submit(self, gap: Gap) -> None:
        if self.not_served:
            self._abandon(gap, "not_served")
        elif gap.size > MOST_IDS:
            self._abandon(gap, "too_large")
        elif not self._worker.offer(Job("fill", lambda: self._fill(gap))):
            self._abandon(gap, "too_many")

    def stop(self) -> None:
        """Let go of what waits; a running call ends by itself."""
        self._stopped = True
        self._worker.stop(0.0)

    def probe(
        self, market: Market, symbol: str, kind: TradeKind, last_id: int, told: Callable[[bool | None], None]
    ) -> None:
        """Ask what came after `last_id`: it is fed. `told` hears True when something did, None without an answer."""
        if self.not_served:
            told(None)
            return

        def ask() -> None:
            gap = Gap(market, symbol, kind, last_id + 1, last_id + PAGE)
            try:
                page = self._fetch(gap, last_id + 1, PAGE)
            except ExchangeError as exc:
                self._judge(exc)
                told(None)
                return
            newer = [trade for trade in page if trade.trade_id is not None and trade.trade_id > last_id]
            if newer:
                self.fetched += len(newer)
                self._feed(newer)
            told(bool(newer))

        if not self._worker.offer(Job("probe", ask, keep=False)):
            told(None)

    def _fill(self, gap: Gap) -> None:
        start, found = gap.first_id, 0
        until_s = self._monotonic() + _PATIENCE_S
        while start <= gap.last_id and not self._stopped:
            try:
                page = self._fetch(gap, start, min(PAGE, gap.last_id - start + 1))
            except ExchangeError as exc:
                self._judge(exc)
                pause_s = exc.retry_after_s if isinstance(exc, RateLimited) else _PAUSE_S
                if exc.retryable and self._monotonic() + pause_s < until_s:
                    self._sleep(pause_s)
                    continue
                logger.warning("gap_not_filled", extra={"symbol": gap.symbol, "ids": gap.size, "reason": str(exc)})
                self._abandon(gap, exc.code)
                return
            wanted = [t for t in page if t.trade_id is not None and gap.first_id <= t.trade_id <= gap.last_id]
            self.fetched += len(wanted)
            found += len(wanted)
            if wanted:
                self._feed(wanted)
            newest = page[-1].trade_id if page else None
            if newest is None or newest < start:
                self._abandon(gap, "not_kept")
                return
            start = newest + 1
            until_s = self._monotonic() + _PATIENCE_S
        if not self._stopped:
            # Ids that the exchange has passed over or forgotten never come.
            self._abandon(gap, "not_kept", quiet=found == gap.size)

    def _judge(self, exc: ExchangeError) -> None:
        if isinstance(exc, BadRequest):
            # With a status the exchange spoke, about one symbol and one id; 404 alone speaks of the question itself.
            if exc.status is None:
                self._refused_until_s = float("inf")
            elif exc.status == 404:
                self._refused_until_s = self._monotonic() + REFUSED_S
        elif isinstance(exc, Blocked | RestrictedLocation):
            self._refused_until_s = self._monotonic() + REFUSED_S

    def _fetch(self, gap: Gap, from_id: int, limit: int) -> list[Trade]:
        if gap.kind is TradeKind.TRADE:
            return self._market_data.historical_trades(gap.market, gap.symbol, from_id=from_id, limit=limit)
        return self._market_data.agg_trades(gap.market, gap.symbol, from_id=from_id, limit=limit)

    def _abandon(self, gap: Gap, reason: str, *, quiet: bool = False) -> None:
        if not quiet:
            self.given_up[reason] += 1
        self._give_up(gap)
