"""Trades reach the detectors in the order of their ids, each once, whatever order they came in.

Behind a missing id the later ones wait, until it has come or is given up. After a broken connection a symbol is in
doubt until it has traded again.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.detection.pump import PumpDetector, PumpReading
from shared.exchange.binance.events import Epoch, Gap
from shared.market.model import Trade
from streamer.actions import Action, EmitSignal
from streamer.remembering import Remembering
from streamer.symbol_state import SymbolState

MOST_WAITING = 50_000  # trades of one symbol behind a hole; then the hole is given up
_MOST_NATIVE_COINS = 9e10  # what 64 bits hold


class Ordering(Remembering):
    """Knows what waits, what is lost and what is in doubt; gives each trade to its detectors in its turn."""

    def _arrived(self, trade: Trade, actions: list[Action]) -> None:
        """Give a trade to the detectors in its turn."""
        state = self.states.get(trade.symbol)
        trade_id = trade.trade_id
        if state is None or trade.kind is not self.kind or trade_id is None:
            self._trade(trade, actions)
            return
        state.own()
        state.hi = -1
        if trade_id <= state.last_id or state.last_id < 0 or (trade_id == state.last_id + 1 and not state.waiting):
            state.unsure = False
            self._trade(trade, actions)
            return
        if trade.event_ms > self.newest_ms:
            self.newest_ms, self.newest_recv_ms = trade.event_ms, trade.recv_ms
        self._wait(state, trade_id, trade, actions)

    def _wait(self, state: SymbolState, event_id: int, trade: Trade | None, actions: list[Action]) -> None:
        state.waiting[event_id] = trade
        if len(state.waiting) > MOST_WAITING:
            first, last = state.last_id + 1, min(state.waiting) - 1
            self.parser.abandon(Gap(self.market, state.symbol, self.kind, first, last))
            self._lost += last - first + 1
            state.give_up(first, last)
        self._drain(state, actions)

    def _drain(self, state: SymbolState, actions: list[Action]) -> None:
        """Give to the detectors what need not wait any longer."""
        state.hi = -1
        while state.waiting:
            next_id = state.last_id + 1
            if next_id in state.waiting:
                state.unsure = False
                trade = state.waiting.pop(next_id)
                if trade is None:
                    state.last_id = next_id
                else:
                    self._trade(trade, actions)
                continue
            lost = state.next_lost()
            if lost is None:
                return
            self._hole(state, lost)
        state.lost = [part for part in state.lost if part[1] > state.last_id]

    def _hole(self, state: SymbolState, last_id: int) -> None:
        """Pass over ids that will not come; the trade behind them says where the hole ends in time."""
        if state.hole_from_ms is None:
            state.hole_from_ms = state.last_ms
        state.last_id = last_id
        state.changes += 1
        state.hi = -1

    def _trade(self, trade: Trade, actions: list[Action]) -> None:
        state = self.states.get(trade.symbol)
        if state is None:
            self.rejected["symbol_not_followed"] += 1
            return
        if trade.kind is not self.kind:
            self.rejected["other_kind"] += 1
            return
        if state.row >= 0:
            state.own()
            if trade.quantity >= _MOST_NATIVE_COINS:
                state.detach()
        state.seen += 1
        state.hi = -1
        event_ms, trade_id = trade.event_ms, trade.trade_id
        if state.hole_from_ms is not None:
            state.aggregator.mark_incomplete(state.hole_from_ms, max(event_ms, state.hole_from_ms))
            state.hole_from_ms = None
        if state.last_ms > state.aggregator._horizon:
            state.aggregator._horizon = state.last_ms
        if event_ms > state.last_ms:
            state.last_ms = event_ms
            if event_ms > self.newest_ms:
                self.newest_ms = event_ms
                self.newest_recv_ms = trade.recv_ms
        if trade_id is not None and trade_id > state.last_id:
            state.last_id = trade_id
        windows = state.add(trade)
        if windows:
            self._close(state, windows, actions)
        if state.step is not None:
            reading = state.step(trade)
            if reading is not None and state.spike is not None:
                actions.append(EmitSignal(state.spike.signal(reading)))
        if state.pump is not None:
            self._pumped(state.pump, state.pump.step(trade), actions)

    def _pumped(self, pump: PumpDetector, reading: PumpReading | None, actions: list[Action]) -> None:
        signal = pump.signal(reading) if reading is not None else None
        if signal is not None:
            actions.append(EmitSignal(signal))

    def _set_aside(self, state: SymbolState, event_id: int, actions: list[Action]) -> None:
        """A poison value: its id counts as seen, so that it opens no hole and moves the position."""
        state.own()
        state.aside += 1
        state.changes += 1
        state.hi = -1
        if event_id <= state.last_id:
            return
        if state.last_id < 0 or (event_id == state.last_id + 1 and not state.waiting):
            state.last_id = event_id
            state.unsure = False
        else:
            self._wait(state, event_id, None, actions)

    def _renumber(self, state: SymbolState, epoch: Epoch, actions: list[Action]) -> None:
        """The exchange began to number anew: what waited goes on in its old order, and the position begins anew.

        Behind a stray id it goes back to the last trade before it: those since then are a hole like any other.
        """
        state.own()
        waited, state.waiting, state.lost = state.waiting, {}, []
        if waited and state.hole_from_ms is None:
            state.hole_from_ms = state.last_ms
        for event_id in sorted(waited):
            trade = waited[event_id]
            if trade is not None:
                self._trade(trade, actions)
        if epoch.back_to is None:
            state.last_id = -1
        elif state.last_id > epoch.back_to:
            state.last_id = epoch.back_to
            self._lost -= epoch.recovered
        state.changes += 1
        state.hi = -1

    # --- the past, holes and doubt ------------------------------------------------------------------------------
    def warm(self, trades: Iterable[Trade], *, tell: bool = False) -> list[Action]:
        """Take past trades of one symbol in ascending order, before the stream's own.

        Trades at or before the symbol's position are left out, ids that the exchange no longer has become holes, and
        the stream continues behind the last one. What came after a restored position was missed and is signalled
        now; a symbol that begins here learns in silence, unless its caller asks to be told.
        """
        actions: list[Action] = []
        quiet, touched = True, set()
        self._at_once = True  # page by page a symbol goes through hours: a fit must not wait for the next tick
        for trade in trades:
            state = self.states.get(trade.symbol)
            if state is not None and trade.trade_id is not None:
                state.own()
                quiet = not state.restored
                if state.last_id >= 0:
                    if trade.trade_id <= state.last_id:
                        continue
                    if trade.trade_id > state.last_id + 1:
                        self.gaps += 1
                        self._lost += trade.trade_id - state.last_id - 1
                        self._hole(state, trade.trade_id - 1)
                state.unsure = False
                touched.add(trade.symbol)
            self._trade(trade, actions)
        self._at_once = not self._together
        for symbol in touched:
            self._resume_parser(self.states[symbol])
        if tell or not quiet:
            return actions
        return [action for action in actions if not isinstance(action, EmitSignal)]

    def abandon(self, gap: Gap) -> list[Action]:
        """Give up what is still missing of a gap: its windows are incomplete, and what waited behind it goes on."""
        actions: list[Action] = []
        state = self.states.get(gap.symbol)
        if state is None or gap.kind is not self.kind:
            return actions
        state.own()
        for part in self.parser.missing_of(gap):
            self._lost += self.parser.abandon(part)
            state.give_up(part.first_id, part.last_id)
        self._drain(state, actions)
        return actions

    def doubt(self, symbols: Iterable[str]) -> None:
        """Note that these symbols' connection broke: trades may be missing that no id has shown yet.

        Only a symbol's own next trade closes its windows now, for the others' time proves nothing.
        """
        for symbol in symbols:
            state = self.states.get(symbol)
            if state is not None:
                state.own()
                state.unsure = state.last_id >= 0
                state.hi = -1

    def trust(self, symbol: str, last_id: int, asked_ms: int) -> None:
        """Note that the exchange itself has nothing newer than `last_id`: a symbol that stands there is in no doubt.

        Args:
            asked_ms: the exchange's time (`newest_ms`) when it was asked.
        """
        state = self.states.get(symbol)
        if state is not None and state.unsure and state.last_id == last_id:
            state.unsure = False
            state.proven_ms, state.proven_id = asked_ms, last_id

    def unsure(self) -> list[tuple[str, int]]:
        """Return the symbols in doubt with their positions."""
        return [(state.symbol, state.last_id) for state in self.states.values() if state.unsure and not state.waiting]
