"""Lanes: every channel is served on a thread of its own, in order, so that one that hangs delays no other.

`Inline` does the same one after the other on the caller's thread: for tests that number every call, and for tools.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, TimeoutError
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Lanes(Protocol):
    def each(self, tasks: Mapping[str, Callable[[], T]], *, patience_s: float) -> dict[str, T]:
        """Run one task per channel; return the answers of those that ended within `patience_s`."""
        ...

    def later(self, channel: str, task: Callable[[], Any]) -> None:
        """Run a task that nobody waits for, beside the channel's own lane."""
        ...

    def settle(self, timeout_s: float) -> bool:
        """Wait until nothing is under way; True when that came in time."""
        ...


class Inline:
    """Everything on the caller's thread; what is for later is done at once, and its failure is its own."""

    def each(self, tasks: Mapping[str, Callable[[], T]], *, patience_s: float) -> dict[str, T]:
        return {channel: task() for channel, task in tasks.items()}

    def later(self, channel: str, task: Callable[[], Any]) -> None:
        task()

    def settle(self, timeout_s: float) -> bool:
        return True


class Threads:
    """One daemon thread per channel and purpose, started with its first task; each takes its tasks in order.

    A caller waits only for tasks that found their lane idle: a lane that hangs costs one patience, not one per alert.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]]] = {}
        self._open: dict[str, int] = {}  # tasks given to a lane that have not ended
        self._idle = threading.Condition(self._lock)

    def each(self, tasks: Mapping[str, Callable[[], T]], *, patience_s: float) -> dict[str, T]:
        given = {channel: self._give(channel, task) for channel, task in tasks.items()}
        end = time.monotonic() + patience_s
        answers: dict[str, T] = {}
        for channel, (future, was_idle) in given.items():
            try:
                answers[channel] = future.result(max(0.0, end - time.monotonic()) if was_idle else 0.0)
            except TimeoutError:
                continue  # it goes on by itself; the outbox knows how it ended
        return answers

    def later(self, channel: str, task: Callable[[], Any]) -> None:
        self._give(f"{channel}/later", task)

    def settle(self, timeout_s: float) -> bool:
        with self._idle:
            return self._idle.wait_for(lambda: not any(self._open.values()), timeout_s)

    def _give(self, lane: str, task: Callable[[], T]) -> tuple[Future[T], bool]:
        future: Future[T] = Future()
        with self._lock:
            if lane not in self._queues:
                self._queues[lane] = queue.SimpleQueue()
                self._open[lane] = 0
                threading.Thread(target=self._work, args=(lane,), name=f"lane-{lane}", daemon=True).start()
            was_idle = self._open[lane] == 0
            self._open[lane] += 1
        self._queues[lane].put((task, future))
        return future, was_idle

    def _work(self, lane: str) -> None:
        while True:
            task, future = self._queues[lane].get()
            try:
                future.set_result(task())
            except BaseException as exc:  # handed to whoever waits; the lane itself goes on
                future.set_exception(exc)
            with self._idle:
                self._open[lane] -= 1
                self._idle.notify_all()
