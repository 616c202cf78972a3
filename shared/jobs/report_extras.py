"""What the report shows beyond its events: hours, sectors, the forest, and the bars for its charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.clock import DAY_MS, HOUR_MS, iso_utc, parse_utc_ms
from shared.detection.reading import Detector
from shared.jobs import report, window_analysis
from shared.jobs.charts import bars as bars_of_one
from shared.jobs.common import features_of
from shared.jobs.deps import Dependencies
from shared.jobs.universe import universe_at
from shared.market.model import Bar, Market
from shared.storage.alerts import AlertRepository
from shared.storage.windows import WindowRepository

MOST_CHARTS = 6
_MOST_FORESTS = 6
_BINS = 40
_HOURLY = 48 * HOUR_MS  # longer reports count by day


@dataclass(frozen=True, slots=True)
class ChartData:
    """One symbol's bars and the alerts that stand on them."""

    market: Market
    symbol: str
    bars: Sequence[Bar]
    alerts: Sequence[Mapping[str, Any]]


def full_report(deps: Dependencies, *, since_ms: int, until_ms: int) -> tuple[dict[str, Any], list[ChartData]]:
    """Return the report with hours, sectors and windows beside its own fields, and what its charts need."""
    answer = report.run(deps, since_ms=since_ms, until_ms=until_ms).to_json()
    spot = [row["symbol"] for row in answer["top_symbols"]] + list(deps.settings.universe.spot_symbols)
    whole = {
        **answer,
        "by_time": counts_by_time(deps, since_ms, until_ms),
        "sectors": sectors(deps, until_ms),
        "windows": forests(deps, dict.fromkeys(spot), since_ms, until_ms),
    }
    return whole, charts(deps, answer["events"], since_ms, until_ms)


def counts_by_time(deps: Dependencies, since_ms: int, until_ms: int) -> dict[str, Any]:
    """Count alerts by detector and hour (by day in a report of more than 48 hours)."""
    step_ms = HOUR_MS if until_ms - since_ms <= _HOURLY else DAY_MS
    steps = list(range(since_ms // step_ms * step_ms, until_ms, step_ms))
    counts: Counter[tuple[str, int]] = Counter()
    for event_ms, detector, _, _, _ in AlertRepository(deps.table).times(since_ms, until_ms):
        counts[detector, event_ms // step_ms * step_ms] += 1
    return {
        "step_hours": step_ms // HOUR_MS,
        "times": [iso_utc(at_ms) for at_ms in steps],
        "alerts": {one.value: [counts[one.value, at_ms] for at_ms in steps] for one in Detector},
    }


def sectors(deps: Dependencies, until_ms: int) -> dict[str, Any]:
    """Return the newest features before `until_ms`, by sector."""
    newest = features_of(deps).latest()
    if newest is None or newest[0] >= until_ms:
        found = features_of(deps).range(max(0, until_ms - HOUR_MS), until_ms)
        newest = found[-1] if found else None
    if newest is None:
        return {"time": None, "sectors": {}}
    universe = universe_at(deps, newest[0])
    names = ("symbol", "status", "z_excess_return", "z_volume", "taker_buy_share", "beta", "r_15m", "bars")
    groups: dict[str, list[dict[str, Any]]] = {}
    for symbol, row in sorted(newest[1].items()):
        sector = universe.sector_of(symbol) or "Benchmark"
        groups.setdefault(sector, []).append({name: row.get(name) for name in names})
    return {"time": iso_utc(newest[0]), "sectors": groups}


def forests(deps: Dependencies, symbols: Iterable[str], since_ms: int, until_ms: int) -> dict[str, Any]:
    """Return rate, scores and lift of each spot symbol that has windows in the reported time."""
    repository, found = WindowRepository(deps.table), {}
    for symbol in symbols:
        rows = repository.range(Market.SPOT.value, symbol, since_ms, until_ms)
        if not rows:
            continue
        thresholds = [row["threshold"] for row in rows if row.get("threshold") is not None]
        found[symbol] = {
            **window_analysis.summary(rows),
            "threshold": thresholds[-1] if thresholds else None,
            "distribution": window_analysis.distribution(rows, bins=_BINS),
        }
        if len(found) == _MOST_FORESTS:
            break
    return found


def charts(deps: Dependencies, events: Sequence[Mapping[str, Any]], since_ms: int, until_ms: int) -> list[ChartData]:
    """Return the bars of the symbols with most alerts, most first."""
    by_symbol: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for event in events:
        if event["alerted"] and event["detector"] != Detector.SYSTEM.value:
            by_symbol.setdefault((event["market"], event["symbol"]), []).append(event)
    ranked = sorted(by_symbol, key=lambda name: (-len(by_symbol[name]), name))
    found = []
    for market, symbol in ranked[:MOST_CHARTS]:
        alerts = by_symbol[market, symbol]
        first_ms = min(parse_utc_ms(event["event_time"]) for event in alerts)
        from_ms = min(max(since_ms, until_ms - DAY_MS), first_ms)
        bars = bars_of_one(deps.table, Market(market), symbol, from_ms // HOUR_MS * HOUR_MS, until_ms)
        if bars:
            found.append(ChartData(Market(market), symbol, bars, alerts))
    return found
