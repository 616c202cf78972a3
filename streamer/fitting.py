"""Fit forests away from the trades: one at a time, in one thread.

A thread and not a process: scikit-learn's tree builder holds the interpreter only for short stretches, and a second
process would cost more memory than all the models together in a task of half a gigabyte.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
from collections.abc import Callable
from functools import partial

from shared.detection.forest import FlatForest
from shared.detection.window_anomaly import FitRequest
from streamer.actions import FitModel

logger = logging.getLogger(__name__)

Done = Callable[[str, FlatForest | None, FitRequest], None]
"""Told the outcome on the fitting thread; None: the fit failed."""


def load() -> None:
    """Import what the first fit needs, which takes seconds, and keep the collector of garbage away from it.

    What is alive now (the library, the symbols' states) stays alive: looking through it again and again would hold up
    the trades for 70 ms at a time.
    """
    import sklearn.ensemble
    import sklearn.preprocessing  # noqa: F401

    gc.freeze()


class Fitter:
    """Queues fits and tells each one's `done` from its own thread. A symbol's newer request replaces a waiting one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[FitRequest, Done]] = {}
        self._stopped = False
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        # A daemon: at the end of the process nobody waits for an import of seconds or a fit that is under way.
        self._thread = threading.Thread(target=self._run_for_ever, name="forest-fit", daemon=True)
        self._thread.start()
        self.fitted = 0
        self.failed = 0

    def prepare(self, load: Callable[[], object]) -> None:
        """Run `load` in the fitting thread: the library's import takes seconds and must not hit the first fit."""
        self._work.put(load)

    def submit(self, action: FitModel, done: Done) -> None:
        with self._lock:
            if self._stopped:
                return
            queued = action.symbol in self._waiting
            self._waiting[action.symbol] = (action.request, done)
        if not queued:
            self._work.put(partial(self._run, action.symbol))

    @property
    def pending(self) -> int:
        with self._lock:
            return len(self._waiting)

    def drop(self) -> None:
        """Let go of what waits: who asked for it has ended. A running fit still tells its `done`."""
        with self._lock:
            self._waiting.clear()

    def stop(self) -> None:
        """Drop what waits; a running fit ends by itself and is dropped too. Returns at once."""
        with self._lock:
            self._stopped = True
            self._waiting.clear()
        self._work.put(None)

    def _run_for_ever(self) -> None:
        while (work := self._work.get()) is not None:
            if not self._stopped:
                work()

    def _run(self, symbol: str) -> None:
        with self._lock:
            waiting = self._waiting.pop(symbol, None)
        if waiting is None:
            return
        request, done = waiting
        model: FlatForest | None = None
        try:
            model = request.fit()
            self.fitted += 1
        except Exception:  # one symbol's windows may be unfit for fitting; the others go on
            self.failed += 1
            logger.exception("fit_failed", extra={"symbol": symbol})
        if not self._stopped:
            done(symbol, model, request)
