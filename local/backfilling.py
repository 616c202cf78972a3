"""Backfill with something to look at: before the first run, and as a command of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from local.terminal import Progress
from local.world import World
from shared.clock import HOUR_MS, MINUTE_MS
from shared.jobs import backfill
from shared.jobs.backfill import BackfillReport, history_hours
from shared.jobs.deps import Dependencies
from shared.jobs.universe import universe_at
from shared.market.model import Market
from shared.storage.bars import BarRepository

_ENOUGH = 0.95  # share of the minutes of the last 16 hours that make a backfill unnecessary


def backfill_if_needed(world: World, say: Callable[[str], None], stop: threading.Event) -> BackfillReport | None:
    """Fetch the history that the detectors need, unless it is there already."""
    now_ms = world.deps.market_data.server_time_ms(Market.SPOT)
    if not _needed(world, now_ms):
        return None
    say("fetching the history that the detectors judge against (once)")
    markets = (Market.USDM, Market.SPOT) if world.available.futures else (Market.SPOT,)
    report = run_backfill(world.deps, now_ms, history_hours(world.settings.sector), markets, stop, say)
    for symbol, reason in report.failed.items():
        say(f"no history of {symbol}: {reason}")
    if report.refused:
        say(report.refused)
    say(f"{report.bars:,} bars stored")
    return report


def run_backfill(
    deps: Dependencies,
    now_ms: int,
    hours: float,
    markets: tuple[Market, ...],
    stop: threading.Event,
    say: Callable[[str], None],
) -> BackfillReport:
    """Say how long it will take, then run the job with a progress bar.

    `stop` ends it early, and the next one goes on from there.
    """
    progress = Progress("bars")

    def show(done: int, total: int, text: str) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        if not done:
            say(text)
        progress(done, total, text)

    try:
        return backfill.run(deps, end_ms=now_ms, hours=hours, progress=show, markets=markets)
    finally:
        progress.close()


def _needed(world: World, now_ms: int) -> bool:
    bars = BarRepository(world.table)
    wanted: list[tuple[Market, tuple[str, ...], float]] = []
    if world.available.futures:
        wanted.append((Market.USDM, universe_at(world.deps, now_ms).symbols(), 16.0))
    if world.settings.volume_spike.enabled and world.settings.universe.spot_symbols:
        wanted.append((Market.SPOT, world.settings.universe.spot_symbols, 1.0))
    for market, symbols, hours in wanted:
        have = bars.have(market, now_ms - round(hours * HOUR_MS), now_ms)
        minutes = hours * HOUR_MS / MINUTE_MS
        if any(sum(symbol in there for there in have.values()) < minutes * _ENOUGH for symbol in symbols):
            return True
    return False
