"""The local scheduler sends what EventBridge Scheduler would: every minute once, in order, each job alone."""

from __future__ import annotations

import threading
import time
from typing import Any

from local.scheduler import Job, Scheduler
from shared.clock import MINUTE_MS, ManualClock, ScaledClock, iso_utc, parse_utc_ms

NOON = parse_utc_ms("2026-01-01T12:00:00Z")


def wait_for(condition: Any, timeout_s: float = 5.0) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def test_each_minute_runs_once_in_order_with_the_schedules_own_time() -> None:
    seen: list[str] = []
    clock = ScaledClock(NOON, speed=1200.0)
    scheduler = Scheduler(clock, [Job("a", lambda event, _: seen.append(event["scheduled_time"]))], speed=1200.0)
    scheduler.start()
    assert wait_for(lambda: len(seen) >= 4)
    assert scheduler.stop()
    assert seen[:4] == [iso_utc(NOON + n * MINUTE_MS) for n in (1, 2, 3, 4)]


def test_a_failing_job_is_counted_and_stops_neither_itself_nor_others() -> None:
    good: list[str] = []

    def bad(event: dict[str, Any], _: object) -> None:
        raise RuntimeError("out of order")

    clock = ScaledClock(NOON, speed=1200.0)
    jobs = [Job("bad", bad), Job("good", lambda event, _: good.append(event["job"]))]
    scheduler = Scheduler(clock, jobs, speed=1200.0)
    scheduler.start()
    assert wait_for(lambda: scheduler.states["bad"].failures >= 2 and len(good) >= 2)
    assert scheduler.stop()
    assert scheduler.states["bad"].last_error == "RuntimeError: out of order"


def test_far_behind_skips_and_counts_but_catches_up_what_is_near() -> None:
    seen: list[str] = []
    clock = ManualClock(NOON + 100 * MINUTE_MS)
    scheduler = Scheduler(clock, [Job("a", lambda event, _: seen.append(event["scheduled_time"]))], catch_up=5)
    scheduler.start(first_ms=NOON)
    assert wait_for(lambda: len(seen) >= 5)
    time.sleep(0.02)
    assert scheduler.stop()
    assert seen[-1] == iso_utc(NOON + 99 * MINUTE_MS)
    assert len(seen) + scheduler.states["a"].skipped == 99


def test_stop_ends_an_idle_scheduler_at_once() -> None:
    scheduler = Scheduler(ManualClock(NOON), [Job("a", lambda event, _: None)])
    scheduler.start()
    began = time.monotonic()
    assert scheduler.stop()
    assert time.monotonic() - began < 1.0
    assert not any(thread.name == "job-a" for thread in threading.enumerate())
