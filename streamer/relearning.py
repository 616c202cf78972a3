"""The past that the exchange refused at the start, learnt later: beside the live stream, put in place symbol by symbol.

A symbol's own state cannot take trades that lie before its newest one. A session of its own learns them all instead, up
to the newest that REST has, and its state takes the place of the live one, as a stored one does at a restart; what the
stream has brought beyond it is a hole that REST fills.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from shared.detection.forest import FlatForest
from shared.detection.reading import Signal
from shared.detection.window_anomaly import FitRequest, WindowVerdict
from shared.market.model import Trade
from shared.settings import Settings
from streamer.actions import EmitSignal, FitModel, StoreWindows
from streamer.executing import Executor
from streamer.gaps import REFUSED_S
from streamer.session import Session
from streamer.symbol_state import SymbolState
from streamer.warmup import NotServed, Position

logger = logging.getLogger(__name__)

LONGEST_S = 4 * 3600.0


@dataclass(slots=True)
class Learnt:
    """One symbol with its past in it."""

    session: Session
    symbol: str
    signals: list[Signal] = field(default_factory=list)
    verdicts: list[WindowVerdict] = field(default_factory=list)
    model: FlatForest | None = None
    model_after_n: int = 0

    def take(self, page: list[Trade]) -> None:
        """Learn a page; what is to be said of it, `news` knows."""
        for action in self.session.warm(page, tell=True):
            if isinstance(action, EmitSignal):
                self.signals.append(action.signal)
            elif isinstance(action, StoreWindows):
                self.verdicts += action.verdicts
            elif isinstance(action, FitModel):
                self._fit(action.request)

    def _fit(self, request: FitRequest) -> None:
        try:
            model = request.fit()
        except Exception:  # one symbol's windows may be unfit for fitting; the stream and the others go on
            logger.exception("fit_failed", extra={"symbol": self.symbol})
            self.session.give_up(self.symbol, request)
        else:
            self.model, self.model_after_n = model, request.after_n
            self.session.install(self.symbol, model, request)

    @property
    def position(self) -> Position:
        return Position(*self.session.position(self.symbol))

    def news(self, live: SymbolState) -> list[EmitSignal]:
        """Return what the live state would have said yet: its connection was down, or it waits behind a hole.

        What lies before it is no news, and nothing is to a symbol that has not traded: it begins here.
        """
        if live.last_id < 0:
            return []
        return [
            EmitSignal(signal)
            for signal in self.signals
            if (signal.known_ms > live.last_ms if signal.trade_id is None else signal.trade_id > live.last_id)
        ]


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


def lacks_past(state: SymbolState) -> bool:
    """Tell whether a symbol began here, or before a restart that came too soon: without a model, and without a past."""
    return not state.restored or (state.anomaly is not None and state.anomaly.model is None)


def _knows(state: SymbolState) -> int:
    """Return the windows that were learnt; trades where nothing learns windows."""
    return state.anomaly.learnt if state.anomaly is not None else state.used


def put_in_place(learnt: Learnt, live: Session, executor: Executor) -> None:
    """Let the live session go on from what was learnt; on the loop.

    A state that knows as much itself stays: both reach to the present, so it reaches further back.
    """
    symbol, state = learnt.symbol, live.states.get(learnt.symbol)
    if state is None or not lacks_past(state) or _knows(state) >= _knows(learnt.session.states[symbol]):
        return
    snapshot, memory = learnt.session.snapshot()[symbol], learnt.session.memory(symbol)
    model = None if learnt.model is None else (learnt.model.to_bytes(), learnt.model_after_n)
    executor.execute(live.tick())  # nothing closed may wait for its verdict in the state that goes
    executor.save(executor.gathering.take((symbol,)), live.take_dirty((symbol,)))
    if not live.restore(symbol, snapshot, model, memory=memory):
        return
    live.states[symbol].changes += 1  # or its position would be stored with its next trade only
    executor.execute(learnt.news(state))
    executor.filler.serves_again()  # the hole up to the stream
    executor.save(learnt.verdicts, live.take_dirty((symbol,)))
    executor.keep_memory(symbol, memory)  # of the state that goes, one may stand in the table
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
