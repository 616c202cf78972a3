"""The composition root of one machine: the same handlers, streamer and alert service that run on AWS, on SQLite.

`open_state` opens the state for a command that reads it; `World` is the whole system, started and stopped as one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

# The handlers' metrics are for CloudWatch; on this machine their JSON would land between the alerts on stdout.
os.environ.setdefault("POWERTOOLS_METRICS_DISABLED", "true")
os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "tapewatch")

from functions import (
    api,
    backfill,
    features,
    kline_bars,
    open_interest,
    order_book,
    outcomes,
    redelivery,
    report,
    sector,
    volume_spike,
    watchdog,
)
from functions.api_access import OneTimeAccess, token_access
from local.asking import on_one_machine, unreachable
from local.live_feed import LiveFeed
from local.scheduler import Job, LocalContext, Scheduler
from local.server import ApiServer
from shared.alerts.channels.channel import Channel
from shared.alerts.lanes import Threads
from shared.alerts.service import AlertService
from shared.clock import DAY_MS, HOUR_MS, Clock, iso_utc
from shared.commands.listening import receiver_for
from shared.errors import ExchangeError, ExchangeUnavailable, RestrictedLocation, StorageBusy, StorageMissing
from shared.exchange.binance.endpoints import streamable
from shared.exchange.market_data import MarketData
from shared.jobs.deps import BACKFILL_WANTED, BARS_STORED, FEATURES_STORED, Dependencies
from shared.market.model import Market
from shared.market.universe import normalize_symbol
from shared.settings import Settings
from shared.settings_ranges import LOOPBACK
from shared.storage.objects import FolderObjects
from shared.storage.sqlite import SqliteTable
from streamer.service import StreamerService

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from local.deployed_state import DeployedTable

logger = logging.getLogger(__name__)

SHOWN_JOBS = ("volume-spike", "order-book", "kline-bars")

MEMORY = ":memory:"
OWNER = "local"
"""The streamer's owner: the state file's lock sees to it that there is only one, so a new start goes on at once."""


def open_state(settings: Settings, *, must_exist: bool = True, aws: bool = False) -> SqliteTable | DeployedTable:
    """Open the state file beside a running system; with `aws`, the deployment's table instead.

    Raises:
        StorageMissing: there is none yet.
    """
    if aws:
        from local.deployed_state import deployed_table

        return deployed_table(settings)
    path = Path(settings.storage.sqlite_path)
    if must_exist and not path.is_file():
        raise StorageMissing(f"no state at {path}: start `tapewatch run` first, or set storage.sqlite_path")
    return _open_table(path)


def own_state(settings: Settings) -> tuple[SqliteTable, BaseFileLock]:
    """Open the state file as its only owner; release the lock at the end.

    Raises:
        StorageBusy: another `run` owns it.
        StorageMissing: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    path = Path(settings.storage.sqlite_path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise StorageBusy(
            f"another tapewatch run uses {path}: stop it, or give this one a file of its own (storage.sqlite_path)"
        ) from None
    except OSError as exc:
        raise StorageMissing(f"cannot write the state to {path.parent}: {exc.strerror}") from None
    return _open_table(path), lock


def _open_table(path: Path) -> SqliteTable:
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteTable(str(path))


@dataclass(slots=True)
class Availability:
    """What the exchange serves from here; a refusal of the futures API leaves the spot detectors going."""

    spot_symbols: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    futures: bool = True
    notes: list[str] = field(default_factory=list)


def probe(settings: Settings, market_data: MarketData) -> Availability:
    """Ask the exchange what can be watched.

    Raises:
        ExchangeUnavailable: the exchange cannot be reached; the message is one sentence for a person.
        ExchangeError: spot market data are refused.
    """
    try:
        market_data.server_time_ms(Market.SPOT)
    except ExchangeUnavailable:
        raise unreachable(settings) from None
    listed = {listing.symbol: listing for listing in market_data.listings(Market.SPOT)}
    wanted, strange = settings.universe.spot_symbols, tuple[str, ...]()
    if settings.universe.all:
        quote = settings.universe.all.upper()
        traded = sorted(s for s, one in listed.items() if one.quote == quote and one.status == "TRADING")
        wanted, strange = streamable(Market.SPOT, traded, settings.streamer.trade_kind)
    else:
        wanted = tuple(dict.fromkeys(normalize_symbol(symbol, listed) for symbol in wanted))
    known = tuple(symbol for symbol in wanted if symbol in listed)
    found = Availability(known, tuple(symbol for symbol in wanted if symbol not in listed))
    if strange:
        found.notes.append(
            f"{len(strange)} listed on the spot market left out, no stream can be named so: {strange[:5]}"
        )
    for symbol in found.unknown:
        found.notes.append(f"{symbol} is not listed on the spot market: left out (universe.spot_symbols)")
    if settings.sector.enabled and (settings.sectors or settings.universe.futures_all is not None):
        found.futures, note = _probe_futures(settings, market_data)
        found.notes.extend(note)
    else:
        found.futures = False
    return found


def _probe_futures(settings: Settings, market_data: MarketData) -> tuple[bool, list[str]]:
    try:
        listed = {listing.symbol for listing in market_data.listings(Market.USDM)}
    except RestrictedLocation as exc:
        return False, [str(exc)]
    except ExchangeError as exc:
        # Perhaps only for a moment: the jobs keep trying, each failure is counted and shown.
        return True, [f"the futures market did not answer yet ({exc}); the sector detector keeps trying"]
    if settings.universe.futures_all is not None:  # what is listed is what is watched
        return True, []
    missing = [symbol for symbol in settings.futures_symbols if symbol not in listed]
    return True, [f"{symbol} is not listed on USD-M: its sector goes on without it" for symbol in missing]


def _as_available(settings: Settings, available: Availability) -> Settings:
    """Return the settings cut down to what the exchange serves from here: nobody waits for what cannot come."""
    replace = msgspec.structs.replace
    settings = on_one_machine(settings)
    settings = replace(settings, universe=replace(settings.universe, spot_symbols=available.spot_symbols, all=None))
    if not available.futures:
        settings = replace(settings, sector=replace(settings.sector, enabled=False))
    return settings


class World:
    """Streamer, minute jobs, API and alerts on one machine."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        table: SqliteTable,
        market_data: MarketData,
        channels: Sequence[Channel],
        available: Availability,
        speed: float = 1.0,
        every_minute: Callable[[], object] | None = None,
        owner: str = OWNER,
    ) -> None:
        self.settings = _as_available(settings, available)
        self.clock = clock
        self.table = table
        self.available = available
        self.alerts = AlertService.on_table(table, channels, self.settings, clock, lanes=Threads())
        self.deps = Dependencies(
            settings=self.settings,
            market_data=market_data,
            table=table,
            alerts=self.alerts,
            clock=clock,
            objects=FolderObjects(self.settings.storage.objects_path),
            emit=self._emit,
            live=self._live,
        )
        self._chain: Mapping[str, Callable[[dict[str, Any], Any], Any]] = {
            BARS_STORED: features.make_handler(lambda: self.deps),
            FEATURES_STORED: sector.make_handler(lambda: self.deps),
        }
        self._backfill = backfill.make_handler(lambda: self.deps)
        self._backfilling = threading.Lock()
        self._every_minute = every_minute
        self.scheduler = Scheduler(clock, self._jobs(), speed=speed)
        self.streamer = (
            StreamerService(
                self.settings,
                market_data,
                self.alerts,
                table,
                clock,
                symbols=available.spot_symbols,
                owner=owner,
            )
            if available.spot_symbols and self.settings.watches_trades
            else None
        )
        self.api = (
            ApiServer(
                # On loopback reads are free and each change costs a token; elsewhere everything needs the token.
                api.make_handler(
                    lambda: self.deps,
                    OneTimeAccess() if self.settings.api.host in LOOPBACK else token_access(self.settings),
                ),
                clock,
                host=self.settings.api.host,
                port=self.settings.api.port,
            )
            if self.settings.api.enabled
            else None
        )
        self.receiver = receiver_for(self.deps, channels)
        self._stopped = threading.Event()
        self._feed = None if self.streamer is None else LiveFeed(self.streamer.status)

    def _live(self) -> dict[str, Any] | None:
        return None if self._feed is None else self._feed()

    def _jobs(self) -> list[Job]:
        settings, deps = self.settings, lambda: self.deps
        jobs = [
            Job("redelivery", redelivery.make_handler(deps)),
            Job("watchdog", watchdog.make_handler(deps), delay_ms=20_000),
            Job("outcomes", outcomes.make_handler(deps), interval_ms=5 * 60_000, delay_ms=30_000),
            Job("report", report.make_handler(deps), interval_ms=DAY_MS, delay_ms=5 * 60_000),
            Job("tidy", self._tidy, interval_ms=HOUR_MS),
        ]
        if self._every_minute is not None:
            own = self._every_minute
            jobs.append(Job("clock", lambda event, context: own(), delay_ms=30_000))
        if settings.volume_spike.enabled and self.available.spot_symbols:
            jobs.append(Job("volume-spike", volume_spike.make_handler(deps)))
        if settings.order_book.enabled and self.available.spot_symbols:
            interval_ms = settings.order_book.interval_seconds * 1000
            jobs.append(Job("order-book", order_book.make_handler(deps), interval_ms=interval_ms, delay_ms=0))
        if self.available.futures:
            jobs.append(Job("kline-bars", kline_bars.make_handler(deps)))
            if settings.sector.open_interest_minutes:
                # Well after the minute's decision, whose calls come first in the weight budget.
                jobs.append(Job("open-interest", open_interest.make_handler(deps), delay_ms=25_000))
        return jobs

    def _tidy(self, event: dict[str, Any], context: Any) -> dict[str, int]:
        """Delete what has expired: DynamoDB does that by itself, a file does not."""
        return {"deleted": self.table.purge_expired(self.clock.now_ms() // 1000)}

    def _emit(self, detail_type: str, detail: Mapping[str, Any]) -> None:
        """Call the next link of the chain at once, with the event that EventBridge would deliver."""
        event = {
            "detail-type": detail_type,
            "source": "tapewatch",
            "time": iso_utc(self.clock.now_ms() // 1000 * 1000),
            "detail": dict(detail),
        }
        handler = self._chain.get(detail_type)
        if handler is not None:
            handler(event, LocalContext(detail_type))
        elif detail_type == BACKFILL_WANTED:
            threading.Thread(target=self._fill, args=(event,), name="backfill", daemon=True).start()
        else:
            logger.info("event_without_listener", extra={"detail_type": detail_type})

    def _fill(self, event: dict[str, Any]) -> None:
        """Run the backfill beside the minute jobs, one at a time; what it does not finish is asked for again."""
        if not self._backfilling.acquire(blocking=False):
            return
        try:
            self._backfill(event, LocalContext("backfill"))
        except Exception:  # top of a thread: a failed fill must not look like an ended program
            logger.warning("backfill_failed", exc_info=True)
        finally:
            self._backfilling.release()

    def start(self) -> None:
        """Start everything; the API first, so that a taken port is told before anything else runs."""
        if self.api is not None:
            self.api.start()
        if self.streamer is not None:
            self.streamer.run_in_thread()
        self.scheduler.start()
        if self.receiver is not None:
            self.receiver.start(self._stopped)
        api.settled(self.deps)

    def wait_until_live(self, stop: threading.Event, *, within_s: float) -> None:
        """Wait for the streamer to have learnt from past trades and to be connected."""
        end = time.monotonic() + within_s
        while self.streamer is not None and not stop.wait(0.05) and time.monotonic() < end:
            now = self.streamer.status()
            if now["state"] != "starting" or now["reason"] == "no message yet":
                return

    def stop(self) -> bool:
        """Stop everything within about 4 seconds; True when all parts ended by themselves."""
        self._stopped.set()
        if self.api is not None:  # first: whoever comes next may want the same port
            self.api.stop(timeout_s=1.0)
        ended = [self.scheduler.stop(timeout_s=1.0)]
        if self.streamer is not None:
            ended.append(bool(self.streamer.stop()))
        ended.append(self.alerts.settle(1.0))  # what a channel is still sending stays in the outbox
        return all(ended)

    def status_line(self) -> str:
        """One line for a person, what matters first: trouble, market time, trades, minutes."""
        moment = iso_utc(self.clock.now_ms() // 1000 * 1000).replace("T", " ").replace("Z", " UTC")
        parts = [moment]
        if self.streamer is not None:
            now = self.streamer.status()
            if now.get("state") == "broken":
                parts.append(f"STREAM DOWN: {now.get('reason') or 'not connected'}")
            elif now.get("state") == "quiet":
                parts.append("market quiet")
            if now.get("error"):
                parts.append(f"STATE: {now['error']}")
            parts.append(f"{now.get('trades', 0):,} trades ({now.get('trades_per_s', 0):.0f}/s)")
            lag = now.get("lag_ms")
            if lag is not None and now.get("state") == "live":
                parts.append(f"lag {lag / 1000:.1f} s")
            parts.append(f"{now.get('windows', 0):,} windows, models {now.get('models', 0)}/{now.get('symbols', 0)}")
        runs = {name: state for name, state in self.scheduler.states.items() if name in SHOWN_JOBS}
        if runs:
            parts.append(f"minutes {max(state.runs for state in runs.values())}")
        parts += [f"{name} FAILED: {state.last_error}" for name, state in runs.items() if state.last_error]
        return " | ".join(parts)
