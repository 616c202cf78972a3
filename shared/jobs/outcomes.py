"""Fill in what the market did after each alert: after 5, 15 and 60 minutes, and the furthest prices in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from shared.alerts.model import Alert
from shared.alerts.outcome import (
    CONTROL_SPAN_MS,
    HORIZONS,
    LAST_MINUTE,
    control_moments,
    entry_of,
    outcome_of,
    summary,
)
from shared.clock import HOUR_MS, MINUTE_MS
from shared.detection.reading import Detector
from shared.errors import ExchangeError
from shared.jobs.common import bars_of, beat_sparingly
from shared.jobs.deps import Dependencies
from shared.market.bars import closed_bars
from shared.market.model import Bar, Market
from shared.storage.alerts import AlertRepository
from shared.storage.outcomes import OutcomeRepository

LOOK_BACK_MS = 26 * HOUR_MS
_PAGE = 200
_KLINES = 1000
_ENOUGH = 0.95
_GIVE_UP_MS = 3 * HOUR_MS


@dataclass(frozen=True, slots=True)
class OutcomesReport:
    """`waiting` alerts have not seen their next horizon yet; `lacking` ones found no price at their entry."""

    scheduled_ms: int
    filled: int = 0
    completed: int = 0
    waiting: int = 0
    lacking: int = 0


def run(deps: Dependencies, *, scheduled_ms: int) -> OutcomesReport:
    """Judge the alerts of the last day whose next horizon has passed. Doing it again writes the same."""
    now_ms = deps.clock.now_ms()
    outcomes = OutcomeRepository(deps.table, deps.settings.storage.retention_days)
    since_ms = now_ms - LOOK_BACK_MS
    known = outcomes.stages(since_ms, now_ms)
    filled = completed = waiting = lacking = 0
    for alert in alerts_since(deps, since_ms, now_ms):
        stage = known.get(alert.alert_id, 0)
        if stage is None or alert.detector is Detector.SYSTEM:
            continue
        entry_ms = entry_of(alert.detected_ms)
        passed = [minutes for minutes in HORIZONS if now_ms >= entry_ms + minutes * MINUTE_MS]
        if stage == len(passed) < len(HORIZONS):
            waiting += 1
            continue
        done = now_ms >= entry_ms + LAST_MINUTE * MINUTE_MS
        start_ms = entry_ms - (CONTROL_SPAN_MS if done else 0)
        bars = _bars(deps, alert.market, alert.symbol, start_ms, entry_ms + passed[-1] * MINUTE_MS, now_ms)
        outcome = outcome_of(bars, entry_ms, alert.direction, now_ms)
        if any(outcome.returns[minutes] is None for minutes in HORIZONS) and now_ms < entry_ms + _GIVE_UP_MS:
            outcome = replace(outcome, complete=False)  # the exchange may answer the next run
        controls = []
        if done:
            moments = control_moments(alert.alert_id, entry_ms)
            judged = [outcome_of(bars, at_ms, alert.direction, now_ms) for at_ms in moments]
            controls = [control for control in judged if control.entry_price is not None]
        outcomes.put(alert, outcome, controls)
        filled += 1
        completed += outcome.complete
        lacking += outcome.entry_price is None
    beat_sparingly(deps, "outcomes", {"minute_ms": scheduled_ms, "filled": filled, "completed": completed})
    return OutcomesReport(scheduled_ms, filled, completed, waiting, lacking)


def how_they_turned_out(deps: Dependencies, since_ms: int, until_ms: int) -> dict[str, Any]:
    """Return each detector's figures for the alerts of [since_ms, until_ms) whose hour is over."""
    judged = OutcomeRepository(deps.table).range(since_ms, until_ms)
    return summary([one for one in judged.values() if one.outcome.get("complete")])


def alerts_since(deps: Dependencies, since_ms: int, until_ms: int) -> Iterator[Alert]:
    """Yield the alerts of [since_ms, until_ms), newest first."""
    repository = AlertRepository(deps.table)
    cursor: str | None = None
    while True:
        page, cursor = repository.range(since_ms=since_ms, until_ms=until_ms, limit=_PAGE, cursor=cursor)
        yield from page
        if cursor is None:
            return


def _bars(deps: Dependencies, market: Market, symbol: str, start_ms: int, end_ms: int, now_ms: int) -> dict[int, Bar]:
    """Return bars by open time from the table; where it lacks them, from the exchange."""
    end_ms = min(end_ms, now_ms)
    bars = {bar.open_ms: bar for bar in bars_of(deps).one(market, symbol, start_ms, end_ms, consistent=False)}
    wanted = (end_ms - start_ms) // MINUTE_MS
    if len(bars) >= _ENOUGH * wanted:
        return bars
    try:
        asked = deps.market_data.klines(
            market, symbol, limit=min(_KLINES, wanted + 2), start_ms=start_ms, end_ms=end_ms
        )
    except ExchangeError:
        return bars  # what is lacking now is asked for again by the next run, until the day is over
    return {bar.open_ms: bar for bar in closed_bars(asked, now_ms)} | bars
