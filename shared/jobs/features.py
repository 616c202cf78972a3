"""Stored bars in, the sector detector's features out: exact, in order, and with only the missing bars read."""

from __future__ import annotations

from dataclasses import dataclass

from shared.clock import MINUTE_MS
from shared.detection.features import FeatureEngine, history_minutes
from shared.detection.reading import Status
from shared.jobs import universe
from shared.jobs.common import bars_of, beat, features_of
from shared.jobs.deps import FEATURES_STORED, Dependencies
from shared.market.model import Market
from shared.market.universe import Universe
from shared.storage.bars import BarRepository

_RECENT = 10  # minutes that are read consistently
CATCH_UP = 180  # minutes of features that one run writes after an outage; older ones are skipped and counted


@dataclass(frozen=True, slots=True)
class FeaturesReport:
    """`minutes` were computed and stored; `warming` and `unscorable` count symbols of the newest one."""

    minute_ms: int
    minutes: int = 0
    symbols: int = 0
    scored: int = 0
    warming: int = 0
    unscorable: int = 0
    minutes_read: int = 0
    cold: bool = False
    restated_minutes: int = 0
    skipped_minutes: int = 0
    repeated: bool = False
    skipped: str | None = None


def run(deps: Dependencies, *, minute_ms: int, changed_from_ms: int | None = None) -> FeaturesReport:
    """Compute the features of every minute up to `minute_ms` that has bars and no features yet.

    `changed_from_ms` names the oldest minute whose bars came late: features from there on are computed again.
    """
    if not deps.settings.sector.enabled:
        return FeaturesReport(minute_ms, skipped="disabled")
    with deps.warm.lock:
        report = _compute(deps, minute_ms, changed_from_ms)
    beat(deps, "features", {"minute_ms": minute_ms, "minutes": report.minutes, "symbols": report.symbols})
    if report.minutes or report.repeated:
        restated_ms = changed_from_ms if report.restated_minutes else None
        deps.emit(FEATURES_STORED, {"minute_ms": minute_ms, "changed_from_ms": restated_ms})
    return report


def _compute(deps: Dependencies, minute_ms: int, changed_from_ms: int | None) -> FeaturesReport:
    bars, stored = bars_of(deps), features_of(deps)
    newest = stored.latest()
    newest_ms = None if newest is None else newest[0]
    restated = newest_ms is not None and changed_from_ms is not None and changed_from_ms <= newest_ms
    known = newest_ms is not None and minute_ms <= newest_ms and stored.get(minute_ms) is not None
    if known and not restated:
        return FeaturesReport(minute_ms, repeated=True)

    first_ms = minute_ms if newest_ms is None else min(minute_ms, newest_ms + MINUTE_MS)
    if restated and changed_from_ms is not None:
        first_ms = min(first_ms, changed_from_ms)
    last_ms = minute_ms if newest_ms is None or not restated else max(minute_ms, newest_ms)
    earliest_ms = last_ms - (CATCH_UP - 1) * MINUTE_MS
    skipped = max(0, (earliest_ms - first_ms) // MINUTE_MS)
    first_ms = max(first_ms, earliest_ms)

    minutes = read = 0
    cold = False
    latest: dict[str, Status] = {}
    parts = universe.segments(deps, first_ms, last_ms)
    ends = [from_ms for from_ms, _ in parts[1:]] + [last_ms + MINUTE_MS]
    for (from_ms, watched), end_ms in zip(parts, ends, strict=True):
        engine, loaded, was_cold = _engine_before(deps, bars, watched, from_ms)
        deps.warm.engine = None  # until the whole part has gone well: a half-fed engine is never used again
        for at_ms, rows in bars.minutes(Market.USDM, from_ms, end_ms):
            features = engine.push(at_ms, rows)
            stored.put(at_ms, {symbol: values.to_json() for symbol, values in features.items()})
            latest = {symbol: values.status for symbol, values in features.items()}
            minutes += 1
        deps.warm.engine, deps.warm.engine_symbols = engine, watched.symbols()
        read, cold = read + loaded, cold or was_cold
    counted = list(latest.values())
    return FeaturesReport(
        minute_ms=minute_ms,
        minutes=minutes,
        symbols=len(counted),
        scored=sum(status in (Status.NORMAL, Status.ANOMALY) for status in counted),
        warming=counted.count(Status.WARMING),
        unscorable=counted.count(Status.UNSCORABLE),
        minutes_read=read + minutes,
        cold=cold,
        restated_minutes=0 if newest_ms is None else max(0, (newest_ms - first_ms) // MINUTE_MS + 1),
        skipped_minutes=skipped,
    )


def _engine_before(
    deps: Dependencies, bars: BarRepository, watched: Universe, first_ms: int
) -> tuple[FeatureEngine, int, bool]:
    """Return an engine that knows every minute before `first_ms`, how many minutes were read, and whether all were."""
    symbols = watched.symbols()
    history_ms = history_minutes(deps.settings.sector) * MINUTE_MS
    engine = deps.warm.engine
    usable = (
        engine is not None
        and deps.warm.engine_symbols == symbols
        and engine.newest_ms is not None
        and first_ms - history_ms <= engine.newest_ms < first_ms
    )
    if usable and engine is not None and engine.newest_ms is not None:
        start_ms = engine.newest_ms + MINUTE_MS
    else:
        engine = FeatureEngine(deps.settings.sector, watched.benchmark, symbols)
        start_ms = first_ms - history_ms
    if start_ms >= first_ms:
        return engine, 0, not usable
    # Eventually consistent reads cost half; only of the newest minutes could they miss what was just written.
    recent_ms = max(start_ms, first_ms - _RECENT * MINUTE_MS)
    read = 0
    for from_ms, end_ms, consistent in ((start_ms, recent_ms, False), (recent_ms, first_ms, True)):
        history = bars.columns(Market.USDM, engine.symbols, from_ms, end_ms, consistent=consistent)
        if history.stored:
            engine.load_arrays(from_ms, history.close, history.volume, history.taker)
        read += history.stored
    return engine, read, not usable
