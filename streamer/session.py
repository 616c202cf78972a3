"""The streamer's mind, without I/O: messages and time in, actions out.

One session holds every detector that lives on trades, for all symbols of one market. Windows are decided by the
exchange's time alone: a symbol's own trades close its windows. The newest trade of any symbol shows when those of a
symbol that fell silent are over; `tick` closes them when the exchange itself has said that nothing is missing, for a
stream that was cut off looks just like a silent one. The wall clock decides nothing.

Trades reach the detectors in the order of their ids. Behind a missing id the later ones wait, until it has come
(late, or fetched over REST) or is given up; so a shuffled or filled stream says what the whole one would have said.

Live and replay run this same class. What differs live: a model is fitted elsewhere and installed some windows later,
so the first windows after a fit are still judged by the model before it; a replay fits at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.exchange.binance.events import (
    Ack,
    Epoch,
    Gap,
    Ignored,
    Malformed,
    Repeat,
    ServerShutdown,
    SetAside,
    StreamEvent,
)
from shared.market.model import Trade
from streamer import hotpath
from streamer.actions import Action, FillGap, Reconnect
from streamer.ordering import Ordering
from streamer.symbol_state import SymbolState

SILENT_MS = 6_000
"""A symbol whose own trades have not closed a window this long after they might have is silent, or cut off."""
ASK_MS = 120_000
"""Which of the two it is, REST is asked after this long; at once when the window would be called an anomaly."""
HOPELESS_MS = 600_000
"""When REST has not said it either, the window closes as incomplete."""


class Session(Ordering):
    """Feed it in arrival order; execute what it returns in the order returned.

    Every input is accounted for: `trades` were used, `rejected` counts the rest by reason.
    """

    def receive_many(self, batch: Sequence[bytes], recv_ms: int) -> list[Action]:
        """Take the messages of one read, in order: the same as `receive` with each of them, and much faster."""
        actions: list[Action] = []
        if self.feed is not None and self.parser.combined:
            hotpath.take_native(self, self.feed, batch, recv_ms, actions)
        elif len(batch) < 3:
            for data in batch:
                self.take_one(data, recv_ms, actions)
        else:
            hotpath.take(self, batch, recv_ms, actions)
        return actions

    def receive(self, data: bytes, recv_ms: int) -> list[Action]:
        """Take one message as it came. Never raises for anything that a message can hold."""
        self.own_all()
        actions: list[Action] = []
        self.take_one(data, recv_ms, actions)
        return actions

    def take_one(self, data: bytes, recv_ms: int, actions: list[Action]) -> None:
        """Take one message the careful way."""
        self.messages += 1
        for event in self.parser.receive(data, recv_ms):
            if type(event) is Trade:
                self._arrived(event, actions)
            else:
                self._other(event, actions)

    def trade(self, trade: Trade) -> list[Action]:
        """Take one parsed trade whose ids are known to be in order: a replay's."""
        actions: list[Action] = []
        self._trade(trade, actions)
        return actions

    def fill(self, trades: Iterable[Trade]) -> list[Action]:
        """Take trades fetched for a gap: those still missing are used in their place, the others are repeats."""
        actions: list[Action] = []
        page = list(trades)
        for symbol in {trade.symbol for trade in page}:
            if symbol in self.states:
                self.states[symbol].own()  # the parser's followers are brought up to date with it
        for event in self.parser.fill(page):
            if type(event) is Trade:
                self._arrived(event, actions)
            else:
                self._other(event, actions)
        return actions

    def tick(self) -> list[Action]:
        """Judge the windows that were closed, and close those of silent symbols that are known to be whole.

        Call it a few times a second. A silent symbol that is to be asked about is among the `unsure` ones.
        """
        actions: list[Action] = []
        over_ms = self.newest_ms - SILENT_MS
        for state in self.states.values() if self.newest_ms else ():
            if over_ms < state.aggregator._close_at or state.waiting:
                continue
            sure_ms = over_ms if state.last_id < 0 else 0  # no ids: nothing to ask for
            if state.proven_id == state.last_id >= 0:
                sure_ms = min(over_ms, state.proven_ms)
            if state.unsure or sure_ms < state.aggregator._close_at:
                if over_ms - state.aggregator._close_at < HOPELESS_MS:
                    self._look_at_silent(state, over_ms)
                    continue
                state.catch_up()
                state.aggregator.mark_incomplete(state.last_ms, over_ms)
                sure_ms = over_ms
            self._close_silent(state, sure_ms, actions)
        self._judge(actions)
        return actions

    def _close_silent(self, state: SymbolState, sure_ms: int, actions: list[Action]) -> None:
        state.catch_up()
        if state.pump is not None:
            self._pumped(state.pump, state.pump.close(sure_ms), actions)
        windows = state.aggregator.flush(sure_ms)
        if windows:
            self._close(state, windows, actions)

    def _look_at_silent(self, state: SymbolState, over_ms: int) -> None:
        """Doubt a silent symbol whose window matters or has waited long: it is asked about then."""
        close_at = state.aggregator._close_at
        if state.unsure or (state.looked_ms == close_at and over_ms - close_at < ASK_MS):
            return
        state.own()
        state.hi = -1
        anomaly, state.looked_ms = state.anomaly, close_at
        suspicious = anomaly is not None and any(map(anomaly.would_flag, state.aggregator.due(over_ms)))
        state.unsure = suspicious or over_ms - close_at >= ASK_MS

    def finish(self) -> list[Action]:
        """Close every window: the recording is over."""
        actions: list[Action] = []
        for state in self.states.values():
            state.catch_up()
            if state.pump is not None:
                self._pumped(state.pump, state.pump.close(state.last_ms + 60_000), actions)
            self._close(state, state.aggregator.flush(None), actions)
        self._judge(actions)
        return actions

    def _other(self, event: StreamEvent, actions: list[Action]) -> None:
        if isinstance(event, Gap):
            if event.symbol in self.states and event.kind is self.kind:
                self.gaps += 1
                actions.append(FillGap(event))
        elif isinstance(event, Repeat):
            self.rejected["repeat"] += 1
        elif isinstance(event, SetAside):
            self.rejected[event.reason] += 1
            state = self.states.get(event.symbol)
            if state is not None and event.kind == self.kind:
                self._set_aside(state, event.id, actions)
        elif isinstance(event, Malformed):
            self.rejected[event.reason] += 1
        elif isinstance(event, Epoch):
            self.rejected["new_numbering" if event.back_to is None else "stray_id"] += 1
            state = self.states.get(event.symbol)
            if state is not None and event.kind == self.kind:
                self._renumber(state, event, actions)
        elif isinstance(event, ServerShutdown):
            actions.append(Reconnect("server_shutdown"))
        elif isinstance(event, Ignored):
            self.rejected[f"ignored:{event.kind}"] += 1
        elif not isinstance(event, Ack):
            self.rejected[f"not_used:{type(event).__name__}"] += 1
