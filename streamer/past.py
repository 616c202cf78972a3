"""How a streamer begins: the past is fetched while the stream's own messages wait, then they follow."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from shared.clock import HOUR_MS, Clock
from shared.exchange.market_data import MarketData
from shared.market.model import Trade
from shared.settings import Settings
from streamer.connection import OnMessages
from streamer.relearning import Learnt, Relearning, lacks_past
from streamer.session import Session
from streamer.warmup import NotServed, PastTrades, Position, warm_up

logger = logging.getLogger(__name__)

PACE_S = 1.0  # between two calls beside the live stream: holes, probes and the minute's jobs need the weight more
HELD_MESSAGES = 500_000  # that many wait at most while the past is fetched, some 100 MB; then the past is cut short


class Backlog:
    """Stands between the connections and the session: holds their messages until the past is in, then forwards."""

    def __init__(self, forward: OnMessages) -> None:
        self._forward = forward
        self._held: deque[tuple[Sequence[bytes], int]] | None = deque()
        self.messages = 0

    @property
    def live(self) -> bool:
        return self._held is None

    @property
    def full(self) -> bool:
        return self.messages >= HELD_MESSAGES

    def take(self, batch: Sequence[bytes], recv_ms: int) -> None:
        if self._held is not None:
            self._held.append((batch, recv_ms))
            self.messages += len(batch)
        else:
            self._forward(batch, recv_ms)

    async def release(self) -> None:
        """Forward what is held, in pieces, and go live."""
        while self._held:
            for _ in range(min(20, len(self._held))):
                batch, recv_ms = self._held.popleft()
                self.messages -= len(batch)
                self._forward(batch, recv_ms)
            await asyncio.sleep(0)  # what arrives now waits behind what is still held
        self._held = None

    def hold(self) -> None:
        """Hold again, and let go of what was held: another session begins."""
        self._held, self.messages = deque(), 0


class Past:
    """Feeds a session the past trades of its symbols, on a thread beside the loop.

    `fed` is held while a page goes in: nobody else may touch the session then. `enough` ends it early.
    """

    def __init__(self, settings: Settings, market_data: MarketData, clock: Clock, stopping: threading.Event) -> None:
        self._settings = settings
        self._market_data = market_data
        self._clock = clock
        self._stopping = stopping
        self.fed = threading.Lock()
        self.status: dict[str, Any] = {"state": "off"}

    def fetch(
        self, session: Session, take: Callable[[list[Trade]], None], enough: Callable[[], bool]
    ) -> NotServed | None:
        """Fetch what `session` missed or what its models need, page by page; returns when it is done or cut short.

        What was stored of a symbol may be younger than the past it needs: then it is `left`, to be fetched later.
        """

        def position(symbol: str) -> Position:
            return Position(*session.position(symbol))

        def feed(symbol: str, page: list[Trade]) -> None:
            with self.fed:
                if not self._stopping.is_set():
                    take(page)

        refused = self._fetch(session, session.symbols, position, feed, lambda symbol: None, enough, 0.0)
        young = [name for name, state in session.states.items() if state.restored and lacks_past(state)]
        if not young or enough() or (refused is not None and not refused.again):
            return refused
        reason, left = (refused.reason, refused.left) if refused is not None else ("what is stored is young", ())
        return NotServed(reason, tuple(dict.fromkeys((*left, *young))), again=True)

    def fetch_later(
        self,
        session: Session,
        symbols: Sequence[str],
        put: Callable[[Learnt], None],
        enough: Callable[[], bool],
    ) -> NotServed | None:
        """Fetch what was refused to `session`, which is live meanwhile; `put` gets each symbol that has learnt it."""
        left = tuple(s for s in symbols if s in session.states and lacks_past(session.states[s]))
        apart = Relearning(self._settings, session, put)
        return self._fetch(session, left, apart.position, apart.take, apart.complete, enough, PACE_S)

    def _fetch(
        self,
        session: Session,
        symbols: tuple[str, ...],
        position: Callable[[str], Position],
        take: Callable[[str, list[Trade]], None],
        complete: Callable[[str], None],
        enough: Callable[[], bool],
        pace_s: float,
    ) -> NotServed | None:
        status = self.status = {"state": "running", "symbols": len(symbols), "done": 0, "trades": 0}

        def feed(symbol: str, page: list[Trade]) -> None:
            status["trades"] += len(page)
            take(symbol, page)

        def progress(symbol: str, done: int, total: int) -> None:
            status["done"] = done

        past = PastTrades(self._market_data, session.market, session.kind, enough, partial(self._stopping.wait, pace_s))
        back_ms = round(self._settings.streamer.warmup_hours * HOUR_MS)
        refused = warm_up(
            past,
            symbols,
            position=position,
            since_ms=self._clock.now_ms() + session.clock_ahead_ms - back_ms,
            feed=feed,
            wait=self._stopping.wait,
            progress=progress,
            complete=complete,
        )
        status["state"] = "done" if refused is None else "not_served"
        if refused is not None:
            status["reason"] = refused.reason
            logger.warning("past_trades_not_served", extra={"reason": refused.reason, "symbols": len(refused.left)})
        return refused
