"""The streamer's mind, without I/O: messages and time in, actions out.

One session holds every detector that lives on trades, for all symbols of one market. Windows are decided by the
exchange's time alone: a symbol's own trades close its windows, and `tick` closes those of a symbol that fell silent
once the newest trade of any symbol shows that their time is over. The wall clock decides nothing.

Live and replay run this same class. What differs live: a model is fitted elsewhere and installed some windows later,
so the first windows after a fit are still judged by the model before it; a replay fits at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shared.detection.forest import FlatForest
from shared.detection.reading import Status
from shared.detection.trade_spike import TradeSpikeDetector
from shared.detection.window_anomaly import FitRequest, WindowAnomalyDetector, WindowVerdict
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
from shared.market.windows import WindowAggregator, WindowConfig
from shared.settings import Settings
from streamer.actions import Action, EmitSignal, FillGap, FitModel, Reconnect, StoreWindows
from streamer.holes import Hole

SNAPSHOT_VERSION = 1


class _Symbol:
    """One symbol's state machines and counters."""

    __slots__ = (
        "add", "aggregator", "anomaly", "aside", "changes", "holes", "last_id", "last_ms", "seen", "spike", "step",
        "symbol", "taken",
    )  # fmt: skip

    def __init__(self, settings: Settings, market: Market, symbol: str) -> None:
        anomaly = settings.window_anomaly
        config = WindowConfig(
            window_ms=anomaly.window_seconds * 1000, lateness_ms=round(anomaly.lateness_seconds * 1000)
        )
        self.symbol = symbol
        self.aggregator = WindowAggregator(market, symbol, config)
        self.anomaly = WindowAnomalyDetector(anomaly, market, symbol) if anomaly.enabled else None
        self.spike = TradeSpikeDetector(settings.trade_spike, market, symbol) if settings.trade_spike.enabled else None
        self.add = self.aggregator.add  # bound once: they are called for every trade
        self.step = self.spike.step if self.spike is not None else None
        self.seen = 0  # trades used since the start
        self.aside = 0  # poison values: signs of life, of no use
        self.changes = 0  # everything else that changed the state: ids set aside, holes, windows, models
        self.taken = 0  # seen + changes when the last snapshot was taken
        self.last_id = -1  # newest id delivered, the position in the stream; -1: none
        self.last_ms = 0  # newest trade time, exchange
        self.holes: list[Hole] = []


class Session:
    """Feed it in arrival order; execute what it returns in the order returned.

    Every input is accounted for: `trades` were used, `rejected` counts the rest by reason.
    """

    def __init__(
        self, settings: Settings, market: Market, symbols: Iterable[str], *, kind: TradeKind | None = None
    ) -> None:
        """Make a session that has seen nothing.

        Args:
            kind: the one kind of trades that is used, because sizes of the two are never mixed; None takes spot's
                from the settings, and aggregates on USD-M, whose single trades are undocumented.
        """
        if kind is None:
            kind = TradeKind(settings.streamer.trade_kind) if market is Market.SPOT else TradeKind.AGG_TRADE
        self._settings = settings
        self.market = market
        self.kind = kind
        self.parser = StreamParser(market)
        self._states = {symbol: _Symbol(settings, market, symbol) for symbol in symbols}
        self.newest_ms = 0  # newest trade time of any symbol: the exchange's clock as we know it
        self.newest_recv_ms = 0  # when that trade was received
        self.messages = 0
        self.windows = 0
        self.gaps = 0
        self.missing = 0  # ids inside gaps that have not come
        self.rejected: Counter[str] = Counter()

        self.clock_ahead_ms = 0

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._states)

    def set_clock_ahead(self, ahead_ms: int) -> None:
        """Tell by how much the exchange's clock is ahead of the one that stamps receipts."""
        self.clock_ahead_ms = ahead_ms
        self.parser.clock_ahead_ms = ahead_ms

    # --- inputs -------------------------------------------------------------------------------------------------
    def receive(self, data: bytes, recv_ms: int) -> list[Action]:
        """Take one message as it came. Never raises for anything that a message can hold."""
        self.messages += 1
        actions: list[Action] = []
        for event in self.parser.receive(data, recv_ms):
            if type(event) is Trade:
                self._trade(event, actions)
            else:
                self._other(event, actions)
        return actions

    def trade(self, trade: Trade) -> list[Action]:
        """Take one parsed trade: a replay's, or one fetched over REST."""
        actions: list[Action] = []
        self._trade(trade, actions)
        return actions

    def warm(self, trades: Iterable[Trade]) -> list[Action]:
        """Take past trades of one symbol in ascending order: everything is learnt and nothing is signalled.

        Trades at or before the symbol's position are left out, ids that the exchange no longer has become holes, and
        the stream continues behind the last one.
        """
        actions: list[Action] = []
        for trade in trades:
            state = self._states.get(trade.symbol)
            if state is not None and state.last_id >= 0 and trade.trade_id is not None:
                if trade.trade_id <= state.last_id:
                    continue
                if trade.trade_id > state.last_id + 1:
                    self._open_hole(state, state.last_id + 1, trade.trade_id - 1)
            self._trade(trade, actions)
        for state in self._states.values():
            self._resume_parser(state)
        return [action for action in actions if not isinstance(action, EmitSignal)]

    def fill(self, trades: Iterable[Trade]) -> list[Action]:
        """Take trades fetched for a gap: those still missing are used as late trades, the others are repeats."""
        actions: list[Action] = []
        for event in self.parser.fill(trades):
            if type(event) is Trade:
                self._trade(event, actions)
            else:
                self._other(event, actions)
        return actions

    def tick(self) -> list[Action]:
        """Close the windows that the newest trade of any symbol shows to be over; call it a few times a second."""
        actions: list[Action] = []
        if self.newest_ms:
            for state in self._states.values():
                windows = state.aggregator.flush(self.newest_ms)
                if windows:
                    self._close(state, windows, actions)
        return actions

    def finish(self) -> list[Action]:
        """Close every window: the recording is over."""
        actions: list[Action] = []
        for state in self._states.values():
            self._close(state, state.aggregator.flush(None), actions)
        return actions

    def install(self, symbol: str, model: FlatForest, request: FitRequest) -> None:
        """Judge the symbol's next windows with this model."""
        state = self._states[symbol]
        if state.anomaly is not None:
            state.anomaly.install(model, request)
            state.changes += 1

    def give_up(self, symbol: str, request: FitRequest) -> None:
        """Note that a fit failed: it is asked for again with the next window."""
        anomaly = self._states[symbol].anomaly
        if anomaly is not None:
            anomaly.give_up(request)

    def due_fits(self) -> list[Action]:
        """Return the fits that were asked for before a restart and not installed; take them before the first trade."""
        fits: list[Action] = []
        for state in self._states.values():
            request = state.anomaly.fit_due() if state.anomaly is not None else None
            if request is not None:
                fits.append(FitModel(state.symbol, request))
        return fits

    # --- one event ----------------------------------------------------------------------------------------------
    def _trade(self, trade: Trade, actions: list[Action]) -> None:
        state = self._states.get(trade.symbol)
        if state is None:
            self.rejected["symbol_not_followed"] += 1
            return
        if trade.kind is not self.kind:
            self.rejected["other_kind"] += 1
            return
        state.seen += 1
        event_ms, trade_id = trade.event_ms, trade.trade_id
        if state.holes:
            self._hear(state, trade_id, event_ms)
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

    def _other(self, event: StreamEvent, actions: list[Action]) -> None:
        if isinstance(event, Gap):
            state = self._states.get(event.symbol)
            if state is not None and event.kind is self.kind:
                self._open_hole(state, event.first_id, event.last_id)
                actions.append(FillGap(event))
        elif isinstance(event, Repeat):
            self.rejected["repeat"] += 1
        elif isinstance(event, SetAside):
            self.rejected[event.reason] += 1
            state = self._states.get(event.symbol)
            if state is not None and event.kind == self.kind:
                self._set_aside(state, event.id)
        elif isinstance(event, Malformed):
            self.rejected[event.reason] += 1
        elif isinstance(event, Epoch):
            self.rejected["new_numbering"] += 1
            state = self._states.get(event.symbol)
            if state is not None and event.kind == self.kind:
                state.holes.clear()
                state.last_id = -1
        elif isinstance(event, ServerShutdown):
            actions.append(Reconnect("server_shutdown"))
        elif isinstance(event, Ignored):
            self.rejected[f"ignored:{event.kind}"] += 1
        elif not isinstance(event, Ack):
            self.rejected[f"not_used:{type(event).__name__}"] += 1

    def _set_aside(self, state: _Symbol, event_id: int) -> None:
        """A poison value: its id counts as seen, so that it opens no hole and moves the position."""
        state.aside += 1
        state.changes += 1
        if state.holes:
            self._hear(state, event_id, None)
        if event_id > state.last_id:
            state.last_id = event_id

    # --- windows ------------------------------------------------------------------------------------------------
    def _close(self, state: _Symbol, windows: Sequence[Window], actions: list[Action]) -> None:
        verdicts: list[WindowVerdict] = []
        fits: list[Action] = []
        for window in windows:
            if window.complete and any(hole.touches(window) for hole in state.holes):
                window = replace(window, complete=False)
            self.windows += 1
            if state.anomaly is None:
                verdicts.append(WindowVerdict(window, None, None, None, Status.UNSCORABLE))
                continue
            verdict = state.anomaly.step(window)
            verdicts.append(verdict)
            signal = state.anomaly.signal(verdict)
            if signal is not None:
                fits.append(EmitSignal(signal))
            request = state.anomaly.fit_due()
            if request is not None:
                fits.append(FitModel(state.symbol, request))
        if verdicts:
            state.changes += 1
            newest_end = windows[-1].end_ms
            state.holes = [hole for hole in state.holes if hole.to_ms is None or hole.to_ms >= newest_end]
            actions.append(StoreWindows(tuple(verdicts)))
            actions.extend(fits)

    def _open_hole(self, state: _Symbol, first_id: int, last_id: int) -> None:
        self.gaps += 1
        self.missing += last_id - first_id + 1
        state.holes.append(Hole(first_id, last_id, last_id - first_id + 1, state.last_ms, None))
        state.changes += 1

    def _hear(self, state: _Symbol, trade_id: int | None, event_ms: int | None) -> None:
        """A late trade shrinks its hole, a newer one bounds it in time. The parser lets no id pass twice."""
        if trade_id is None:
            return
        for hole in state.holes:
            if hole.first_id <= trade_id <= hole.last_id:
                hole.missing -= 1
                self.missing -= 1
            elif trade_id > hole.last_id and hole.to_ms is None and event_ms is not None:
                hole.to_ms = max(event_ms, hole.from_ms)
        state.holes = [hole for hole in state.holes if hole.missing > 0]

    # --- state kept across restarts -----------------------------------------------------------------------------
    def take_dirty(self, symbols: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """Return the snapshots of those symbols (None: all) that changed since they were last taken, msgpack-ready."""
        asked = self._states.values() if symbols is None else [self._states[symbol] for symbol in symbols]
        changed = [state for state in asked if state.seen + state.changes != state.taken]
        for state in changed:
            state.taken = state.seen + state.changes
        return {state.symbol: self._snapshot(state) for state in changed}

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return the state of every symbol: position, open windows, detectors. Models are kept apart, they are big."""
        return {symbol: self._snapshot(state) for symbol, state in self._states.items()}

    def restore(self, symbol: str, snapshot: Mapping[str, Any], model: tuple[bytes, int] | None = None) -> bool:
        """Continue from a snapshot of the same settings; False when it cannot be used, and nothing has changed.

        Args:
            model: the stored forest and the number of windows it was fitted after. One that cannot be read is left
                out and counted: it is fitted again.
        """
        state = self._states.get(symbol)
        if state is None or snapshot.get("version") != SNAPSHOT_VERSION or snapshot.get("kind") != self.kind.value:
            return False
        fresh = _Symbol(self._settings, self.market, symbol)
        try:
            fresh.aggregator.restore(snapshot["aggregator"])
            if fresh.spike is not None and snapshot["spike"] is not None:
                fresh.spike.restore(snapshot["spike"])
            if fresh.anomaly is not None and snapshot["anomaly"] is not None:
                fresh.anomaly.restore(snapshot["anomaly"])
            fresh.last_id = int(snapshot["last_id"])
            fresh.last_ms = int(snapshot["last_ms"])
            fresh.holes = [Hole(*parts) for parts in snapshot["holes"]]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            return False
        if fresh.anomaly is not None and model is not None:
            try:
                fresh.anomaly.load_model(*model)
            except ValueError:
                self.rejected["model_unusable"] += 1
        self._states[symbol] = fresh
        self.newest_ms = max(self.newest_ms, fresh.last_ms)
        self._resume_parser(fresh)
        return True

    def _snapshot(self, state: _Symbol) -> dict[str, Any]:
        return {
            "version": SNAPSHOT_VERSION,
            "kind": self.kind.value,
            "last_id": state.last_id,
            "last_ms": state.last_ms,
            "holes": [hole.to_list() for hole in state.holes],
            "aggregator": state.aggregator.snapshot(),
            "spike": state.spike.snapshot() if state.spike is not None else None,
            "anomaly": state.anomaly.snapshot() if state.anomaly is not None else None,
        }

    def _resume_parser(self, state: _Symbol) -> None:
        if state.last_id >= 0:
            self.parser.resume({f"{self.kind.value}:{state.symbol}": state.last_id})

    # --- what the shell asks ------------------------------------------------------------------------------------
    def position(self, symbol: str) -> tuple[int | None, int]:
        """Return the newest id delivered and the newest trade time of a symbol."""
        state = self._states[symbol]
        return (state.last_id if state.last_id >= 0 else None), state.last_ms

    @property
    def trades(self) -> int:
        """Trades used since the start."""
        return sum(state.seen for state in self._states.values())

    @property
    def lag_ms(self) -> int:
        """Receipt minus trade time of the newest trade, on the exchange's clock."""
        return self.newest_recv_ms + self.clock_ahead_ms - self.newest_ms if self.newest_recv_ms else 0

    def activity(self) -> dict[str, int]:
        """Return messages by symbol since the start: what the watchdog looks at."""
        return {symbol: state.seen + state.aside for symbol, state in self._states.items()}

    def learning(self) -> dict[str, int]:
        """Return the windows learnt so far by each symbol that has no model yet."""
        return {
            symbol: state.anomaly.learnt
            for symbol, state in self._states.items()
            if state.anomaly is not None and state.anomaly.model is None
        }

    @property
    def models(self) -> int:
        """Symbols whose windows are judged by a model."""
        anomalies = (state.anomaly for state in self._states.values())
        return sum(1 for anomaly in anomalies if anomaly is not None and anomaly.model is not None)
