"""The past that the exchange refused at the start, learnt later: beside the live stream, put in place symbol by symbol.

A symbol's own state cannot take trades that lie before its newest one. A session of its own learns them all instead, up
to the newest that REST has, and its state takes the place of the live one, as a stored one does at a restart; what the
stream has brought beyond it is a hole that REST fills.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from shared.detection.forest import FlatForest
from shared.detection.window_anomaly import WindowVerdict
from shared.market.model import Trade
from shared.settings import Settings
from streamer.actions import FitModel, StoreWindows
from streamer.executing import Executor
from streamer.gaps import REFUSED_S
from streamer.session import Session
from streamer.warmup import NotServed, Position

LONGEST_S = 4 * 3600.0


@dataclass(slots=True)
class Learnt:
    """One symbol with its past in it."""

    session: Session
    symbol: str
    verdicts: list[WindowVerdict] = field(default_factory=list)
    model: FlatForest | None = None
    model_after_n: int = 0

    def take(self, page: list[Trade]) -> None:
        """Learn a page in silence: what happened then is no news."""
        for action in self.session.warm(page):
            if isinstance(action, StoreWindows):
                self.verdicts += action.verdicts
            elif isinstance(action, FitModel):
                self.model, self.model_after_n = action.request.fit(), action.request.after_n
                self.session.install(self.symbol, self.model, action.request)

    @property
    def position(self) -> Position:
        return Position(*self.session.position(self.symbol))


class Relearning:
    """Keeps what is being learnt apart from the live session; `put` gets each symbol once its past is complete."""

    def __init__(self, settings: Settings, live: Session, put: Callable[[Learnt], None]) -> None:
        self._settings = settings
        self._live = live
        self._put = put
        self._learning: dict[str, Learnt] = {}

    def position(self, symbol: str) -> Position:
        return self._of(symbol).position

    def take(self, symbol: str, page: list[Trade]) -> None:
        self._of(symbol).take(page)

    def complete(self, symbol: str) -> None:
        learnt = self._learning.pop(symbol, None)
        if learnt is not None and learnt.position.last_id is not None:
            self._put(learnt)

    def _of(self, symbol: str) -> Learnt:
        if symbol not in self._learning:
            live = self._live
            self._learning = {symbol: Learnt(Session(self._settings, live.market, (symbol,), kind=live.kind), symbol)}
        return self._learning[symbol]


def put_in_place(learnt: Learnt, live: Session, executor: Executor) -> None:
    """Let the live session go on from what was learnt; on the loop. One that a store had continued stays as it is."""
    symbol, state = learnt.symbol, live.states.get(learnt.symbol)
    if state is None or state.restored:
        return
    snapshot, memory = learnt.session.snapshot()[symbol], learnt.session.memory(symbol)
    executor.execute(live.tick())  # nothing closed may wait for its verdict in the state that goes
    executor.save(executor.gathering.take((symbol,)), live.take_dirty((symbol,)))
    live.drop_symbol(symbol)
    live.add_symbol(symbol)
    model = None if learnt.model is None else (learnt.model.to_bytes(), learnt.model_after_n)
    live.restore(symbol, snapshot, model, memory=memory)
    live.states[symbol].changes += 1  # or its position would be stored with its next trade only
    executor.filler.serves_again()  # the hole up to the stream
    executor.save(learnt.verdicts, live.take_dirty((symbol,)))
    if learnt.model is not None:
        executor.keep_model(symbol, learnt.model, learnt.model_after_n)


async def until_served(
    refused: NotServed | None,
    again: Callable[[tuple[str, ...]], Awaitable[NotServed | None]],
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> None:
    """Ask for what is left after a quarter of an hour, and ever more rarely, until it is served or hopeless."""
    pause_s = REFUSED_S
    while refused is not None and refused.again and refused.left:
        await sleep(pause_s)
        pause_s = min(LONGEST_S, 2 * pause_s)
        refused = await again(refused.left)
