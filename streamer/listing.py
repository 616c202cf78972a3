"""Symbols come and go with the exchange's listing, without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from shared.errors import TapewatchError
from streamer.checkpointing import Checkpoints, Stored
from streamer.executing import Executor
from streamer.lines import Lines
from streamer.session import Session
from streamer.threads import in_daemon_thread

logger = logging.getLogger(__name__)

LISTING_S = 300.0


async def keep_up(
    listing: Callable[[], Sequence[str]], follow: Callable[[Sequence[str]], Coroutine[Any, Any, None]]
) -> None:
    """Ask every few minutes which symbols are to be streamed, until cancelled."""
    while True:
        await asyncio.sleep(LISTING_S)
        asked: list[Sequence[str]] = []

        def ask(asked: list[Sequence[str]] = asked) -> None:
            try:
                asked.append(listing())
            except TapewatchError as exc:  # the old symbols stay; the next look is soon
                logger.warning("listing_unknown", extra={"reason": str(exc)})

        await in_daemon_thread(ask)
        if asked:
            await follow(asked[0])


def change_symbols(
    session: Session,
    symbols: Sequence[str],
    stored: Sequence[Stored],
    checkpoints: Checkpoints,
    executor: Executor,
    lines: Lines,
) -> bool:
    """Let the session follow these symbols from now on; False when it does already. What goes is stored, what comes
    goes on from what was read of it (`stored`), and those that stay notice nothing."""
    gone = [symbol for symbol in session.symbols if symbol not in set(symbols)]
    new = [symbol for symbol in symbols if symbol not in session.states]
    if not gone and not new:
        return False
    logger.info("symbols_changed", extra={"gone": gone, "new": new})
    if gone:
        executor.execute(session.tick())
        executor.save(executor.gathering.take(gone), session.take_dirty(gone))
    for symbol in gone:
        session.drop_symbol(symbol)
    executor.forget(gone)
    for symbol in new:
        session.add_symbol(symbol)
    if new:
        checkpoints.apply(session, [one for one in stored if one.symbol in new])
        session.doubt(new)
        executor.unsaved(new)
    lines.follow(session)
    return True
