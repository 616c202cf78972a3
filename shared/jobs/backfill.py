"""Fetch the history that the detectors judge against: paged within the budget, resumable at any page, idempotent."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from shared.clock import HOUR_MS, MINUTE_MS, floor_minute_ms, iso_utc
from shared.detection.features import history_minutes
from shared.detection.volume_spike import VolumeSpikeDetector
from shared.errors import RateLimited
from shared.jobs import charts, universe
from shared.jobs.common import bars_of, beat, ratios_of, readings_of, spot_symbols
from shared.jobs.deps import Dependencies
from shared.jobs.pool import HOST_REFUSES, ask_each, refusal_text
from shared.jobs.volume_spike import KIND, ratios_in
from shared.market.bars import closed_bars, normalize_bars
from shared.market.model import Bar, Market
from shared.settings import SectorSettings
from shared.storage.readings import Rows

Progress = Callable[[int, int, str], None]
"""(pages done, pages in all, what is being done)."""

# The cheapest page per bar: USD-M 499 rows cost weight 2, spot 1000 rows cost weight 2.
_PAGE_ROWS: Mapping[Market, int] = {Market.USDM: 499, Market.SPOT: 1000}
_PAGE_WEIGHT = 2
_LIGHT_ROWS = 99  # the most USD-M rows of weight 1
_LIMIT_PER_MINUTE: Mapping[Market, int] = {Market.USDM: 2400, Market.SPOT: 6000}
_MINUTE_JOBS_WEIGHT = 1_200  # a minute of USD-M that a backfill beside running jobs leaves to them
_PAGE_S = 0.1  # one answer; as many come at once as there are connections
_BAR_S = 30e-6  # reading, packing and storing one bar, on one core


def history_hours(settings: SectorSettings) -> float:
    """Return how many hours the sector detector's full answer needs: 17, or 25 with seasonal volumes."""
    return float(math.ceil(history_minutes(settings) / 60))


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """`pages` were fetched, `pages_known` needed nothing. `complete` False: time was up, run it again to go on."""

    since_ms: int
    until_ms: int
    symbols: int = 0
    pages: int = 0
    pages_known: int = 0
    bars: int = 0
    ratios: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    refused: str | None = None
    complete: bool = True
    weight: int = 0
    expected_s: int = 0


@dataclass(slots=True)
class _Run:
    deps: Dependencies
    progress: Progress
    ends_s: float | None
    background: bool = False
    weight: int = 0
    window: tuple[Market, int] = (Market.SPOT, -1)
    used: int = 0
    done: int = 0
    total: int = 0
    pages: int = 0
    known: int = 0
    bars: int = 0
    ratios: int = 0
    complete: bool = True
    failed: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, text: str) -> None:
        with self.lock:
            self.done += 1
            done = self.done
        self.progress(done, max(self.total, done), text)

    def take(self, page: _Page) -> None:
        """Wait until a page may be asked for; beside running jobs most of a minute's budget is theirs.

        Raises:
            RateLimited: the run's time is up before.
        """
        while True:
            with self.lock:
                now_ms = self.deps.clock.now_ms()
                window = (page.market, now_ms // MINUTE_MS)
                if window != self.window:
                    self.window, self.used = window, 0
                if self.used == 0 or self.used + page.weight <= self.allowed(page.market):
                    self.used += page.weight
                    self.weight += page.weight
                    return
                wait_s = (MINUTE_MS - now_ms % MINUTE_MS) / 1000
            left_s = self.seconds_left()
            if left_s is not None and wait_s > left_s:
                raise RateLimited("the backfill's share of the budget is used up", retry_after_s=wait_s, status=None)
            self.deps.clock.sleep(wait_s + 0.01)
            if self.deps.clock.now_ms() == now_ms:  # a clock that stands still until all is ready
                with self.lock:
                    self.used = 0

    def allowed(self, market: Market) -> int:
        """Return the weight of one minute that this run may use."""
        allowed = int(_LIMIT_PER_MINUTE[market] * self.deps.settings.exchange.weight_share)
        if self.background and market is Market.USDM:
            allowed = max(allowed // 4, allowed - _MINUTE_JOBS_WEIGHT)
        return allowed

    def seconds_left(self) -> float | None:
        return None if self.ends_s is None else self.ends_s - time.monotonic()


@dataclass(frozen=True, slots=True)
class _Page:
    """[start_ms, end_ms) of one market, and the symbols that lack a minute in it."""

    market: Market
    start_ms: int
    end_ms: int
    symbols: tuple[str, ...]

    @property
    def rows(self) -> int:
        return (self.end_ms - self.start_ms) // MINUTE_MS

    @property
    def weight(self) -> int:
        return 1 if self.market is Market.USDM and self.rows <= _LIGHT_ROWS else _PAGE_WEIGHT


def run(
    deps: Dependencies,
    *,
    end_ms: int,
    hours: float = 17.0,
    progress: Progress | None = None,
    deadline_s: float | None = None,
    markets: Iterable[Market] = (Market.USDM, Market.SPOT),
    background: bool = False,
) -> BackfillReport:
    """Store the 1-minute bars of the `hours` before `end_ms` that are not stored yet.

    Spot goes back far enough for the volume spikes' rarity to be known at once, whatever `hours` says. `background`
    says that the minute jobs run beside it and come first in the weight budget.
    """
    ends_s = None if deadline_s is None else time.monotonic() + deadline_s
    job = _Run(deps, progress or (lambda done, total, text: None), ends_s, background)
    until_ms = floor_minute_ms(end_ms)
    plans: list[tuple[Market, list[_Page]]] = []
    symbols = 0
    for market in markets:
        names, since_ms = _wanted(deps, market, until_ms, hours)
        symbols += len(names)
        plans.append((market, _plan(job, market, names, since_ms, until_ms)))
    job.total = sum(len(page.symbols) for _, pages in plans for page in pages)
    expected_s = _expected_s(job, plans) if job.total else 0
    if job.total:
        job.progress(0, job.total, f"{job.total} pages of 1-minute bars, about {expected_s} s")
    for market, pages in plans:
        _fetch_market(job, market, pages)
        if market is Market.USDM and pages:
            charts.rewrite(deps, market, min(page.start_ms for page in pages), until_ms)
    if any(market is Market.SPOT for market, _ in plans):
        names, since_ms = _wanted(deps, Market.SPOT, until_ms, hours)
        _store_ratios(job, names, since_ms, until_ms)
    beat(deps, "backfill", {"minute_ms": until_ms, "bars": job.bars, "failed": len(job.failed)})
    return BackfillReport(
        since_ms=until_ms - round(hours * HOUR_MS),
        until_ms=until_ms,
        symbols=symbols,
        pages=job.pages,
        pages_known=job.known,
        bars=job.bars,
        ratios=job.ratios,
        failed=job.failed,
        refused=" ".join(job.refused) or None,
        complete=job.complete,
        weight=job.weight,
        expected_s=expected_s,
    )


def _wanted(deps: Dependencies, market: Market, until_ms: int, hours: float) -> tuple[tuple[str, ...], int]:
    if market is Market.USDM:
        names = universe.refresh(deps, until_ms - MINUTE_MS).symbols() if deps.settings.sector.enabled else ()
        return names, until_ms - round(hours * HOUR_MS)
    settings = deps.settings.volume_spike
    rarity_hours = settings.rarity_min_history + 1 if settings.enabled else 0
    names = spot_symbols(deps, until_ms) if settings.enabled else ()
    return names, until_ms - round(max(hours, rarity_hours) * HOUR_MS) - settings.ma_bars * MINUTE_MS


def _plan(job: _Run, market: Market, names: tuple[str, ...], since_ms: int, until_ms: int) -> list[_Page]:
    """Cut the time into pages and leave out, symbol by symbol, what is stored already."""
    bars = bars_of(job.deps)
    since_ms = floor_minute_ms(since_ms)
    pages = []
    step_ms = _PAGE_ROWS[market] * MINUTE_MS
    for start_ms in range(since_ms, until_ms, step_ms):
        end_ms = min(start_ms + step_ms, until_ms)
        have = bars.have(market, start_ms, end_ms)
        minutes = range(start_ms, end_ms, MINUTE_MS)
        lacking = tuple(name for name in names if any(name not in have.get(at_ms, ()) for at_ms in minutes))
        job.known += len(names) - len(lacking)
        if lacking:
            pages.append(_Page(market, start_ms, end_ms, lacking))
    return pages


def _expected_s(job: _Run, plans: list[tuple[Market, list[_Page]]]) -> int:
    """Estimate the time by walking the pages as the run will: answers, storing, and waits for the next minutes."""
    began_s = at_s = job.deps.clock.now_ms() / 1000
    page_s = _PAGE_S / job.deps.settings.exchange.max_connections
    minute_s = MINUTE_MS / 1000
    for market, pages in plans:
        allowed, window, used = job.allowed(market), -1.0, 0
        for page in reversed(pages):
            for _ in page.symbols:
                if at_s // minute_s > window:
                    window, used = at_s // minute_s, 0
                if used and used + page.weight > allowed:
                    at_s, window, used = (window + 1) * minute_s, window + 1, 0
                used += page.weight
                at_s += page_s + page.rows * _BAR_S
    return max(1, math.ceil(at_s - began_s))


def _fetch_market(job: _Run, market: Market, pages: list[_Page]) -> None:
    if not pages:
        return
    try:
        exchange_now_ms = job.deps.market_data.server_time_ms(market)
    except HOST_REFUSES as exc:
        job.refused.append(refusal_text(market, exc))
        job.failed.update(dict.fromkeys((name for page in pages for name in page.symbols), exc.code))
        return
    for page in reversed(pages):  # the newest first: the detectors can use it while the rest is still coming
        left_s = job.seconds_left()
        if left_s is not None and left_s <= 0:
            job.complete = False
            return
        if not _fetch_page(job, page, exchange_now_ms, left_s):
            return


def _fetch_page(job: _Run, page: _Page, exchange_now_ms: int, left_s: float | None) -> bool:
    """Fetch one page of every symbol that lacks it, and store it by minutes; False: the host refuses everything."""
    deps = job.deps

    def ask(symbol: str) -> list[Bar]:
        job.take(page)
        rows = deps.market_data.klines(
            page.market, symbol, limit=page.rows, start_ms=page.start_ms, end_ms=page.end_ms - 1
        )
        job.step(f"{page.market.value} {symbol} {iso_utc(page.start_ms)} - {iso_utc(page.end_ms)}")
        closed, _ = normalize_bars(closed_bars(rows, exchange_now_ms))
        return [bar for bar in closed if page.start_ms <= bar.open_ms < page.end_ms]

    asked = ask_each(
        page.symbols, ask, market=page.market, workers=deps.settings.exchange.max_connections, deadline_s=left_s
    )
    by_minute: dict[int, dict[str, Bar]] = {}
    for symbol, rows in asked.answers.items():
        for bar in rows:
            by_minute.setdefault(bar.open_ms, {})[symbol] = bar
    store = bars_of(deps)
    for at_ms in sorted(by_minute):
        store.put_minute(page.market, at_ms, by_minute[at_ms])
    job.pages += len(asked.answers)
    job.bars += sum(len(rows) for rows in by_minute.values())
    job.failed.update(asked.failed)
    if any(reason.startswith("deadline") for reason in asked.failed.values()):
        job.complete = False
    if asked.refused is not None:
        job.refused.append(asked.refused)
        return False
    return True


def _store_ratios(job: _Run, names: tuple[str, ...], since_ms: int, until_ms: int) -> None:
    """Compute the volume ratios of the stored spot bars, which are the history that rarity is judged against.

    A reading that the minute job has stored itself is left as it is.
    """
    if not names:
        return
    deps = job.deps
    detectors = {name: VolumeSpikeDetector(deps.settings.volume_spike, Market.SPOT, name) for name in names}
    readings: dict[int, Rows] = {}
    for at_ms, rows in bars_of(deps).minutes(Market.SPOT, since_ms, until_ms):
        for name, detector in detectors.items():
            reading = detector.step(rows[name]) if name in rows else None
            if reading is not None:
                readings.setdefault(at_ms, {})[name] = reading.to_json()
    store = readings_of(deps)
    known = dict(store.range(KIND, since_ms, until_ms))
    lacking = {at_ms: rows for at_ms, rows in readings.items() if rows.keys() - known.get(at_ms, {}).keys()}
    changed = {at_ms: {**rows, **known.get(at_ms, {})} for at_ms, rows in lacking.items()}
    ratios_of(deps).put_many({at_ms: ratios_in(rows) for at_ms, rows in {**known, **changed}.items()})
    store.put_many(KIND, changed)
    job.ratios += sum(len(rows) for rows in changed.values())
