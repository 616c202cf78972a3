"""The streamer's mind, without I/O: messages and time in, actions out.

One session holds every detector that lives on trades, for all symbols of one market. Windows are decided by the
exchange's time alone: a symbol's own trades close its windows, and `tick` closes those of a symbol that fell silent
once the newest trade of any symbol shows that their time is long over. The wall clock decides nothing.

Trades reach the detectors in the order of their ids. Behind a missing id the later ones wait, until it has come
(late, or fetched over REST) or is given up; so a shuffled or filled stream says what the whole one would have said.

Live and replay run this same class. What differs live: a model is fitted elsewhere and installed some windows later,
so the first windows after a fit are still judged by the model before it; a replay fits at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.detection.forest import FlatForest, score_many
from shared.detection.pump import PumpDetector, PumpReading
from shared.detection.reading import Status
from shared.detection.window_anomaly import FitRequest, WindowVerdict
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
from shared.exchange.binance.stream import StreamParser
from shared.market.model import Market, Trade, TradeKind, Window
from shared.settings import Settings
from streamer import hotpath
from streamer.actions import Action, EmitSignal, FillGap, FitModel, Reconnect, StoreWindows
from streamer.native import load as load_native
from streamer.symbol_state import SNAPSHOT_VERSION, SymbolState

SILENT_MS = 6_000
"""A silent symbol's window is closed by the others' time this long after its own would have: by then the watchdog
has noticed a stream that is not silent but broken."""
MOST_WAITING = 50_000  # trades of one symbol behind a hole; then the hole is given up
_MOST_NATIVE_TRADES, _MOST_NATIVE_SYMBOL, _MOST_NATIVE_COINS = 1_000, 64, 9e10  # what 64 bits and a row hold
REMEMBER_EVERY = 100  # windows learnt between two snapshots of a detector's memory


class Session:
    """Feed it in arrival order; execute what it returns in the order returned.

    Every input is accounted for: `trades` were used, `rejected` counts the rest by reason.
    """

    def __init__(
        self,
        settings: Settings,
        market: Market,
        symbols: Iterable[str],
        *,
        kind: TradeKind | None = None,
        together: bool = False,
    ) -> None:
        """Make a session that has seen nothing.

        Args:
            kind: the one kind of trades that is used, because sizes of the two are never mixed; None takes spot's
                from the settings, and aggregates on USD-M, whose single trades are undocumented.
            together: closed windows wait for the next `tick` and are judged all at once, which is far cheaper for
                hundreds of symbols whose windows end at the same instant.
        """
        if kind is None:
            kind = TradeKind(settings.streamer.trade_kind) if market is Market.SPOT else TradeKind.AGG_TRADE
        self._settings = settings
        self.market = market
        self.kind = kind
        self.parser = StreamParser(market)
        self.feed: Any | None = None
        native = load_native() if together else None
        if native is not None and settings.trade_spike.window_trades <= _MOST_NATIVE_TRADES:
            self.feed = native.Feed(self.kind.value.encode())
        self.rows: list[SymbolState] = []  # by the native loop's number
        self.states: dict[str, SymbolState] = {}
        for symbol in dict.fromkeys(symbols):
            self.states[symbol] = self._state(symbol)
        self._together = together
        self._at_once = not together
        self._closed: list[tuple[SymbolState, Window]] = []
        self.newest_ms = 0  # newest trade time of any symbol: the exchange's clock as we know it
        self.newest_recv_ms = 0  # when that trade was received
        self.messages = 0
        self.windows = 0
        self.gaps = 0
        self.rejected: Counter[str] = Counter()
        self.clock_ahead_ms = 0
        self._gone_trades = 0  # used from symbols that are not followed any more
        self._lost = 0

    def _state(self, symbol: str) -> SymbolState:
        return self._adopted(SymbolState(self._settings, self.market, symbol))

    def _adopted(self, state: SymbolState) -> SymbolState:
        """Give the state a row of the native loop, its symbol's own if there is one already."""
        name = state.symbol.encode()
        if self.feed is not None and len(name) <= _MOST_NATIVE_SYMBOL:
            row = next((at for at, other in enumerate(self.rows) if other.symbol == state.symbol), None)
            if row is None:
                row = self.feed.add(name, state.spike._size if state.spike is not None else 0)
                self.rows.append(state)
            else:
                self.rows[row] = state
            state.adopt(self.feed, row)
        return state

    def own_all(self) -> None:
        """Take every symbol back from the native loop."""
        for state in self.states.values():
            state.own()

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self.states)

    def set_clock_ahead(self, ahead_ms: int) -> None:
        """Tell by how much the exchange's clock is ahead of the one that stamps receipts."""
        self.clock_ahead_ms = ahead_ms
        self.parser.clock_ahead_ms = ahead_ms

    def add_symbol(self, symbol: str) -> None:
        """Follow one more symbol; nothing happens when it is followed already."""
        if symbol not in self.states:
            self.states[symbol] = self._state(symbol)

    def drop_symbol(self, symbol: str) -> None:
        """Follow a symbol no longer. Take its snapshot before, to let another task go on with it."""
        state = self.states.pop(symbol, None)
        if state is not None:
            state.own()
            self._gone_trades += state.seen
            self._closed = [item for item in self._closed if item[0] is not state]
            self.parser.forget(self.kind, symbol)

    # --- inputs -------------------------------------------------------------------------------------------------
    def receive_many(self, batch: list[bytes], recv_ms: int) -> list[Action]:
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

    def warm(self, trades: Iterable[Trade]) -> list[Action]:
        """Take past trades of one symbol in ascending order, before the stream's own.

        Trades at or before the symbol's position are left out, ids that the exchange no longer has become holes, and
        the stream continues behind the last one. What came after a restored position was missed and is signalled
        now; a symbol that begins here learns in silence.
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
        return [action for action in actions if not isinstance(action, EmitSignal)] if quiet else actions

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

    def trust(self, symbol: str, last_id: int) -> None:
        """Note that the exchange itself has nothing newer than `last_id`: a symbol that stands there is in no doubt."""
        state = self.states.get(symbol)
        if state is not None and state.unsure and state.last_id == last_id:
            state.unsure = False

    def unsure(self) -> list[tuple[str, int]]:
        """Return the symbols in doubt with their positions."""
        return [(state.symbol, state.last_id) for state in self.states.values() if state.unsure and not state.waiting]

    def tick(self) -> list[Action]:
        """Judge the windows that were closed, and close those that the newest trade of any symbol shows to be over.

        Call it a few times a second.
        """
        actions: list[Action] = []
        over_ms = self.newest_ms - SILENT_MS
        for state in self.states.values() if self.newest_ms else ():
            if state.unsure or state.waiting or over_ms < state.aggregator._close_at:
                continue
            state.catch_up()
            if state.pump is not None:
                self._pumped(state.pump, state.pump.close(over_ms), actions)
            windows = state.aggregator.flush(over_ms)
            if windows:
                self._close(state, windows, actions)
        self._judge(actions)
        return actions

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

    def install(self, symbol: str, model: FlatForest, request: FitRequest) -> None:
        """Judge the symbol's next windows with this model."""
        state = self.states.get(symbol)
        if state is not None and state.anomaly is not None:
            state.anomaly.install(model, request)
            state.changes += 1

    def give_up(self, symbol: str, request: FitRequest) -> None:
        """Note that a fit failed: it is asked for again with the next window."""
        state = self.states.get(symbol)
        if state is not None and state.anomaly is not None:
            state.anomaly.give_up(request)

    def due_fits(self) -> list[Action]:
        """Return the fits that were asked for before a restart and not installed; take them before the first trade."""
        fits: list[Action] = []
        for state in self.states.values():
            request = state.anomaly.fit_due() if state.anomaly is not None else None
            if request is not None:
                fits.append(FitModel(state.symbol, request))
        return fits

    # --- one event ----------------------------------------------------------------------------------------------
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
            self.rejected["new_numbering"] += 1
            state = self.states.get(event.symbol)
            if state is not None and event.kind == self.kind:
                self._renumber(state, actions)
        elif isinstance(event, ServerShutdown):
            actions.append(Reconnect("server_shutdown"))
        elif isinstance(event, Ignored):
            self.rejected[f"ignored:{event.kind}"] += 1
        elif not isinstance(event, Ack):
            self.rejected[f"not_used:{type(event).__name__}"] += 1

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

    def _renumber(self, state: SymbolState, actions: list[Action]) -> None:
        """The exchange began to number anew: what waited goes on in its old order, and the position begins anew."""
        state.own()
        waited, state.waiting, state.lost = state.waiting, {}, []
        if waited and state.hole_from_ms is None:
            state.hole_from_ms = state.last_ms
        for event_id in sorted(waited):
            trade = waited[event_id]
            if trade is not None:
                self._trade(trade, actions)
        state.last_id = -1
        state.changes += 1
        state.hi = -1

    # --- windows ------------------------------------------------------------------------------------------------
    def _close(self, state: SymbolState, windows: Sequence[Window], actions: list[Action]) -> None:
        self._closed.extend((state, window) for window in windows)
        if self._at_once:
            self._judge(actions)

    def _judge(self, actions: list[Action]) -> None:
        """Judge the closed windows, all with one walk through their forests. What is signalled stands before what is
        stored: a position is only kept when everything up to it has been said."""
        if not self._closed:
            return
        closed, self._closed = self._closed, []
        models: list[FlatForest] = []
        rows: list[tuple[float, ...]] = []
        seen: list[tuple[tuple[float, ...] | None, bool]] = []
        for state, window in closed:
            anomaly = state.anomaly
            row = anomaly.see(window) if anomaly is not None else None
            model = anomaly.model if anomaly is not None else None
            seen.append((row, row is not None and model is not None))
            if row is not None and model is not None:
                models.append(model)
                rows.append(row)
        scores = iter(score_many(models, rows).tolist() if models else ())
        verdicts: list[WindowVerdict] = []
        fits: list[Action] = []
        for (state, window), (row, scored) in zip(closed, seen, strict=True):
            self.windows += 1
            state.changes += 1
            anomaly = state.anomaly
            if anomaly is None:
                verdicts.append(WindowVerdict(window, None, None, None, Status.UNSCORABLE))
                continue
            verdict = anomaly.judge(window, row, next(scores) if scored else None)
            verdicts.append(verdict)
            signal = anomaly.signal(verdict)
            if signal is not None:
                actions.append(EmitSignal(signal))
            request = anomaly.fit_due()
            if request is not None:
                fits.append(FitModel(state.symbol, request))
        actions.append(StoreWindows(tuple(verdicts)))
        actions.extend(fits)

    # --- state kept across restarts -----------------------------------------------------------------------------
    def take_dirty(self, symbols: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """Return the snapshots of those symbols (None: all) that changed since they were last taken, msgpack-ready.

        A symbol with a closed window that is not judged yet is left out: its snapshot would have forgotten it.
        """
        unjudged = {id(state) for state, _ in self._closed}
        asked = self.states.values() if symbols is None else [self.states[s] for s in symbols if s in self.states]
        for state in asked:
            state.own()
        changed = [s for s in asked if s.seen + s.changes != s.taken and id(s) not in unjudged and s.last_ms]
        for state in changed:
            state.taken = state.seen + state.changes
        return {state.symbol: state.snapshot(self.kind.value) for state in changed}

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return the state of every symbol. The detectors' memories and the models are kept apart, they are big."""
        return {symbol: state.snapshot(self.kind.value) for symbol, state in self.states.items()}

    def take_memories(self, *, at_least: int = REMEMBER_EVERY, most: int = 2) -> dict[str, dict[str, Any]]:
        """Return memories (past windows and scores) that have grown by `at_least` windows since last taken, `most` of
        them: each takes a third of a millisecond. Take them right after a `tick`, which leaves no window unjudged."""
        taken: dict[str, dict[str, Any]] = {}
        for state in self.states.values() if not self._closed else ():
            if len(taken) >= most:
                break
            if state.anomaly is not None and state.anomaly.learnt - state.remembered >= at_least:
                state.remembered = state.anomaly.learnt
                taken[state.symbol] = self.memory(state.symbol)
        return taken

    def memory(self, symbol: str) -> dict[str, Any]:
        """Return a symbol's memory: `through_ms` is the start of the newest window in it."""
        state = self.states[symbol]
        return {
            "version": SNAPSHOT_VERSION,
            "through_ms": state.aggregator.newest_closed_ms,
            "anomaly": state.anomaly.snapshot() if state.anomaly is not None else None,
        }

    def restore(
        self,
        symbol: str,
        snapshot: Mapping[str, Any],
        model: tuple[bytes, int] | None = None,
        *,
        memory: Mapping[str, Any] | None = None,
        rows: Iterable[Mapping[str, Any]] = (),
    ) -> bool:
        """Continue from a snapshot of the same settings; False when it cannot be used, and nothing has changed.

        Args:
            model: the stored forest and the number of windows it was fitted after. One that cannot be read is left
                out and counted: it is fitted again.
            memory: what `memory` returned, at or before the snapshot's moment.
            rows: the stored windows behind the memory's, ascending.
        """
        if symbol not in self.states or snapshot.get("version") != SNAPSHOT_VERSION:
            return False
        if snapshot.get("kind") != self.kind.value:
            return False
        fresh = SymbolState(self._settings, self.market, symbol)
        try:
            fresh.restore(snapshot)
            if fresh.anomaly is not None and snapshot["anomaly"] is not None:
                if memory is not None and memory["version"] == SNAPSHOT_VERSION and memory["anomaly"] is not None:
                    fresh.anomaly.restore(memory["anomaly"])
                newest_ms = fresh.aggregator.newest_closed_ms
                for row in rows:
                    if row["status"] != Status.UNSCORABLE.value and row["start_ms"] <= newest_ms:
                        fresh.anomaly.relearn(tuple(row[name] for name in _COLUMNS), row["score"], row.get("end_ms"))
                fresh.anomaly.restore_counters(snapshot["anomaly"])
                fresh.remembered = memory["anomaly"]["learnt"] if memory is not None and memory["anomaly"] else 0
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            return False
        if fresh.anomaly is not None and model is not None:
            try:
                fresh.anomaly.load_model(*model)
            except ValueError:
                self.rejected["model_unusable"] += 1
        self.states[symbol] = self._adopted(fresh)
        self.newest_ms = max(self.newest_ms, fresh.last_ms)
        self._resume_parser(fresh)
        return True

    def _resume_parser(self, state: SymbolState) -> None:
        if state.last_id >= 0 and not state.waiting:
            self.parser.resume({f"{self.kind.value}:{state.symbol}": state.last_id})
            state.hi = -1

    # --- what the shell asks ------------------------------------------------------------------------------------
    def position(self, symbol: str) -> tuple[int | None, int]:
        """Return the newest id delivered and the newest trade time of a symbol."""
        state = self.states[symbol]
        state.own()
        return (state.last_id if state.last_id >= 0 else None), state.last_ms

    @property
    def loop(self) -> str:
        """Which batch loop takes the straightforward trades: `native` (C) or `python`."""
        return "python" if self.feed is None else "native"

    @property
    def trades(self) -> int:
        """Trades used since the start."""
        return self._gone_trades + sum(state.used for state in self.states.values())

    @property
    def missing(self) -> int:
        """Ids inside gaps that have not come."""
        return self._lost + sum(gap.size for gap in self.parser.missing())

    @property
    def lag_ms(self) -> int:
        """Receipt minus trade time of the newest trade, on the exchange's clock."""
        return self.newest_recv_ms + self.clock_ahead_ms - self.newest_ms if self.newest_recv_ms else 0

    def activity(self) -> dict[str, int]:
        """Return messages by symbol since the start: what the watchdog looks at."""
        return {symbol: state.heard for symbol, state in self.states.items()}

    def learning(self) -> dict[str, int]:
        """Return the windows learnt so far by each symbol that has no model yet."""
        return {
            symbol: state.anomaly.learnt
            for symbol, state in self.states.items()
            if state.anomaly is not None and state.anomaly.model is None
        }

    @property
    def models(self) -> int:
        """Symbols whose windows are judged by a model."""
        anomalies = (state.anomaly for state in self.states.values())
        return sum(1 for anomaly in anomalies if anomaly is not None and anomaly.model is not None)


_COLUMNS = ("trade_count", "volume", "avg_trade_size", "return", "volatility")
