"""The streamer: connections, session, storage and alerts held together on one event loop.

The loop reads and decides; it never waits for storage, the exchange's REST side or a fit. Those run in threads of
their own and come back through the loop, which alone owns the session.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

from shared.clock import Clock
from shared.exchange.market_data import MarketData
from shared.market.model import Market
from shared.settings import Settings
from shared.storage.readings import ReadingRepository
from shared.storage.table import Table
from streamer import liquidation_feed, telling
from streamer.beginning import Beginning, Means
from streamer.checkpointing import Checkpoints, Stored
from streamer.connection import Connector
from streamer.executing import Executor, SignalSink
from streamer.gathering import Gathering
from streamer.health import Health
from streamer.lag import LagWatch
from streamer.lines import Lines
from streamer.liquidations import LiquidationSums
from streamer.liquidations import Rows as LiquidationRows
from streamer.listing import change_symbols, keep_up
from streamer.ownership import Ownership, new_owner
from streamer.past import Backlog, Past
from streamer.picows_connection import PicowsConnector
from streamer.session import Session
from streamer.threads import OnLoop, in_daemon_thread
from streamer.worker import Job

logger = logging.getLogger(__name__)

TICK_S = 0.25
TELL_S = 1.0
PART = 64  # messages decided at once while we are slow
LIQUIDATIONS = "liquidations"  # the kind under which the sector job reads the minute sums


class StreamerService:
    """Runs until told to stop; `run` on an event loop, or `run_in_thread` / `stop` around it.

    Args:
        clock: the exchange's time as far as we know it; stamps receipts and heartbeats. Waiting and watching use
            the machine's monotonic time.
        symbols: instead of the settings' spot symbols.
        progress: told the status about once a second, on the loop's thread, from the start to the end, whether the
            lease is ours or not; must be quick.
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
        self.settings = settings
        self._progress = progress
        self._connector = connector or PicowsConnector(clock.now_ms)
        self._market = market
        self._symbols = tuple(settings.universe.spot_symbols if symbols is None else symbols)
        self._listing = listing
        self.session = self._new_session()
        retention_s, shards = settings.storage.retention_days * 86_400, settings.streamer
        self.checkpoints = Checkpoints(table, market, retention_s=retention_s)
        lease_name = f"streamer/{market.value}/{shards.shard_index}of{shards.shards}"
        self.ownership = Ownership(table, lease_name, owner or new_owner(), shards.lease_seconds)
        self._readings = ReadingRepository(table, retention_s=retention_s)
        with_futures = market is Market.SPOT and settings.sector.enabled and bool(settings.sectors)
        self._with_liquidations = shards.liquidations and with_futures and shards.shard_index == 0
        self.liquidations = LiquidationSums(self._store_liquidations)
        self._stopping = threading.Event()
        self._on_loop = OnLoop(self._stopping)
        self.executor = Executor(
            lambda: self.session,
            market_data,
            alerts,
            self.checkpoints,
            self.ownership,
            Gathering(settings.streamer.flush_seconds),
            self._on_loop,
            reconnect=lambda reason: self.lines.renew(reason),  # noqa: PLW0108 - made below
            lost=self._lose,
        )
        self.backlog = Backlog(self._receive)
        self.past = Past(settings, market_data, clock, self._stopping)
        self.lines = Lines(settings, self._connector, self.backlog.take, self._broken, self._ask)
        self._means = Means(
            settings, market_data, clock, self.checkpoints, self.executor, self.backlog, self.past, self._on_loop
        )
        self.lag = LagWatch()
        self.rate = telling.Rate()
        self._heartbeat = telling.Heartbeat(table, clock, self.executor.worker, settings.streamer)
        self._lost: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self.running = self.owning = False
        self.error: BaseException | None = None
        self.internal_errors = 0
        self.takeovers = 0
        self.restored = 0

    # --- life ---------------------------------------------------------------------------------------------------
    async def run(self, stop: asyncio.Event, *, flush_within_s: float = 2.0) -> None:
        """Stream until `stop` is set; then store what is queued, for `flush_within_s` at most.

        Raises:
            StorageError: the stored state cannot be read at the start.
            ConfigurationError: a symbol or stream that the exchange cannot have.
        """
        self._on_loop.loop, self._stop, self.running = asyncio.get_running_loop(), stop, True
        self.executor.start()
        working = asyncio.create_task(self._own_for_ever())
        showing = asyncio.create_task(self._tell_for_ever())
        stopping = asyncio.create_task(stop.wait())
        try:
            ended, _ = await asyncio.wait((working, showing, stopping), return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            self._stopping.set()
            stop.set()
            for task in (working, showing, stopping):
                task.cancel()
            await asyncio.gather(working, showing, stopping, return_exceptions=True)
            self.executor.fitter.stop()
            self.executor.filler.stop()
            self._finish(flush_within_s)
            self.ownership.release()
            self.running = False

    async def _own_for_ever(self) -> None:
        """Wait for the lease, stream while it is ours, and begin anew beside whoever took it over."""
        while True:
            await in_daemon_thread(self._acquire)
            if self._stopping.is_set():
                return
            self.owning = True
            self._lost = lost = asyncio.Event()
            self.ownership.keep(lambda: self._on_loop(lost.set))  # noqa: B023 - the one of this turn
            working = asyncio.create_task(self._work(lost))
            losing = asyncio.create_task(lost.wait())
            try:
                await asyncio.wait((working, losing), return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()
            finally:
                working.cancel()
                losing.cancel()
                await asyncio.gather(working, losing, return_exceptions=True)
            self.owning = False
            self.takeovers += 1
            logger.warning("lease_lost", extra={"reason": "another streamer has taken over"})
            await in_daemon_thread(self._end_past)  # a page or a model may just be going in
            self.executor.begin_anew()  # from here on nothing is awaited: no late call finds half of it
            self.lines.clear()
            self.backlog.hold()
            self.session = self._new_session()
            self.past.fed.release()

    def _end_past(self) -> None:
        self.past.fed.acquire()

    def _acquire(self) -> None:
        self.ownership.acquire(self._stopping.is_set, self._stopping.wait)

    def _broken(self, symbols: Iterable[str]) -> None:
        self.session.doubt(symbols)

    def _ask(self, symbol: str, told: Callable[[bool | None], None]) -> None:
        self.executor.ask(self._market, symbol, told)

    def _lose(self) -> None:
        if self._lost is not None:
            self._lost.set()

    def _new_session(self) -> Session:
        return Session(self.settings, self._market, self._symbols, together=True)

    async def _work(self, lost: asyncio.Event) -> None:
        beginning = self._beginning(lost)
        await in_daemon_thread(beginning.prepare)
        self.restored = beginning.restored
        self.lines.plan(self.session)
        try:
            async with asyncio.TaskGroup() as tasks:
                self.lines.carry(tasks)
                tasks.create_task(beginning.learn_and_live())
                tasks.create_task(self._tick_for_ever())
                if self._with_liquidations:
                    self.liquidations = LiquidationSums(self._store_liquidations)
                    tasks.create_task(liquidation_feed.hear(self.settings, self._connector, self.liquidations))
                if self._listing is not None:
                    tasks.create_task(keep_up(self._listing, self.follow))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def _beginning(self, lost: asyncio.Event) -> Beginning:
        session = self.session

        def ending() -> bool:
            return lost.is_set() or not self.owning or self._stopping.is_set()

        return Beginning(session, self._means, current=lambda: session is self.session, ending=ending)

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
                self.error = exc
                logger.exception("streamer_ended")

        self._thread = threading.Thread(target=main, name="streamer", daemon=True)
        self._thread.start()

    def stop(self, within_s: float = 3.0) -> bool:
        """End the thread; True when it ended cleanly in time."""
        self._stopping.set()
        loop, stop = self._on_loop.loop, self._stop
        if loop is not None and stop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # it closed between the two lines: it has ended
                loop.call_soon_threadsafe(stop.set)
        if self._thread is None:
            return True
        self._thread.join(within_s)
        if self._thread.is_alive():
            self.ownership.release()  # its renewal would go on; the table refuses whatever this run still stores
        return not self._thread.is_alive() and self.error is None

    def _finish(self, within_s: float) -> None:
        """Store the last state behind everything that is still queued."""
        if self.owning and self.past.fed.acquire(timeout=1.0):  # a page of the past may just be going in
            self.executor.execute(self.session.tick())
            self.executor.save(self.executor.gathering.take(), self.session.take_dirty())
            self.past.fed.release()
            self._heartbeat.beat(self, final=True)
        worker = self.executor.worker
        if not worker.stop(within_s):
            logger.error("flush_incomplete", extra={"dropped": dict(worker.dropped), "reason": worker.error})

    async def follow(self, symbols: Sequence[str]) -> None:
        """Stream these symbols from now on; on the loop.

        Those that stay notice nothing, not even the reading of what is stored of those that come. Before the stream is
        live, and when another session has begun meanwhile, it is left to the next look at the listing.
        """
        session, stored = self.session, list[Stored]()
        new = [symbol for symbol in symbols if symbol not in session.states]
        if new:
            await in_daemon_thread(lambda: stored.extend(self.checkpoints.read(new)))
        if not self.backlog.live or session is not self.session:
            return
        if change_symbols(session, symbols, stored, self.checkpoints, self.executor, self.lines):
            self._symbols = session.symbols

    # --- messages and time --------------------------------------------------------------------------------------
    def _receive(self, batch: Sequence[bytes], recv_ms: int) -> None:
        began_s, parts = time.monotonic(), cast(Iterable[Sequence[bytes]], (batch,))
        if self.lag.slow:
            messages = list(batch)
            parts = (messages[at : at + PART] for at in range(0, len(messages), PART))
        for part in parts:
            self._take(part, recv_ms)
            if self.lag.decided(began_s, time.monotonic()):
                self._fell_behind()  # the ids show what is left unread here, and REST has it
                return

    def _take(self, batch: Sequence[bytes], recv_ms: int) -> None:
        try:
            actions = self.session.receive_many(batch, recv_ms)
        except Exception:  # one message must not stop the others; the count shows that ours is the fault
            self.internal_errors += 1
            if self.internal_errors == 1:
                logger.exception("message_failed")
            return
        if actions:
            self.executor.execute(actions)

    def _fell_behind(self) -> None:
        logger.warning("stream_behind", extra={"lag_ms": self.lag_ms})
        self.lines.replace("behind")

    @property
    def lag_ms(self) -> int:
        """How far the newest decision lies behind its trade, on the exchange's clock."""
        return self.session.lag_ms + self.lag.held_ms

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now_s, session = time.monotonic(), self.session
            if self.backlog.live:
                self.executor.execute(session.tick())
                self.lines.watch(session.activity(), now_s)
                if self.lag.look(session.lag_ms, session.newest_recv_ms, now_s):
                    self._fell_behind()
                self.executor.probe(self._market, now_s, live=self.lines.live)
                self.executor.save_first_positions()
                self.executor.save_memories()
            self._heartbeat.beat(self)
            self.rate.look(session.trades, now_s)

    async def _tell_for_ever(self) -> None:
        """Show that the loop lives, also while standing by and while the start's models are fitted in a thread."""
        while True:
            if self._progress is not None:
                self._progress(self.status())
            await asyncio.sleep(TELL_S)

    def _store_liquidations(self, minute_ms: int, rows: LiquidationRows) -> None:
        self.executor.worker.offer(Job("liquidations", partial(self._readings.put, LIQUIDATIONS, minute_ms, rows)))

    # --- what others may ask, from any thread -------------------------------------------------------------------
    def health(self) -> Health:
        return telling.health(self)

    def status(self) -> dict[str, Any]:
        """Return the numbers of the status line."""
        return telling.status(self)
