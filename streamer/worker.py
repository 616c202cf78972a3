"""Do what needs storage or a channel, in order, in one thread, so that neither ever delays the reading of trades."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from shared.errors import TapewatchError

logger = logging.getLogger(__name__)

CAPACITY = 20_000
_BEHIND = 1_000
_RETRY_FIRST_S = 0.2
_RETRY_CAP_S = 5.0


@dataclass(frozen=True, slots=True)
class Job:
    """`kind` names it in counters. `keep` False marks what a later job of the same kind makes up for."""

    kind: str
    run: Callable[[], object]
    keep: bool = True


class Worker:
    """A bounded, ordered queue. A job whose error is retryable is tried until it succeeds; later ones wait.

    When the queue is full, the job offered is refused and counted in `dropped`: memory stays bounded and the loss is
    seen. `failed` counts jobs given up for an error that trying again cannot cure.
    """

    def __init__(self, name: str, capacity: int = CAPACITY, sleep: Callable[[float], object] | None = None) -> None:
        self._jobs: deque[Job] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._stopping = False
        self._deadline_s: float | None = None
        self._wake = threading.Event()
        self._sleep = sleep or self._wake.wait
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.error: str | None = None  # why the job at the head does not succeed, in words

    def start(self) -> None:
        self._thread.start()

    def offer(self, job: Job) -> bool:
        """Queue a job; never blocks. False: it was refused because the queue is full or ending."""
        with self._changed:
            if self._stopping or len(self._jobs) >= self._capacity:
                self.dropped[job.kind] += 1
                return False
            self._jobs.append(job)
            self._changed.notify()
        return True

    def drop(self) -> None:
        """Let go of everything that waits, counted: it is another's now."""
        with self._changed:
            for job in self._jobs:
                self.dropped[job.kind] += 1
            self._jobs.clear()

    @property
    def pending(self) -> int:
        return len(self._jobs)

    @property
    def behind(self) -> bool:
        """More waits than a healthy storage ever lets wait: what can be made up for later should not be offered."""
        return len(self._jobs) > _BEHIND

    def stop(self, within_s: float) -> bool:
        """Finish what is queued, at most for `within_s`; False when something had to be left undone (counted)."""
        with self._changed:
            self._stopping = True
            self._deadline_s = time.monotonic() + within_s
            self._changed.notify()
        self._wake.set()
        self._thread.join(within_s + 0.2)
        with self._changed:
            for job in self._jobs:
                self.dropped[job.kind] += 1
            left = len(self._jobs)
            self._jobs.clear()
        return left == 0 and not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._stopping:
                    self._changed.wait()
                if not self._jobs:
                    return
                job = self._jobs[0]
            finished = self._attempt(job)
            with self._changed:
                if self._jobs and self._jobs[0] is job:  # else it was dropped meanwhile
                    self._jobs.popleft()
            if not finished:
                return

    def _attempt(self, job: Job) -> bool:
        """Run one job until it succeeds or is beyond help; False when the time to stop came first."""
        delay = _RETRY_FIRST_S
        while True:
            try:
                job.run()
            except TapewatchError as exc:
                self.error = str(exc)
                if not exc.retryable or not job.keep:
                    self.failed[job.kind] += 1
                    logger.error("job_failed", extra={"kind": job.kind, "reason": str(exc)})
                    return True
            except Exception as exc:  # a job of one symbol must not stop those of the others
                self.error = f"{type(exc).__name__}: {exc}"
                self.failed[job.kind] += 1
                logger.exception("job_failed", extra={"kind": job.kind})
                return True
            else:
                self.error = None
                self.done[job.kind] += 1
                return True
            if self._deadline_s is not None:
                if time.monotonic() + delay > self._deadline_s:
                    self.dropped[job.kind] += 1
                    return False
                time.sleep(delay)
            else:
                self._sleep(delay)
            delay = min(_RETRY_CAP_S, delay * 2)
