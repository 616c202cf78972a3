"""Does what the session decides: signals, windows, fits and fills, in the order decided and off the read path."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from shared.detection.forest import FlatForest
from shared.detection.reading import Signal
from shared.detection.window_anomaly import FitRequest, WindowVerdict
from shared.exchange.binance.events import Gap
from shared.exchange.market_data import MarketData
from shared.market.model import Market, Trade
from shared.storage.lease import Lease
from streamer.actions import Action, EmitSignal, FillGap, FitModel, Reconnect, StoreWindows
from streamer.checkpointing import Checkpoints
from streamer.fitting import Fitter
from streamer.gaps import GapFiller
from streamer.gathering import Gathering
from streamer.ownership import Ownership
from streamer.remembering import REMEMBER_EVERY
from streamer.session import Session
from streamer.threads import OnLoop
from streamer.worker import Job, Worker

FILL_AFTER_S = 0.3  # a missing id often comes by itself: only a hole this old is asked for
PROBE_AFTER_S = 2.0  # a symbol in doubt that has not traded since its connection broke is asked about
_MOST_PROBES = 20
MODEL_EVERY = 10  # fits of which one is stored where writes are gathered; a successor fits what is older anew, at once
REMEMBER_SPARINGLY = 500  # windows between two stored memories there; the windows behind one are read again


class SignalSink(Protocol):
    """The part of `AlertService` that the streamer uses."""

    def handle(self, signal: Signal) -> object: ...


class Executor:
    """Called on the loop (or by the warm-up's thread before the session is live); what it begins comes back there.

    `session` returns the one that decides now; `reconnect` is told why; `lost` is called on the loop when a write was
    refused because another owner has taken over.
    """

    def __init__(
        self,
        session: Callable[[], Session],
        market_data: MarketData,
        alerts: SignalSink,
        checkpoints: Checkpoints,
        ownership: Ownership,
        gathering: Gathering,
        on_loop: OnLoop,
        *,
        reconnect: Callable[[str], None],
        lost: Callable[[], None],
    ) -> None:
        self._session = session
        self._alerts = alerts
        self._checkpoints = checkpoints
        self._ownership = ownership
        self.gathering = gathering
        self._on_loop = on_loop
        self._reconnect = reconnect
        self._lost = lost
        self._unsaved: set[str] = set()  # symbols without a stored position
        self._probed_s, self._probed = 0.0, 0
        self.worker = Worker("streamer-storage")
        self.fitter = Fitter()
        self.filler = GapFiller(market_data)
        self.signals: Counter[str] = Counter()
        self._fits: Counter[str] = Counter()
        self.left: Counter[str] = Counter()  # work left to another owner, by kind

    def start(self) -> None:
        self.worker.start()
        self.filler.start()

    def execute(self, actions: Iterable[Action], *, fit_now: bool = False) -> None:
        """Do or queue each action; `fit_now` fits on this thread."""
        session = self._session()
        for action in actions:
            if isinstance(action, EmitSignal):
                self.signals[action.signal.detector.value] += 1
                self.worker.offer(Job("signal", partial(self._say, action.signal)))
            elif isinstance(action, StoreWindows):
                self.gathering.add(action.verdicts, time.monotonic())
            elif isinstance(action, FitModel):
                if fit_now:
                    self._install(session, action.symbol, action.request.fit(), action.request)
                else:
                    self.fitter.submit(action, partial(self._fitted, session))
            elif isinstance(action, FillGap):
                # In a moment: the ids may still come by themselves.
                self._on_loop.later(FILL_AFTER_S, partial(self._fill, session, action.gap))
            elif isinstance(action, Reconnect):
                self._reconnect(action.reason)
        if self.gathering.due(time.monotonic()):
            self._flush(self.gathering.symbols)

    def begin_anew(self) -> None:
        """Let go of what the session has asked for that ends now: its successor does all of it itself."""
        self.worker.drop()
        self.gathering.take()
        self.fitter.drop()
        self.filler.drop()
        self._fits.clear()

    def _say(self, signal: Signal) -> None:
        self._as_owner("signal", lambda: self._alerts.handle(signal))

    def _as_owner(self, kind: str, write: Callable[[], object]) -> None:
        """Write while the lease is surely ours; a streamer that slept leaves it to its successor."""
        if self._ownership.fresh or self._ownership.confirm():
            write()
        else:
            self.left[kind] += 1

    # --- models -------------------------------------------------------------------------------------------------
    def _fitted(self, session: Session, symbol: str, model: FlatForest | None, request: FitRequest) -> None:
        if model is None:
            self._on_loop(lambda: session.give_up(symbol, request))
        else:
            self._on_loop(lambda: self._install(session, symbol, model, request))

    def _install(self, session: Session, symbol: str, model: FlatForest, request: FitRequest) -> None:
        if session is not self._session():
            return  # it ended while this was fitted, and the next one has windows and requests of its own
        session.install(symbol, model, request)
        state = session.states.get(symbol)
        if state is None or state.anomaly is None or state.anomaly.model is not model:
            return  # a newer one stands there already, and in the table
        self._fits[symbol] += 1
        if self.gathering.every_s and self._fits[symbol] % MODEL_EVERY != 1:
            return
        self._flush((symbol,))  # a successor must not find a model of windows that it has yet to close
        self.keep_model(symbol, model, request.after_n)

    def keep_model(self, symbol: str, model: FlatForest, after_n: int) -> None:
        write = partial(self._checkpoints.save_model, symbol, model, after_n)
        self.worker.offer(Job("model", partial(self._as_owner, "model", write)))

    def keep_memory(self, symbol: str, memory: Mapping[str, Any]) -> None:
        write = partial(self._checkpoints.save_memories, {symbol: memory})
        self.worker.offer(Job("memory", partial(self._as_owner, "memory", write)))

    # --- holes --------------------------------------------------------------------------------------------------
    def _fill(self, session: Session, gap: Gap) -> None:
        for part in session.parser.missing_of(gap) if session is self._session() else ():
            give_up = partial(self._late, session, session.abandon)
            self.filler.submit(part, partial(self._late, session, session.fill), give_up)

    def _late(self, session: Session, take: Callable[[Any], list[Action]], found: list[Trade] | Gap) -> None:
        """Tell a session what became of its hole, unless another has begun since, which fetches all that it misses."""

        def tell() -> None:
            if session is self._session():
                self.execute(take(found))

        self._on_loop(tell)

    def probe(self, market: Market, now_s: float, *, live: bool) -> None:
        """Ask over REST about symbols that have not traded since their connection broke, or for suspiciously long."""
        session = self._session()
        unsure = session.unsure()
        if not unsure or not live:
            self._probed_s = now_s
        elif now_s - self._probed_s >= PROBE_AFTER_S:
            self._probed_s = now_s
            first = self._probed % len(unsure)  # one that gets no answer must not stand before the others for ever
            self._probed += min(len(unsure), _MOST_PROBES)
            for symbol, last_id in (unsure[first:] + unsure[:first])[:_MOST_PROBES]:
                trust = partial(session.trust, symbol, last_id, session.newest_ms)
                feed = partial(self._late, session, session.fill)
                self.filler.probe(market, symbol, session.kind, last_id, feed, partial(self._told, trust))

    def _told(self, trust: Callable[[], None], newer: bool | None) -> None:
        if newer is False:
            self._on_loop(trust)

    def ask(self, market: Market, symbol: str, told: Callable[[bool | None], None]) -> None:
        """Ask over REST whether a symbol has traded since its position; `told` hears it on the loop, None: unknown."""
        session = self._session()
        state = session.states.get(symbol)
        last_id = session.position(symbol)[0] if state is not None else None
        if last_id is None:
            told(None)
        else:
            feed = partial(self._late, session, session.fill)
            self.filler.probe(
                market, symbol, session.kind, last_id, feed, lambda newer: self._on_loop(partial(told, newer))
            )

    # --- what is kept -------------------------------------------------------------------------------------------
    def unsaved(self, symbols: Iterable[str]) -> None:
        """Note which of these symbols have no stored position."""
        self._unsaved.update(s for s in symbols if self._session().position(s)[0] is None)

    def forget(self, symbols: Iterable[str]) -> None:
        self._unsaved.difference_update(symbols)

    def save_first_positions(self) -> None:
        """Store the symbols that have traded and never had a position stored: the next one would only come with a
        closed window, and a kill before it would lose what was found since the start."""
        begun = [symbol for symbol in self._unsaved if self._session().position(symbol)[0] is not None]
        snapshots = self._session().take_dirty(begun) if begun else {}
        self._unsaved.difference_update(snapshots)
        self.save((), snapshots)

    def save_memories(self) -> None:
        every = REMEMBER_SPARINGLY if self.gathering.every_s else REMEMBER_EVERY
        memories = self._session().take_memories(at_least=every)
        if memories:
            self._flush(memories)  # a memory must not know a window that is not stored
            write = partial(self._checkpoints.save_memories, memories)
            self.worker.offer(Job("memory", partial(self._as_owner, "memory", write), keep=False))

    def _flush(self, symbols: Iterable[str]) -> None:
        """Store what these symbols have gathered, with their positions."""
        gathered = self.gathering.take(symbols)
        if gathered:
            names = dict.fromkeys(verdict.window.symbol for verdict in gathered)
            self.save(gathered, self._session().take_dirty(names))

    def save(self, verdicts: Sequence[WindowVerdict], snapshots: dict[str, dict[str, Any]]) -> None:
        """Queue closed windows and positions, behind the signals of the trades that they cover."""
        verdicts = [*self.gathering.take(snapshots), *verdicts]  # no position goes ahead of its windows
        if verdicts or snapshots:
            lease = self._ownership.lease
            self.worker.offer(Job("windows", lambda: self._store(verdicts, snapshots, lease)))

    def _store(
        self, verdicts: Sequence[WindowVerdict], snapshots: dict[str, dict[str, Any]], lease: Lease | None
    ) -> None:
        if lease is None or not self._checkpoints.save(verdicts, snapshots, lease):
            self.left["windows"] += 1
            self._on_loop(partial(self._refused, lease))

    def _refused(self, lease: Lease | None) -> None:
        """Lose the lease. A write under an earlier one that storage answers late says nothing of the present one."""
        now = self._ownership.lease
        if now is None or (lease is not None and lease.fence == now.fence):
            self._lost()
