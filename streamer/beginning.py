"""How a session begins: what is stored, the clocks, the past, and later what was refused of the past.

The threads that do it cannot be cancelled and may outlive the lease, so each step asks first whether the session that
it serves is still the one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from shared.clock import Clock
from shared.errors import ExchangeError
from shared.exchange.market_data import MarketData
from shared.market.model import Trade
from shared.settings import Settings
from streamer import fitting
from streamer.checkpointing import Checkpoints
from streamer.executing import Executor
from streamer.past import Backlog, Past
from streamer.relearning import Learnt, put_in_place, until_served
from streamer.session import Session
from streamer.threads import OnLoop, in_daemon_thread
from streamer.warmup import NotServed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What every beginning works with, the same for all of a service's sessions."""

    settings: Settings
    market_data: MarketData
    clock: Clock
    checkpoints: Checkpoints
    executor: Executor
    backlog: Backlog
    past: Past
    on_loop: OnLoop


class Beginning:
    """One session's.

    Args:
        current: tells whether the session is still the service's.
        ending: tells whether its turn is over or about to be: the lease is lost, or the service stops.
    """

    def __init__(self, session: Session, means: Means, *, current: Callable[[], bool], ending: Callable[[], bool]):
        self._session, self._means = session, means
        self._current, self._ending = current, ending
        self.restored = 0  # symbols that go on from what is stored

    def prepare(self) -> None:
        """Read the stored state and compare the clocks, before the first connection. Blocks.

        Raises:
            StorageError: the stored state cannot be read.
        """
        session, means = self._session, self._means
        self.restored, unusable = means.checkpoints.restore(session)
        if not self._current():  # the lease was lost meanwhile, and this thread has outlived it
            return
        means.executor.forget(session.symbols)
        means.executor.unsaved(session.symbols)
        if unusable:
            session.rejected["checkpoint_unusable"] += len(unusable)
        for fit in session.due_fits():
            with means.past.fed:
                if not self._current() or self._ending():
                    return  # asked of the end too: whoever waits to begin anew may not get the lock in between
                means.executor.execute((fit,), fit_now=True)
        try:
            session.set_clock_ahead(means.market_data.server_time_ms(session.market) - means.clock.now_ms())
        except ExchangeError as exc:
            logger.warning("server_time_unknown", extra={"reason": str(exc)})

    async def learn_and_live(self) -> None:
        """Fetch the past while the stream's messages wait, then take them in and go live; later what was refused."""
        session, means, refused = self._session, self._means, list[NotServed | None]()
        if means.settings.streamer.warmup_trades:
            await in_daemon_thread(lambda: refused.append(means.past.fetch(session, self._take, self._enough)))
        await means.backlog.release()
        if means.settings.window_anomaly.enabled:
            means.executor.fitter.prepare(fitting.load)

        def put(learnt: Learnt) -> None:
            means.on_loop(partial(self._put_in_place, learnt))

        async def again(left: Sequence[str]) -> NotServed | None:
            await in_daemon_thread(lambda: refused.append(means.past.fetch_later(session, left, put, self._enough)))
            return refused[-1]

        await until_served(refused[-1] if refused else None, again)

    def _take(self, page: list[Trade]) -> None:
        if self._current():
            self._means.executor.execute(self._session.warm(page), fit_now=True)

    def _put_in_place(self, learnt: Learnt) -> None:
        if self._current():
            put_in_place(learnt, self._session, self._means.executor)

    def _enough(self) -> bool:
        return not self._current() or self._ending() or self._means.backlog.full
