"""Blocking work beside the event loop, which a stop need not wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


async def in_daemon_thread(work: Callable[[], None]) -> None:
    """Run work on a thread of its own and wait for it; cancelled, the thread is left to end by itself.

    The loop's executor would not do: a process waits for its threads before it ends, and a REST call may take long.
    """
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if finished.done():
            return
        if error is None:
            finished.set_result(None)
        else:
            finished.set_exception(error)

    def main() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as exc:
            error = exc
        with suppress(RuntimeError):  # the loop closed first: nobody waits any more
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=main, name="streamer-prepare", daemon=True).start()
    await finished


class OnLoop:
    """Carries calls from other threads onto the event loop, until it is shut; later ones are let go."""

    def __init__(self, shut: threading.Event) -> None:
        self._shut = shut
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def open(self) -> bool:
        return self.loop is not None and not self._shut.is_set() and not self.loop.is_closed()

    @property
    def here(self) -> bool:
        """The caller runs on that loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def __call__(self, call: Callable[[], object]) -> None:
        if self.loop is not None and self.open:
            self.loop.call_soon_threadsafe(call)

    def later(self, delay_s: float, call: Callable[[], object]) -> None:
        """Call after a delay, from whatever thread this is said."""
        if self.loop is None or self._shut.is_set():
            return
        if self.here:
            self.loop.call_later(delay_s, call)
        else:
            self(lambda: self.later(delay_s, call))
