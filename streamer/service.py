"""The streamer: connections, session, storage and alerts held together on one event loop.

The loop reads and decides; it never waits for storage, the exchange's REST side or a fit. Those run in threads of
their own and come back through the loop, which alone owns the session.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from shared.clock import HOUR_MS, Clock
from shared.detection.forest import FlatForest
from shared.detection.reading import Signal
from shared.detection.window_anomaly import FitRequest, WindowVerdict
from shared.errors import ExchangeError, TapewatchError
from shared.exchange.binance.endpoints import commands, plan_connections, stream_name
from shared.exchange.binance.events import Gap
from shared.exchange.market_data import MarketData
from shared.market.model import Market, Trade
from shared.settings import Settings
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.lease import Lease
from shared.storage.readings import ReadingRepository
from shared.storage.table import Table, Value
from streamer import liquidations
from streamer.actions import Action, EmitSignal, FillGap, FitModel, Reconnect, StoreWindows
from streamer.backoff import AttemptBudget
from streamer.checkpointing import Checkpoints
from streamer.connection import Connector
from streamer.fitting import Fitter
from streamer.gaps import GapFiller
from streamer.health import Health, judge
from streamer.liquidations import LiquidationSums
from streamer.liquidations import Rows as LiquidationRows
from streamer.ownership import Ownership, new_owner
from streamer.picows_connection import PicowsConnector
from streamer.session import Session
from streamer.supervisor import Supervisor
from streamer.threads import in_daemon_thread
from streamer.warmup import PastTrades, Position, warm_up
from streamer.watchdog import Watchdog
from streamer.worker import Job, Worker

logger = logging.getLogger(__name__)

TICK_S = 0.25
FILL_AFTER_S = 0.3  # a missing id often comes by itself: only a hole this old is asked for
PROBE_AFTER_S = 2.0  # a symbol in doubt that has not traded since its connection broke is asked about
LAG_MS = 5_000  # further behind than this, the stream is dropped and what it held is fetched over REST
LAG_S = 3.0
HELD_MESSAGES = 500_000  # that many wait at most while the past is fetched, some 100 MB; then the past is cut short
COMPONENT = "streamer"
LIQUIDATIONS = "liquidations"  # the kind under which the sector job reads the minute sums
LISTING_S = 300.0
_NO_LAG_MS = 1 << 60


class SignalSink(Protocol):
    """The part of `AlertService` that the streamer uses."""

    def handle(self, signal: Signal) -> object: ...


class StreamerService:
    """Runs until told to stop; `run` on an event loop, or `run_in_thread` / `stop` around it.

    Args:
        clock: the exchange's time as far as we know it; stamps receipts and heartbeats. Waiting and watching use
            the machine's monotonic time.
        symbols: instead of the settings' spot symbols.
        progress: told the status about once a second, on the loop's thread; must be quick.
        connector: how connections are opened; picows by default.
        owner: the name under which the lease is held. Another run under the same name goes on at once, so only who
            is alone by other means (a locked state file) may give one.
        listing: asked every few minutes which symbols are to be streamed now; they come and go without a restart.
    """

    def __init__(
        self,
        settings: Settings,
        market_data: MarketData,
        alerts: SignalSink,
        table: Table,
        clock: Clock,
        *,
        symbols: Sequence[str] | None = None,
        progress: Callable[[dict[str, Any]], None] | None = None,
        connector: Connector | None = None,
        market: Market = Market.SPOT,
        owner: str | None = None,
        listing: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._settings = settings
        self._market_data = market_data
        self._alerts = alerts
        self._clock = clock
        self._progress = progress
        self._connector = connector or PicowsConnector(clock.now_ms)
        self._market = market
        self._symbols = tuple(symbols or settings.universe.spot_symbols)
        self.session = self._new_session()
        self._heartbeats = HeartbeatRepository(table)
        self._checkpoints = Checkpoints(table, market, retention_s=settings.storage.retention_days * 86_400)
        shards = settings.streamer
        lease_name = f"streamer/{market.value}/{shards.shard_index}of{shards.shards}"
        self.ownership = Ownership(table, lease_name, owner or new_owner(), shards.lease_seconds)
        self._listing = listing
        self._readings = ReadingRepository(table, retention_s=settings.storage.retention_days * 86_400)
        with_futures = market is Market.SPOT and settings.sector.enabled and bool(settings.sectors)
        self._with_liquidations = settings.streamer.liquidations and with_futures and shards.shard_index == 0
        self.liquidations = LiquidationSums(self._store_liquidations)
        self._owning = False
        self._lost: asyncio.Event | None = None
        self._worker = Worker("streamer-storage")
        self._fitter = Fitter(self._fitted)
        self._filler = GapFiller(market_data, self._feed_late, self._give_up)
        self._supervisors: list[tuple[Supervisor, Watchdog, tuple[str, ...]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._stopping = threading.Event()
        self._owned = threading.Lock()  # held by the warm-up thread while it feeds the session
        self._held: deque[tuple[list[bytes], int]] | None = deque()  # what waits for the warm-up; None once live
        self._held_messages = 0
        self._running = False
        self._error: BaseException | None = None
        self._signals: Counter[str] = Counter()
        self._internal_errors = 0
        self._beat_ms = 0
        self._beat_messages = -1
        self._takeovers = 0
        self._left: Counter[str] = Counter()  # work left to another owner, by kind
        self._recv_before = 0
        self._unsaved: set[str] = set()  # symbols without a stored position
        self._lag_since_s: float | None = None
        self._least_lag_ms = _NO_LAG_MS
        self._lag_drops = 0
        self._probed_s = 0.0
        self._rate: list[tuple[float, int]] = []
        self._restored = 0
        self._warmup: dict[str, Any] = {"state": "off"}

    # --- life ---------------------------------------------------------------------------------------------------
    async def run(self, stop: asyncio.Event, *, flush_within_s: float = 2.0) -> None:
        """Stream until `stop` is set; then store what is queued, for `flush_within_s` at most.

        Raises:
            StorageError: the stored state cannot be read at the start.
            ConfigurationError: a symbol or stream that the exchange cannot have.
        """
        self._loop, self._stop, self._running = asyncio.get_running_loop(), stop, True
        self._worker.start()
        self._filler.start()
        working = asyncio.create_task(self._own_for_ever())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            self._stopping.set()
            stop.set()
            working.cancel()
            stopping.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)
            self._fitter.stop()
            self._filler.stop()
            self._finish(flush_within_s)
            self.ownership.release()
            self._running = False

    async def _own_for_ever(self) -> None:
        """Wait for the lease, stream while it is ours, and begin anew beside whoever took it over."""
        while True:
            await in_daemon_thread(self._acquire)
            if self._stopping.is_set():
                return
            self._owning = True
            self._lost = lost = asyncio.Event()
            self.ownership.keep(lambda: self._on_loop(lost.set))  # noqa: B023 - the one of this turn
            working = asyncio.create_task(self._work())
            losing = asyncio.create_task(lost.wait())
            try:
                await asyncio.wait((working, losing), return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()
            finally:
                working.cancel()
                losing.cancel()
                await asyncio.gather(working, losing, return_exceptions=True)
            self._owning = False
            self._takeovers += 1
            logger.warning("lease_lost", extra={"reason": "another streamer has taken over"})
            self._worker.drop()
            self._supervisors = []
            self._held, self._held_messages = deque(), 0
            self.session = self._new_session()

    def _acquire(self) -> None:
        self.ownership.acquire(self._stopping.is_set, self._stopping.wait)

    def _new_session(self) -> Session:
        return Session(self._settings, self._market, self._symbols, together=True)

    async def _work(self) -> None:
        await in_daemon_thread(self._prepare)
        self._plan()
        try:
            async with asyncio.TaskGroup() as tasks:
                for supervisor, _, _ in self._supervisors:
                    # Ended by cancelling only: told twice to end, a supervisor could not say goodbye.
                    tasks.create_task(supervisor.run(asyncio.Event()))
                tasks.create_task(self._learn_and_live())
                tasks.create_task(self._tick_for_ever())
                if self._with_liquidations:
                    tasks.create_task(self._hear_liquidations())
                if self._listing is not None:
                    tasks.create_task(self._follow_listing(self._listing))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def run_in_thread(self) -> None:
        """Run on a thread of its own; returns at once. An error that ended it is in `status()["error"]`."""

        def main() -> None:
            async def body() -> None:
                stop = asyncio.Event()
                if not self._stopping.is_set():
                    await self.run(stop)

            try:
                asyncio.run(body())
            except BaseException as exc:
                self._error = exc
                logger.exception("streamer_ended")

        self._thread = threading.Thread(target=main, name="streamer", daemon=True)
        self._thread.start()

    def stop(self, within_s: float = 3.0) -> bool:
        """End the thread; True when it ended cleanly in time."""
        self._stopping.set()
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # it closed between the two lines: it has ended
                loop.call_soon_threadsafe(stop.set)
        if self._thread is None:
            return True
        self._thread.join(within_s)
        return not self._thread.is_alive() and self._error is None

    def _prepare(self) -> None:
        """Read the stored state and compare the clocks, before the first connection."""
        self._restored, unusable = self._checkpoints.restore(self.session)
        self._unsaved = {symbol for symbol in self.session.symbols if self.session.position(symbol)[0] is None}
        if unusable:
            self.session.rejected["checkpoint_unusable"] += len(unusable)
        self._execute(self.session.due_fits(), fit_now=True)
        try:
            self.session.set_clock_ahead(self._market_data.server_time_ms(self.session.market) - self._clock.now_ms())
        except ExchangeError as exc:
            logger.warning("server_time_unknown", extra={"reason": str(exc)})

    def _plan(self) -> None:
        settings = self._settings
        base = settings.exchange.spot_ws_url if self.session.market is Market.SPOT else settings.exchange.futures_ws_url
        names = {stream_name(symbol, self.session.kind.value): symbol for symbol in self.session.symbols}
        budget = AttemptBudget()  # the exchange counts attempts by address, so all connections share one
        now_s = time.monotonic()
        for plan in plan_connections(base, self.session.market, names):
            symbols = tuple(names[name] for name in plan.streams)
            supervisor = Supervisor(
                plan,
                self._connector,
                self._on_messages,
                attempts=budget,
                renew_s=settings.streamer.renew_hours * 3600,
                on_break=partial(self._broken, len(self._supervisors)),
            )
            watchdog = Watchdog(settings.streamer.watchdog_seconds, symbols, now_s)
            self._supervisors.append((supervisor, watchdog, symbols))

    def _broken(self, number: int) -> None:
        """A connection ended: its symbols may miss trades that no id has shown yet."""
        self.session.doubt(self._supervisors[number][2])

    # --- liquidations -------------------------------------------------------------------------------------------
    async def _hear_liquidations(self) -> None:
        """Carry the futures connection; its troubles are its own and leave the trades alone."""
        self.liquidations = sums = LiquidationSums(self._store_liquidations)
        (plan,) = plan_connections(
            self._settings.exchange.futures_ws_url, Market.USDM, (liquidations.STREAM, liquidations.PULSE)
        )
        supervisor = Supervisor(
            plan,
            self._connector,
            sums.receive_many,
            attempts=AttemptBudget(),
            renew_s=self._settings.streamer.renew_hours * 3600,
            on_break=sums.broken,
        )
        carrying = asyncio.create_task(supervisor.run(asyncio.Event()))
        try:
            heard, since_s = 0, time.monotonic()
            while not carrying.done():
                await asyncio.sleep(1.0)
                if sums.heard_ms != heard or supervisor.state != "live":
                    heard, since_s = sums.heard_ms, time.monotonic()
                elif time.monotonic() - since_s > 2 * liquidations.DEAF_MS / 1000:
                    supervisor.replace("silent: liquidations")
                    since_s = time.monotonic()
        finally:
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)

    def _store_liquidations(self, minute_ms: int, rows: LiquidationRows) -> None:
        self._worker.offer(Job("liquidations", partial(self._readings.put, LIQUIDATIONS, minute_ms, rows)))

    # --- symbols come and go ------------------------------------------------------------------------------------
    async def _follow_listing(self, listing: Callable[[], Sequence[str]]) -> None:
        while True:
            await asyncio.sleep(LISTING_S)
            asked: list[Sequence[str]] = []

            def ask(asked: list[Sequence[str]] = asked) -> None:
                try:
                    asked.append(listing())
                except TapewatchError as exc:  # the old symbols stay; the next look is soon
                    logger.warning("listing_unknown", extra={"reason": str(exc)})

            await in_daemon_thread(ask)
            if asked and self._held is None:
                self.follow(asked[0])

    def follow(self, symbols: Sequence[str]) -> None:
        """Stream these symbols from now on; on the loop's thread. Those that stay notice nothing."""
        session = self.session
        gone = [symbol for symbol in session.symbols if symbol not in set(symbols)]
        new = [symbol for symbol in symbols if symbol not in session.states]
        if not gone and not new:
            return
        logger.info("symbols_changed", extra={"gone": gone, "new": new})
        if gone:
            self._execute(session.tick())
            self._save((), session.take_dirty(gone))
        for symbol in gone:
            session.drop_symbol(symbol)
        self._unsaved.difference_update(gone)
        for symbol in new:
            session.add_symbol(symbol)
        if new:
            self._checkpoints.restore(session, new)
            session.doubt(new)
            self._unsaved.update(s for s in new if session.position(s)[0] is None)
        self._symbols = session.symbols
        names = {stream_name(symbol, session.kind.value): symbol for symbol in session.symbols}
        base = self._base_url()
        plans = plan_connections(base, session.market, names)
        if len(plans) != len(self._supervisors):
            return  # more than one connection's streams came or went at once: the next reconnect carries them
        changed = {symbol: stream_name(symbol, session.kind.value) for symbol in (*gone, *new)}
        for at, (plan, (supervisor, watchdog, before)) in enumerate(zip(plans, self._supervisors, strict=True)):
            now = tuple(names[name] for name in plan.streams)
            left = [changed.get(s) or stream_name(s, session.kind.value) for s in before if s not in now]
            joined = [stream_name(s, session.kind.value) for s in now if s not in before]
            supervisor.replan(plan, [*commands("SUBSCRIBE", joined), *commands("UNSUBSCRIBE", left)])
            watchdog.follow(now, time.monotonic())
            self._supervisors[at] = (supervisor, watchdog, now)

    def _base_url(self) -> str:
        exchange = self._settings.exchange
        return exchange.spot_ws_url if self.session.market is Market.SPOT else exchange.futures_ws_url

    def _finish(self, within_s: float) -> None:
        """Store the last state behind everything that is still queued."""
        if self._owning and self._owned.acquire(timeout=1.0):  # a page of the past may just be going in
            self._execute(self.session.tick())
            self._save((), self.session.take_dirty())
            self._owned.release()
            self._beat(final=True)
        if not self._worker.stop(within_s):
            dropped, reason = dict(self._worker.dropped), self._worker.error
            logger.error("flush_incomplete", extra={"dropped": dropped, "reason": reason})

    # --- past trades --------------------------------------------------------------------------------------------
    async def _learn_and_live(self) -> None:
        """Fetch the past while the stream's messages wait, then take them in and go live."""
        if self._settings.streamer.warmup_trades:
            await in_daemon_thread(self._warm_up)
        while self._held:
            for _ in range(min(20, len(self._held))):
                batch, recv_ms = self._held.popleft()
                self._held_messages -= len(batch)
                self._receive(batch, recv_ms)
            await asyncio.sleep(0)  # what arrives now waits behind what is still held
        self._held = None
        if self._settings.window_anomaly.enabled:
            self._fitter.prepare(_load_fitting)

    def _warm_up(self) -> None:
        session, settings = self.session, self._settings
        self._warmup = {"state": "running", "symbols": len(session.symbols), "done": 0, "trades": 0}

        def position(symbol: str) -> Position:
            return Position(*session.position(symbol))

        def feed(symbol: str, page: list[Trade]) -> None:
            with self._owned:
                if not self._stopping.is_set():
                    self._warmup["trades"] += len(page)
                    self._execute(session.warm(page), fit_now=True)

        def progress(symbol: str, done: int, total: int) -> None:
            self._warmup["done"] = done

        past = PastTrades(self._market_data, session.market, session.kind, self._enough)
        since_ms = self._clock.now_ms() + session.clock_ahead_ms - round(settings.streamer.warmup_hours * HOUR_MS)
        refused = warm_up(
            past,
            session.symbols,
            position=position,
            since_ms=since_ms,
            feed=feed,
            wait=self._stopping.wait,
            progress=progress,
        )
        self._warmup["state"] = "done" if refused is None else "not_served"
        if refused is not None:
            self._warmup["reason"] = refused.reason
            logger.warning("past_trades_not_served", extra={"reason": refused.reason})

    def _enough(self) -> bool:
        return not self._owning or self._stopping.is_set() or self._held_messages >= HELD_MESSAGES

    # --- messages and actions -----------------------------------------------------------------------------------
    def _on_messages(self, batch: list[bytes], recv_ms: int) -> None:
        if self._held is not None:
            self._held.append((batch, recv_ms))
            self._held_messages += len(batch)
        else:
            self._receive(batch, recv_ms)

    def _receive(self, batch: list[bytes], recv_ms: int) -> None:
        try:
            actions = self.session.receive_many(batch, recv_ms)
        except Exception:  # one message must not stop the others; the count shows that ours is the fault
            self._internal_errors += 1
            if self._internal_errors == 1:
                logger.exception("message_failed")
            return
        if actions:
            self._execute(actions)

    def _execute(self, actions: list[Action], *, fit_now: bool = False) -> None:
        for action in actions:
            if isinstance(action, EmitSignal):
                self._signals[action.signal.detector.value] += 1
                self._worker.offer(Job("signal", partial(self._say, action.signal)))
            elif isinstance(action, StoreWindows):
                symbols = dict.fromkeys(verdict.window.symbol for verdict in action.verdicts)
                self._save(action.verdicts, self.session.take_dirty(symbols))
            elif isinstance(action, FitModel):
                if fit_now:
                    self._install(action.symbol, action.request.fit(), action.request)
                else:
                    self._fitter.submit(action)
            elif isinstance(action, FillGap):
                self._fill_later(action.gap)
            elif isinstance(action, Reconnect):
                for supervisor, _, _ in self._supervisors:
                    supervisor.renew(action.reason)

    def _say(self, signal: Signal) -> None:
        """Hand a signal on while the lease is surely ours; a streamer that slept leaves it to its successor."""
        if self.ownership.fresh or self.ownership.confirm():
            self._alerts.handle(signal)
        else:
            self._left["signal"] += 1

    def _fill_later(self, gap: Gap) -> None:
        """Ask for what is still missing when the ids have had time to come by themselves."""

        def ask() -> None:
            for part in self.session.parser.missing_of(gap):
                self._filler.submit(part)

        if self._loop is None or self._stopping.is_set():
            return
        try:
            running = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            running = False
        if running:
            self._loop.call_later(FILL_AFTER_S, ask)
        else:
            self._on_loop(lambda: self._fill_later(gap))

    def _fitted(self, symbol: str, model: FlatForest | None, request: FitRequest) -> None:
        if model is None:
            self._on_loop(lambda: self.session.give_up(symbol, request))
        else:
            self._on_loop(lambda: self._install(symbol, model, request))

    def _install(self, symbol: str, model: FlatForest, request: FitRequest) -> None:
        self.session.install(symbol, model, request)
        self._worker.offer(Job("model", lambda: self._checkpoints.save_model(symbol, model, request.after_n)))

    def _feed_late(self, trades: list[Trade]) -> None:
        self._on_loop(lambda: self._execute(self.session.fill(trades)))

    def _give_up(self, gap: Gap) -> None:
        self._on_loop(lambda: self._execute(self.session.abandon(gap)))

    def _on_loop(self, call: Callable[[], object]) -> None:
        if self._loop is not None and not self._stopping.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    # --- a few times a second -----------------------------------------------------------------------------------
    async def _tick_for_ever(self) -> None:
        told_s = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            if self._held is None:
                self._execute(self.session.tick())
                self._watch(now_s)
                self._probe(now_s)
                self._save((), self._first_positions())
                memories = self.session.take_memories()
                if memories:
                    self._worker.offer(Job("memory", partial(self._checkpoints.save_memories, memories), keep=False))
            self._beat()
            self._rate = [*self._rate[-20:], (now_s, self.session.trades)]
            if self._progress is not None and now_s - told_s >= 1.0:
                told_s = now_s
                self._progress(self.status())

    def _watch(self, now_s: float) -> None:
        activity = self.session.activity()
        for supervisor, watchdog, symbols in self._supervisors:
            if supervisor.state != "live":
                watchdog.replaced(now_s)
                continue
            silence = watchdog.look({symbol: activity.get(symbol, 0) for symbol in symbols}, now_s)
            if silence is not None:
                silent_s = round(silence.silent_s, 1)
                logger.warning("stream_silent", extra={"stream": silence.stream, "silent_s": silent_s})
                supervisor.replace(f"silent: {silence.stream}")
                watchdog.replaced(now_s)

        self._watch_lag(now_s)

    def _first_positions(self) -> dict[str, dict[str, Any]]:
        """Return the snapshots of symbols that have traded and never had a position stored: the next one would only
        come with a closed window, and a kill before it would lose what was found since the start."""
        begun = [symbol for symbol in self._unsaved if self.session.position(symbol)[0] is not None]
        snapshots = self.session.take_dirty(begun) if begun else {}
        self._unsaved.difference_update(snapshots)
        return snapshots

    @property
    def _fresh_data(self) -> bool:
        """Trades have come since the last look: an old lag of a silent feed says nothing."""
        before, self._recv_before = self._recv_before, self.session.newest_recv_ms
        return self._recv_before != before

    def _watch_lag(self, now_s: float) -> None:
        """Drop a stream that stays too far behind: what it holds is fetched over REST, which is faster."""
        lag_ms = self.session.lag_ms
        # Behind what it has been: the clocks of a recording and of this machine may be years apart.
        self._least_lag_ms = min(lag_ms, self._least_lag_ms) if self.session.newest_recv_ms else self._least_lag_ms
        if lag_ms - self._least_lag_ms <= LAG_MS or not self._fresh_data:
            self._lag_since_s = None
        elif self._lag_since_s is None:
            self._lag_since_s = now_s
        elif now_s - self._lag_since_s > LAG_S:
            self._lag_since_s = None
            self._lag_drops += 1
            self._least_lag_ms = _NO_LAG_MS
            logger.warning("stream_behind", extra={"lag_ms": lag_ms})
            for supervisor, _, _ in self._supervisors:
                supervisor.replace("behind")

    def _probe(self, now_s: float) -> None:
        """Ask over REST about symbols that have not traded since their connection broke."""
        unsure = self.session.unsure()
        if not unsure or any(supervisor.state != "live" for supervisor, _, _ in self._supervisors):
            self._probed_s = now_s
        elif now_s - self._probed_s >= PROBE_AFTER_S:
            self._probed_s = now_s
            for symbol, last_id in unsure[:20]:
                sure = partial(self._on_loop, partial(self.session.trust, symbol, last_id))
                self._filler.probe(self._market, symbol, self.session.kind, last_id, sure)

    def _save(self, verdicts: Sequence[WindowVerdict], snapshots: dict[str, dict[str, Any]]) -> None:
        """Queue closed windows and positions, behind the signals of the trades that they cover."""
        if verdicts or snapshots:
            lease = self.ownership.lease
            self._worker.offer(Job("windows", lambda: self._store(verdicts, snapshots, lease)))

    def _store(
        self, verdicts: Sequence[WindowVerdict], snapshots: dict[str, dict[str, Any]], lease: Lease | None
    ) -> None:
        if lease is None or not self._checkpoints.save(verdicts, snapshots, lease):
            self._left["windows"] += 1
            if self._lost is not None:
                self._on_loop(self._lost.set)

    def _beat(self, *, final: bool = False) -> None:
        """Write a heartbeat if messages came since the last one: a feed without data goes stale by itself."""
        session, now_ms = self.session, self._clock.now_ms()
        messages = session.messages + self._held_messages
        due = now_ms - self._beat_ms >= self._settings.streamer.heartbeat_seconds * 1000
        if not final and (not due or messages == self._beat_messages):
            return
        self._beat_ms, self._beat_messages = now_ms, messages
        fields: dict[str, Value] = {
            "state": "stopped" if final else self.health().state.value,
            "last_event_ms": session.newest_ms,
            "lag_ms": session.lag_ms,
            "trades": session.trades,
            "rejected": sum(session.rejected.values()),
            "rejected_by_reason": dict(session.rejected),
            "windows": session.windows,
            "models": session.models,
            "gaps": session.gaps,
            "missing": session.missing,
            "loop": session.loop,
        }
        # `keep` is False: the next beat makes up for one that storage did not take.
        self._worker.offer(Job("heartbeat", lambda: self._heartbeats.beat(COMPONENT, now_ms, fields), keep=False))

    # --- what others may ask, from any thread -------------------------------------------------------------------
    def health(self) -> Health:
        now_s = time.monotonic()
        return judge(
            running=self._running,
            standby=self._running and not self._owning,
            warming=self._held is not None,
            messages=self.session.messages,
            connected=bool(self._supervisors) and all(s.state == "live" for s, _, _ in self._supervisors),
            errors=tuple(s.error for s, _, _ in self._supervisors if s.error),
            quiet=tuple(name for _, watchdog, _ in self._supervisors for name in watchdog.quiet(now_s)),
        )

    def status(self) -> dict[str, Any]:
        """Return the numbers of the status line; safe from any thread."""
        session, rate, health = self.session, self._rate, self.health()
        span_s = rate[-1][0] - rate[0][0] if len(rate) > 1 else 0.0
        learning = session.learning()
        return {
            "state": health.state.value,
            "reason": health.reason,
            "loop": session.loop,
            "symbols": len(session.symbols),
            "trades": session.trades,
            "trades_per_s": (rate[-1][1] - rate[0][1]) / span_s if span_s > 0 else 0.0,
            "lag_ms": session.lag_ms if session.trades else None,
            "last_event_ms": session.newest_ms or None,
            "windows": session.windows,
            "models": session.models,
            "learning": learning,
            "learning_of": self._settings.window_anomaly.first_fit,
            "gaps": session.gaps,
            "missing": session.missing,
            "rejected": dict(session.rejected),
            "signals": dict(self._signals),
            "restored": self._restored,
            "warmup": dict(self._warmup),
            "reconnects": sum(s.reconnects for s, _, _ in self._supervisors),
            "renewals": sum(s.renewals for s, _, _ in self._supervisors),
            "queued": self._worker.pending,
            "not_stored": dict(self._worker.failed + self._worker.dropped),
            "internal_errors": self._internal_errors,
            "takeovers": self._takeovers,
            "liquidations": {"orders": self.liquidations.orders, "minutes": self.liquidations.minutes},
            "refused_writes": self._checkpoints.refused,
            "left_to_successor": dict(self._left),
            "dropped_for_lag": self._lag_drops,
            "filled": self._filler.fetched,
            "given_up": dict(self._filler.given_up),
            "error": str(self._error) if self._error is not None else self._worker.error,
        }


def _load_fitting() -> None:
    """Import what the first fit needs."""
    import sklearn.ensemble
    import sklearn.preprocessing  # noqa: F401
