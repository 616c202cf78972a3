"""Jobs in order, retries where they help, bounded memory, an end in time."""

from __future__ import annotations

import threading
import time

from shared.errors import StorageMissing, StorageUnavailable
from streamer.worker import Job, Worker


def test_jobs_run_in_order_and_a_retryable_one_holds_the_rest() -> None:
    done: list[str] = []
    answers = [StorageUnavailable("away"), StorageUnavailable("away")]

    def stubborn() -> None:
        if answers:
            raise answers.pop()
        done.append("second")

    worker = Worker("w", sleep=lambda s: None)
    for job in (Job("a", lambda: done.append("first")), Job("b", stubborn), Job("c", lambda: done.append("third"))):
        assert worker.offer(job)
    worker.start()
    assert worker.stop(2.0)
    assert done == ["first", "second", "third"]
    assert not worker.failed
    assert worker.error is None


def test_a_job_beyond_help_is_counted_and_stops_nothing() -> None:
    def broken() -> None:
        raise KeyError("a mistake of ours")

    def missing() -> None:
        raise StorageMissing("no table")

    def late() -> None:
        raise StorageUnavailable("away")

    worker = Worker("w")
    for job in (Job("a", broken), Job("b", missing), Job("beat", late, keep=False), Job("d", lambda: None)):
        worker.offer(job)
    worker.start()
    assert worker.stop(2.0)
    assert worker.failed == {"a": 1, "b": 1, "beat": 1}
    assert worker.done == {"d": 1}


def test_a_full_queue_refuses_and_counts() -> None:
    free = threading.Event()
    worker = Worker("w", capacity=2)
    worker.start()
    worker.offer(Job("slow", free.wait))
    assert [worker.offer(Job("more", lambda: None)) for _ in range(3)] == [True, False, False]
    assert worker.dropped == {"more": 2}
    free.set()
    assert worker.stop(2.0)


def test_an_end_with_dead_storage_is_in_time_and_counted() -> None:
    def away() -> None:
        raise StorageUnavailable("away")

    worker = Worker("w")
    worker.offer(Job("windows", away))
    worker.offer(Job("checkpoint", away))
    worker.start()
    started = time.monotonic()
    assert not worker.stop(0.5)
    assert time.monotonic() - started < 1.0
    assert worker.dropped == {"windows": 1, "checkpoint": 1}
