"""Stored features in, initiators and diffusions out: each minute is decided once, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from shared.clock import MINUTE_MS
from shared.detection.features import SymbolFeatures
from shared.detection.market_wide import market_signal
from shared.detection.rarest import RarestBudget
from shared.detection.reading import Detector, Signal, Status
from shared.detection.sector import DiffusionTracker
from shared.detection.sector_signals import diffusion_signal, initiator_signal
from shared.jobs import universe
from shared.jobs.common import beat, features_of, tell
from shared.jobs.confirmations import Confirmer
from shared.jobs.deps import Dependencies
from shared.jobs.sector_past import SectorPast
from shared.settings import Settings
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.signals import decode_signal, encode_signal
from shared.storage.table import Table

CHECKPOINT = "sector"
CATCH_UP = 180  # minutes; what lies further back is skipped and counted
_ATTEMPTS = 5
_FEATURE_NAMES = tuple(one.name for one in fields(SymbolFeatures))


@dataclass(frozen=True, slots=True)
class SectorReport:
    """`minutes` were decided in this run, `redecided` once more after late bars; `unknown` counts confirmations that a
    source could not give."""

    minute_ms: int
    minutes: int = 0
    redecided: int = 0
    symbols: int = 0
    learning: int = 0
    initiators: int = 0
    diffusions: int = 0
    pending: int = 0
    signals: int = 0
    alerts: int = 0
    held: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    skipped_minutes: int = 0
    repeated: bool = False
    late: bool = False
    skipped: str | None = None


@dataclass(slots=True)
class _Decided:
    """What stepping from one state to the next has found."""

    state: dict[str, Any]
    signals: list[Signal]
    symbols: int = 0
    learning: int = 0
    initiators: int = 0
    diffusions: int = 0


def run(deps: Dependencies, *, minute_ms: int, changed_from_ms: int | None = None) -> SectorReport:
    """Decide every minute up to `minute_ms` that has features and is newer than the last one decided.

    `changed_from_ms` names the oldest decided minute whose features were restated after a late bar: from there on, as
    far back as states are kept, minutes are decided again, and what the first time did not find is told.
    The next state and the signals found are written together, before anything is told: a repeat tells the same
    signals again and decides nothing anew, and of two runs at once only one decides.
    """
    if not deps.settings.sector.enabled:
        return SectorReport(minute_ms, skipped="disabled")
    checkpoints = CheckpointRepository(deps.table)
    confirmer = Confirmer(deps)
    for _ in range(_ATTEMPTS):
        known = checkpoints.load(CHECKPOINT)
        state = None if known is None else known.state
        undelivered = [] if state is None else [decode_signal(packed) for packed in state["signals"]]
        newest_ms = None if state is None else int(state["newest_ms"])
        past = SectorPast(state, deps.settings.sector)
        restated = newest_ms is not None and changed_from_ms is not None and changed_from_ms <= newest_ms
        base = past.before(changed_from_ms) if restated and changed_from_ms is not None else None
        if newest_ms is not None and newest_ms >= minute_ms and (base is None or base["newest_ms"] >= newest_ms):
            told = tell(deps, undelivered)
            late = newest_ms > minute_ms
            return SectorReport(
                minute_ms, signals=told.signals, alerts=told.alerts, held=told.held, repeated=not late, late=late
            )
        last_ms = minute_ms if newest_ms is None else max(minute_ms, newest_ms)
        start = state if base is None else {**(state or {}), **base}
        first_ms = minute_ms if start is None else int(start["newest_ms"]) + MINUTE_MS
        earliest_ms = max(first_ms, last_ms - (CATCH_UP - 1) * MINUTE_MS)
        stored = features_of(deps).range(earliest_ms, last_ms + MINUTE_MS)
        if not stored:
            return SectorReport(minute_ms, skipped="no features of this minute are stored")
        decided = _decide(deps, start, stored, confirmer, past)
        if not checkpoints.put(CHECKPOINT, decided.state, expected_version=0 if known is None else known.version):
            continue
        tell(deps, undelivered)  # of a run that was killed before it could
        told = tell(deps, decided.signals)
        pending = sum(not one["done"] for one in decided.state["tracker"]["pending"])
        beat(deps, "sector", {"minute_ms": stored[-1][0], "symbols": decided.symbols, "learning": decided.learning})
        return SectorReport(
            minute_ms=minute_ms,
            minutes=sum(newest_ms is None or at_ms > newest_ms for at_ms, _ in stored),
            redecided=sum(newest_ms is not None and at_ms <= newest_ms for at_ms, _ in stored),
            symbols=decided.symbols,
            learning=decided.learning,
            initiators=decided.initiators,
            diffusions=decided.diffusions,
            pending=pending,
            signals=told.signals,
            alerts=told.alerts,
            held=told.held,
            unknown=confirmer.unknown,
            skipped_minutes=(earliest_ms - first_ms) // MINUTE_MS,
        )
    return SectorReport(minute_ms, skipped="state kept changing: another run is deciding")


def _decide(
    deps: Dependencies,
    state: Mapping[str, Any] | None,
    stored: list[tuple[int, dict[str, Any]]],
    confirmer: Confirmer,
    past: SectorPast,
) -> _Decided:
    settings = deps.settings.sector
    parts = universe.segments(deps, stored[0][0], stored[-1][0])
    tracker = DiffusionTracker(settings, parts[0][1])
    if state is not None:
        tracker.restore(state["tracker"])
    decided = _Decided({}, [])
    budget = None if settings.budget_per_day is None else RarestBudget(settings.budget_per_day)
    if budget is not None and state is not None:
        budget.restore(state.get("budget", []))
    for at_ms, rows in stored:
        while len(parts) > 1 and parts[1][0] <= at_ms:
            del parts[0]
            tracker = tracker.moved_to(parts[0][1])
        features = {symbol: read_features(row) for symbol, row in rows.items()}
        decision = tracker.decide(at_ms, features)
        hits = [hit for hit in decision.hits if not past.knows_initiator(hit.symbol, at_ms)]
        confirmations = confirmer.confirm((hit.symbol for hit in hits), at_ms) if hits else {}
        found = [initiator_signal(hit, confirmations[hit.symbol], settings) for hit in hits]
        found += [diffusion_signal(event, settings) for event in decision.events]
        if decision.move is not None:
            found.insert(0, market_signal(decision.move, tracker.universe.benchmark, settings))
        for signal in filter(past.learn, found):
            judged = budget is not None and signal.detector is not Detector.MARKET_WIDE
            decided.signals.append(budget.judged(signal) if budget is not None and judged else signal)
            decided.initiators += signal.detector is Detector.SECTOR_INITIATOR
            decided.diffusions += signal.detector is Detector.SECTOR_DIFFUSION
        decided.symbols = len(features)
        decided.learning = sum(one.status is Status.WARMING for one in features.values())
    snapshot = tracker.snapshot()
    decided.state = {
        "newest_ms": stored[-1][0],
        "tracker": snapshot,
        **past.snapshot(stored[-1][0], snapshot),
        "signals": [encode_signal(signal) for signal in decided.signals],
        **({} if budget is None else {"budget": budget.snapshot()}),
    }
    return decided


def load_tracker(table: Table, settings: Settings) -> DiffusionTracker:
    """Return the tracker as the last decided minute left it, with its pending initiators."""
    state = CheckpointRepository(table).get(CHECKPOINT)
    at_ms = 0 if state is None else int(state["newest_ms"])
    tracker = DiffusionTracker(settings.sector, universe.stored_universe(table, settings, at_ms))
    if state is not None:
        tracker.restore(state["tracker"])
    return tracker


def read_features(row: Mapping[str, Any]) -> SymbolFeatures:
    """Read one symbol's features back from their stored form."""
    values = {name: row[name] for name in _FEATURE_NAMES}
    return SymbolFeatures(**{**values, "status": Status(row["status"])})
