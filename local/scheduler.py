"""Call the minute jobs' own handlers with the events that EventBridge Scheduler would send.

Each job has a thread of its own, so a slow one delays only itself, and never overlaps with itself. A job that
falls behind works its minutes off in order; what lies further back than `catch_up` minutes is skipped and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.clock import MINUTE_MS, Clock, floor_minute_ms, iso_utc

logger = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any], Any], Any]


@dataclass(frozen=True, slots=True)
class Job:
    """`interval_ms` divides the day; `delay_ms` after each boundary gives the exchange time to close its bars."""

    name: str
    handler: Handler
    interval_ms: int = MINUTE_MS
    delay_ms: int = 1_500


@dataclass(slots=True)
class JobState:
    """What the status line and the health page show of one job."""

    runs: int = 0
    failures: int = 0
    skipped: int = 0
    last_scheduled_ms: int | None = None
    last_error: str = ""
    last_result: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class LocalContext:
    """The few fields of a Lambda context that the handlers and powertools read."""

    memory_limit_in_mb = 0
    function_version = "local"
    invoked_function_arn = "arn:aws:lambda:local:0:function:tapewatch"
    aws_request_id = "local"

    def __init__(self, name: str) -> None:
        self.function_name = f"tapewatch-{name}"

    def get_remaining_time_in_millis(self) -> int:
        return 50_000


class Scheduler:
    """Runs jobs on their boundaries of `clock` until stopped."""

    def __init__(self, clock: Clock, jobs: list[Job], *, speed: float = 1.0, catch_up: int = 30) -> None:
        self._clock = clock
        self._jobs = jobs
        self._speed = speed
        self._catch_up = catch_up
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.states: Mapping[str, JobState] = {job.name: JobState() for job in jobs}

    def start(self, *, first_ms: int | None = None) -> None:
        """Begin with the first boundary after `first_ms` (default: now)."""
        origin = self._clock.now_ms() if first_ms is None else first_ms
        for job in self._jobs:
            thread = threading.Thread(target=self._run, args=(job, origin), name=f"job-{job.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_s: float = 3.0) -> bool:
        """Ask every job to end after its current run; True when all have ended in time."""
        self._stop.set()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, job: Job, origin_ms: int) -> None:
        boundary = origin_ms - origin_ms % job.interval_ms + job.interval_ms
        state = self.states[job.name]
        while not self._stop.is_set():
            wait_ms = boundary + job.delay_ms - self._clock.now_ms()
            if wait_ms > 0:
                # Short steps of real time: a scaled clock's minute may last a second.
                self._stop.wait(min(wait_ms / 1000 / self._speed, 0.5))
                continue
            behind = -wait_ms // job.interval_ms
            if behind > self._catch_up:
                skip = behind - self._catch_up
                state.skipped += int(skip)
                boundary += int(skip) * job.interval_ms
            self.run_once(job, boundary)
            boundary += job.interval_ms

    def run_once(self, job: Job, scheduled_ms: int) -> None:
        """Invoke one handler for one boundary; a failure is counted and logged, and stops nothing else."""
        state = self.states[job.name]
        with state.lock:
            state.last_scheduled_ms = scheduled_ms
            event = {"job": job.name, "scheduled_time": iso_utc(scheduled_ms)}
            try:
                state.last_result = job.handler(event, LocalContext(job.name))
                state.runs += 1
                state.last_error = ""
            except Exception as exc:  # top of the job's thread: one failed run must not end the job
                state.failures += 1
                state.last_error = f"{type(exc).__name__}: {exc}"
                logger.warning("job_failed", extra={"job": job.name, "scheduled_ms": scheduled_ms}, exc_info=True)


def last_closed_minute_ms(now_ms: int) -> int:
    """Return the open time of the newest minute that has ended."""
    return floor_minute_ms(now_ms) - MINUTE_MS
