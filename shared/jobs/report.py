"""What happened between two times: counts, top symbols, every event, and how healthy the feeds were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.alerts.outcome import summary
from shared.clock import MINUTE_MS, floor_minute_ms, iso_utc
from shared.detection.reading import Detector
from shared.jobs.common import bars_of
from shared.jobs.deps import Dependencies
from shared.jobs.health import health
from shared.market.model import Market
from shared.storage.outcomes import OutcomeRepository
from shared.storage.signals import SignalRepository, StoredSignal

MAX_EVENTS = 5_000  # listed one by one; a busy pair gives 50 trade spikes a minute, most of them held
_TOP = 20
_PAGE = 500


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The finished report; `to_json` is its published form."""

    generated_ms: int
    since_ms: int
    until_ms: int
    counts: Mapping[str, Mapping[str, Any]]
    top_symbols: tuple[Mapping[str, Any], ...]
    initiators_by_status: Mapping[str, int]
    diffusions: tuple[Mapping[str, Any], ...]
    events: tuple[Mapping[str, Any], ...]
    events_left_out: Mapping[str, int]
    first_event_ms: int | None
    last_event_ms: int | None
    feed_health: Mapping[str, Any] = field(default_factory=dict)
    outcomes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "generated": iso_utc(self.generated_ms),
            "since": iso_utc(self.since_ms),
            "until": iso_utc(self.until_ms),
            "time_range": {
                "first_event": None if self.first_event_ms is None else iso_utc(self.first_event_ms),
                "last_event": None if self.last_event_ms is None else iso_utc(self.last_event_ms),
                "minutes": (self.until_ms - self.since_ms) // MINUTE_MS,
            },
            "counts": dict(self.counts),
            "top_symbols": list(self.top_symbols),
            "initiators_by_status": dict(self.initiators_by_status),
            "diffusions": list(self.diffusions),
            "events": list(self.events),
            "events_left_out": dict(self.events_left_out),
            "feed_health": dict(self.feed_health),
            "outcomes": dict(self.outcomes),
        }


def run(deps: Dependencies, *, since_ms: int, until_ms: int, max_events: int = MAX_EVENTS) -> ReportResult:
    """Report on the signals of [since_ms, until_ms), newest first.

    Every event is counted. Alerts, sector and system events are always listed; of the rest the newest `max_events`
    are, and `events_left_out` says how many of each detector are not.
    """
    signals: Counter[str] = Counter()
    alerts: Counter[str] = Counter()
    held: dict[str, Counter[str]] = {}
    symbols: Counter[str] = Counter()
    symbol_alerts: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    diffusions: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    times: list[int] = []
    outcomes = OutcomeRepository(deps.table).range(since_ms, until_ms)
    for stored in _stored(deps, since_ms, until_ms):
        signal = stored.signal
        name = signal.detector.value
        signals[name] += 1
        times = [min(times[0], signal.event_ms), max(times[1], signal.event_ms)] if times else [signal.event_ms] * 2
        if signal.detector is not Detector.SYSTEM:
            symbols[signal.symbol] += 1
            symbol_alerts[signal.symbol] += stored.held_reason is None
        if stored.held_reason is None:
            alerts[name] += 1
        else:
            held.setdefault(name, Counter())[stored.held_reason] += 1
        row = event_row(stored)
        if stored.held_reason is None:
            judged = outcomes.get(stored.alert_id)
            row["outcome"] = None if judged is None else dict(judged.outcome)
        if signal.detector is Detector.SECTOR_INITIATOR:
            statuses[str(signal.values.get("status"))] += 1
        if signal.detector is Detector.SECTOR_DIFFUSION:
            diffusions.append(row)
        always = stored.held_reason is None or signal.detector in _ALWAYS
        if always or len(events) < max_events:
            events.append(row)
        else:
            left_out[name] += 1
    return ReportResult(
        generated_ms=deps.clock.now_ms(),
        since_ms=since_ms,
        until_ms=until_ms,
        counts={
            one.value: {
                "signals": signals[one.value],
                "alerts": alerts[one.value],
                "held": dict(sorted(held.get(one.value, Counter()).items())),
            }
            for one in Detector
        },
        top_symbols=_top(symbols, symbol_alerts),
        initiators_by_status=dict(sorted(statuses.items())),
        diffusions=tuple(diffusions),
        events=tuple(events),
        events_left_out=dict(sorted(left_out.items())),
        first_event_ms=times[0] if times else None,
        last_event_ms=times[1] if times else None,
        feed_health={**health(deps), "minutes": _minutes(deps, since_ms, until_ms)},
        outcomes=summary([one for one in outcomes.values() if one.outcome.get("complete")]),
    )


_ALWAYS = (Detector.SECTOR_INITIATOR, Detector.SECTOR_DIFFUSION, Detector.MARKET_WIDE, Detector.SYSTEM)


def event_row(stored: StoredSignal) -> dict[str, Any]:
    """Return a stored signal in the form that the report and the API show."""
    signal = stored.signal
    return {
        "detector": signal.detector.value,
        "market": signal.market.value,
        "symbol": signal.symbol,
        "sector": signal.sector,
        "direction": signal.direction.value if signal.direction else None,
        "event_time": iso_utc(signal.event_ms),
        "known_time": iso_utc(signal.known_ms),
        "trade_id": signal.trade_id,
        "strength": signal.strength,
        "values": dict(signal.values),
        "thresholds": dict(signal.thresholds),
        "rule_version": signal.rule_version,
        "alert_id": stored.alert_id,
        "alerted": stored.held_reason is None,
        "held_reason": stored.held_reason,
        "held_until": None if stored.held_until_ms is None else iso_utc(stored.held_until_ms),
    }


def _top(signals: Counter[str], alerts: Counter[str]) -> tuple[dict[str, Any], ...]:
    """Return the symbols with most alerts, then most signals."""
    ranked = sorted(signals, key=lambda symbol: (-alerts[symbol], -signals[symbol], symbol))
    return tuple({"symbol": symbol, "signals": signals[symbol], "alerts": alerts[symbol]} for symbol in ranked[:_TOP])


def _stored(deps: Dependencies, since_ms: int, until_ms: int) -> Iterator[StoredSignal]:
    repository = SignalRepository(deps.table)
    cursor: str | None = None
    while True:
        page, cursor = repository.range(since_ms=since_ms, until_ms=until_ms, limit=_PAGE, cursor=cursor)
        yield from page
        if cursor is None:
            return


def _minutes(deps: Dependencies, since_ms: int, until_ms: int) -> dict[str, Any]:
    """Count the stored minutes of each market in the reported time, and those that are missing after the first."""
    found = {}
    for market in Market:
        stored = sorted(bars_of(deps).have(market, since_ms, until_ms))
        if stored:
            expected = (floor_minute_ms(stored[-1]) - stored[0]) // MINUTE_MS + 1
            found[market.value] = {
                "stored": len(stored),
                "missing": expected - len(stored),
                "first": iso_utc(stored[0]),
                "last": iso_utc(stored[-1]),
            }
        else:
            found[market.value] = {"stored": 0, "missing": 0, "first": None, "last": None}
    return found
