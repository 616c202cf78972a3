"""Run a world until somebody stops it: backfill first, then alerts and a status line, then a clean end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from local.terminal import Terminal
from local.world import World

STOP_WITHIN_S = 5.0


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or SIGTERM sets; a second Ctrl-C ends the process at once."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


T = TypeVar("T")


class Stopped(Exception):
    """The person did not want to wait."""


def interruptible(work: Callable[[], T], stop: threading.Event) -> T:
    """Do something slow (the network) on a thread of its own, so that Ctrl-C does not wait for its time-outs.

    Raises:
        Stopped: `stop` was set first; the work goes on unheard until the process ends.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as exc:  # handed to the caller below
            errors.append(exc)

    thread = threading.Thread(target=body, name="starting", daemon=True)
    thread.start()
    while thread.is_alive():
        if stop.is_set():
            raise Stopped
        thread.join(0.05)
    if errors:
        raise errors[0]
    return results[0]


def run_until_stopped(
    world: World,
    terminal: Terminal,
    stop: threading.Event,
    *,
    done: Callable[[], bool] | None = None,
    limit_s: float | None = None,
    started: Callable[[], None] | None = None,
) -> bool:
    """Start the world and wait for `stop`, for `done()` to say True, or for `limit_s`; then stop it.

    `started` is called once everything runs.

    Returns whether every part ended by itself in time.
    """
    began = time.monotonic()
    world.start()
    if world.api is not None:
        terminal.note(f"API on {world.api.url}/api/health")
    try:
        if started is not None:
            started()
        while not stop.wait(0.2):
            if done is not None and done():
                break
            if limit_s is not None and time.monotonic() - began >= limit_s:
                break
    finally:
        terminal.note("stopping")
        ended = _stop_in_time(world)
    return ended


def leave(ended: bool) -> int:
    """Return the exit status; where a part hangs, leave at once: the state is safe at any moment, patience is not."""
    if not ended:
        logging.getLogger(__name__).warning("parts_did_not_end")
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
    return 0


def _stop_in_time(world: World) -> bool:
    result: list[bool] = []
    stopper = threading.Thread(target=lambda: result.append(world.stop()), name="stopper", daemon=True)
    stopper.start()
    stopper.join(STOP_WITHIN_S - 1.5)
    return bool(result and result[0])
