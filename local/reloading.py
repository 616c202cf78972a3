"""Run the system until it is stopped, and start it anew, in the same process, when its configuration was changed.

Everything the parts know stands in the state, and the streamer goes on from its stored position: a new start is the
one way to change settings that no part can get wrong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from local.asking import exchange_for
from local.backfilling import backfill_if_needed
from local.config_watch import ConfigWatch
from local.exchange_time import follow, note_offset
from local.running import interruptible, run_until_stopped
from local.terminal import Terminal
from local.world import OWNER, World, probe
from shared.alerts.channels.console import ConsoleChannel
from shared.alerts.wiring import messengers
from shared.clock import OffsetClock, SystemClock
from shared.errors import TapewatchError
from shared.pictures.drawing import Drawing
from shared.settings import Settings
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.sqlite import SqliteTable
from streamer.ownership import new_owner

COMPONENT = "configuration"
LOOK_EVERY_S = 1.0
RETRY_S = 60.0  # good settings that the exchange did not answer to are tried again so often

Make = Callable[[str], World]  # told the streamer's owner; asks nobody, so that it can be done again at any time


class Reloading:
    def __init__(
        self, table: SqliteTable, watch: ConfigWatch, stop: threading.Event, *, as_json: bool, backfill: bool
    ) -> None:
        self._table, self._watch, self._stop, self._backfill = table, watch, stop, backfill
        self._base = SystemClock()
        self._clock = OffsetClock(self._base)
        self.world: World | None = None
        self._terminal = Terminal(self._status, as_json=as_json)
        self._looked = self._tried = 0.0
        self._next: tuple[World, Make] | None = None

    def run(self, settings: Settings, *, limit_s: float | None = None) -> bool:
        """Return whether every part ended by itself in time.

        Raises:
            Stopped: somebody did not want to wait for the start.
            TapewatchError: the exchange or the configuration does not allow a start.
        """
        make = self._prepare(settings)
        self.world = make(OWNER)
        self._tell(None)
        if self._backfill:
            ready = self.world
            interruptible(lambda: backfill_if_needed(ready, self._terminal.note, self._stop), self._stop)
        began = time.monotonic()
        before: tuple[Settings, Make] | None = None  # what ran until now, while the new settings have not started

        def started() -> None:
            nonlocal before, settings
            before, settings = None, self._watch.running

        all_ended = True
        with self._terminal:
            while True:
                left = None if limit_s is None else limit_s - (time.monotonic() - began)
                try:
                    ended = run_until_stopped(
                        self.world, self._terminal, self._stop, done=self._changed, limit_s=left, started=started
                    )
                except TapewatchError as exc:
                    if before is None:
                        raise
                    self.world.stop()
                    (settings, make), before = before, None
                    self._refused(settings, str(exc))
                    self.world = make(OWNER if all_ended else new_owner())
                    continue
                all_ended = all_ended and ended
                if self._next is None or self._stop.is_set():
                    return all_ended
                before = settings, make
                (self.world, make), self._next = self._next, None
                if not all_ended:
                    # A part of the old one goes on until what it waits for comes or the program ends. Under another
                    # owner's name its streamer and the new one are never both believed by the table.
                    self.world = make(new_owner())
                self._terminal.note("the configuration has changed: starting anew with it")

    def _refused(self, running: Settings, problem: str) -> None:
        self._watch.refused(running, problem)
        self._terminal.note(f"the changed configuration cannot be used, the old one stays: {problem}")
        self._tell(problem)

    def _prepare(self, settings: Settings) -> Make:
        market_data = exchange_for(settings, clock=self._clock, table=self._table)
        available = interruptible(lambda: probe(settings, market_data), self._stop)
        late = interruptible(lambda: follow(self._clock, market_data, self._base), self._stop)
        note_offset(self._table, self._clock, self._base)
        for note in (*available.notes, *filter(None, [late])):
            self._terminal.note(note)
        drawing = Drawing(self._table, market_data, settings.storage.retention_days)

        def keep_time() -> None:
            follow(self._clock, market_data, self._base)
            note_offset(self._table, self._clock, self._base)

        messages = messengers(settings, self._clock, self._table, picture=drawing.png)
        console = [ConsoleChannel(self._terminal.alert)] if settings.alerts.uses("console") else []
        return lambda owner: World(
            settings,
            clock=self._clock,
            table=self._table,
            market_data=market_data,
            channels=[*console, *messages],
            available=available,
            every_minute=keep_time,
            owner=owner,
        )

    def _changed(self) -> bool:
        """Look at the file each second; build the next system beside the running one, which stays if that fails."""
        if time.monotonic() - self._looked < LOOK_EVERY_S:
            return False
        self._looked = time.monotonic()
        again = self._watch.fresh is not None and self._looked - self._tried >= RETRY_S
        if not self._watch.poll() and not again:
            return False
        for note in self._watch.notes:
            self._terminal.note(note)
        problem = self._watch.problem
        if problem is None and self._watch.fresh is not None:
            self._tried = time.monotonic()
            try:
                make = self._prepare(self._watch.fresh)
                self._next = make(OWNER), make
            except TapewatchError as exc:
                problem = str(exc)
            else:
                self._watch.taken()
        if problem is not None:
            self._terminal.note(f"the changed configuration cannot be used, the old one stays: {problem}")
        self._tell(problem)
        return self._next is not None

    def _tell(self, problem: str | None) -> None:
        fields = {} if problem is None else {"problem": f"the file cannot be used, the old settings stay: {problem}"}
        HeartbeatRepository(self._table).beat(COMPONENT, self._base.now_ms(), fields)

    def _status(self) -> str:
        line = "starting" if self.world is None else self.world.status_line()
        return f"{line} | CONFIGURATION: {self._watch.problem}" if self._watch.problem else line
