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
