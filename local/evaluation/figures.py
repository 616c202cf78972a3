"""From alarms to figures: what each detector found, missed and cost, at the level of signals and of alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from local.evaluation.outcomes import Path, lift
from local.evaluation.truth import Matched, Protocol, match
from local.evaluation.units import Alarm, UnitResult
from local.replay import SECTOR_DETECTORS
from shared.detection.reading import Detector
from shared.market.model import Market
from shared.settings import Settings
from shared.times import DAY_MS, HOUR_MS, MINUTE_MS, iso_utc

LEVELS = ("signals", "news", "alerts")
"""Every firing of the rule; those that pass the alert gates; those that the whole policy lets through."""

Key = tuple[Market, str]


def figures(
    results: Sequence[UnitResult],
    detectors: Sequence[Detector],
    settings: Settings,
    *,
    protocol: Protocol,
    labels: Mapping[str, Sequence[int]] | None,
    horizon_ms: int,
) -> list[dict[str, Any]]:
    """Return one row for each detector and level that had anything to judge."""
    rows = []
    for detector in detectors:
        able = [result for result in results if result.speaks is None or detector in result.speaks]
        spans: dict[Key, list[tuple[int, int]]] = {}
        told: dict[Key, list[Alarm]] = {}
        for result in able:
            for market, symbol, first, last in result.spans:
                spans.setdefault((market, symbol), []).append((first, last))
            for alarm in result.alarms:
                if alarm.detector is detector:
                    told.setdefault((alarm.market, alarm.symbol), []).append(alarm)
        paths = {f"{m.value}:{symbol}:{path.start_ms}": path for one in able for m, symbol, path in one.paths}
        judged = sum(result.judged[detector.value] for result in able)
        if not told and not judged and not _silent(detector, able, settings):
            continue
        watched = _watched(detector, spans, told)
        for level in LEVELS:
            chosen = {key: [a for a in found if _at(a, level)] for key, found in told.items()}
            heard = {
                key: [alarm for alarm in found if _counts(alarm, watched.get(key, ()), protocol)]
                for key, found in chosen.items()
            }
            row = _row(detector, level, chosen, heard, watched, judged, settings, protocol)
            if labels is not None:
                row["labels"] = _labelled(chosen, watched, labels, protocol)
            measured = lift(paths, _by_path(heard, paths), horizon_ms)
            row["lift"] = None if measured is None else asdict(measured)
            row["clock"] = clock = _clock(heard)
            row["at_quarters"] = sum(clock[::15]) * 15 / sum(clock) if any(clock) else None
            row["by_day"] = _by_day(chosen)
            rows.append(row)
    return rows


def alerts_by_day(results: Sequence[UnitResult]) -> dict[str, int]:
    """Return the alerts of each whole UTC day of the recordings, all detectors together, days without one too.

    Volume spikes of futures are left out: a deployment watches the spot market for them.
    """
    edge = 2 * MINUTE_MS  # a day counts as whole when at most its first or last two minutes are missing
    days = Counter(
        {
            day: 0
            for result in results
            for _, _, first, last in result.spans
            for day in range(-(-(first - edge) // DAY_MS), (last + edge) // DAY_MS)
        }
    )
    for result in results:
        for alarm in result.alarms:
            ours = alarm.detector is not Detector.VOLUME_SPIKE or alarm.market is Market.SPOT
            if alarm.sent and ours and (day := alarm.known_ms // DAY_MS) in days:
                days[day] += 1
    return {iso_utc(day * DAY_MS)[:10]: days[day] for day in sorted(days)}


def _silent(detector: Detector, able: Sequence[UnitResult], settings: Settings) -> bool:
    """Tell whether a rule that counts nothing of what it judges was on, so that its silence is a figure too."""
    if detector is Detector.SECTOR_DIFFUSION:
        return any(result.judged[Detector.SECTOR_INITIATOR.value] for result in able)
    on = {Detector.TRADE_SPIKE: settings.trade_spike.enabled, Detector.PUMP: settings.pump.enabled}
    return on.get(detector, False) and any(result.speaks is not None for result in able)


def _watched(
    detector: Detector, spans: Mapping[Key, list[tuple[int, int]]], told: Mapping[Key, Any]
) -> dict[Key, list[tuple[int, int]]]:
    """Return what the detector watched: the markets that hold its alarms; everything where it said nothing."""
    markets = {market for market, _ in told} or {market for market, _ in spans}
    if detector in SECTOR_DETECTORS:
        markets = {Market.USDM}
    return {key: times for key, times in spans.items() if key[0] in markets}


def _at(alarm: Alarm, level: str) -> bool:
    return level == "signals" or (alarm.news if level == "news" else alarm.sent)


def _row(
    detector: Detector,
    level: str,
    chosen: Mapping[Key, list[Alarm]],
    heard: Mapping[Key, list[Alarm]],
    watched: Mapping[Key, list[tuple[int, int]]],
    judged: int,
    settings: Settings,
    protocol: Protocol,
) -> dict[str, Any]:
    days = (
        sum(max(0, last - first - protocol.warmup_ms) for times in watched.values() for first, last in times) / DAY_MS
    )
    counted, total = sum(map(len, heard.values())), sum(map(len, chosen.values()))
    asked = {
        Detector.WINDOW_ANOMALY: settings.window_anomaly.alert_rate,
        Detector.VOLUME_SPIKE: None if level == "signals" else settings.volume_spike.rarity_max,
    }.get(detector)
    return {
        "detector": detector.value,
        "level": level,
        "alarms": counted,
        "symbols": len(watched),
        "symbol_days": days,
        "per_symbol_day": counted / days if days else None,
        "judged": judged or None,
        "rate_asked": asked,
        "rate_realised": total / judged if judged else None,  # of all that was judged, in the warm-up too
    }


def _labelled(
    chosen: Mapping[Key, list[Alarm]],
    watched: Mapping[Key, list[tuple[int, int]]],
    labels: Mapping[str, Sequence[int]],
    protocol: Protocol,
) -> dict[str, Any]:
    known: dict[str, list[int]] = {}
    spans: dict[str, list[tuple[int, int]]] = {}
    for (_, symbol), found in chosen.items():
        known.setdefault(symbol, []).extend(alarm.known_ms for alarm in found)
    for (_, symbol), times in watched.items():
        spans.setdefault(symbol, []).extend(times)
    matched = match(known, labels, spans, protocol)
    seconds = sum(max(0, last - first - protocol.warmup_ms) for times in spans.values() for first, last in times)
    return scores(matched, seconds / DAY_MS)


def scores(matched: Matched, symbol_days: float) -> dict[str, Any]:
    """Return precision, recall, F1 and delays of matched events. Precision and F1 are None where nothing was said."""
    found, missed, false = len(matched.found), len(matched.missed), matched.false
    precision = found / (found + false) if found + false else None
    recall = found / (found + missed) if found + missed else None
    delays = np.array([delay for _, _, delay in matched.found]) / 1000.0
    return {
        "events": found + missed,
        "found": found,
        "missed": missed,
        "false_alarms": false,
        "alarms": matched.alarms,
        "precision": precision,
        "recall": recall,
        "f1": 2 * found / (2 * found + missed + false) if found + missed + false else None,
        "delay_s_median": float(np.median(delays)) if found else None,
        "delay_s_p90": float(np.quantile(delays, 0.9)) if found else None,
        "false_per_symbol_day": false / symbol_days if symbol_days else None,
        "missed_events": [f"{symbol} {iso_utc(at)}" for symbol, at in matched.missed],
    }


def _by_path(chosen: Mapping[Key, list[Alarm]], paths: Mapping[str, Path]) -> dict[str, list[tuple[int, int]]]:
    """Give each recorded path the alarms that fall into it."""
    given: dict[str, list[tuple[int, int]]] = {name: [] for name in paths}
    by_key: dict[str, list[str]] = {}
    for name in paths:
        by_key.setdefault(name.rsplit(":", 1)[0], []).append(name)
    for (market, symbol), found in chosen.items():
        for name in by_key.get(f"{market.value}:{symbol}", ()):
            path = paths[name]
            end = path.start_ms + path.step_ms * len(path.prices)
            given[name] = [(a.known_ms, a.way) for a in found if path.start_ms <= a.known_ms <= end]
    return {name: times for name, times in given.items() if times}


def _clock(heard: Mapping[Key, list[Alarm]]) -> list[int]:
    """Return the alarms by minute of the hour: what the clock, not the market, makes shows here."""
    counts = [0] * 60
    for found in heard.values():
        for alarm in found:
            counts[alarm.event_ms % HOUR_MS // MINUTE_MS] += 1
    return counts


def _counts(alarm: Alarm, spans: Sequence[tuple[int, int]], protocol: Protocol) -> bool:
    return any(first + protocol.warmup_ms <= alarm.known_ms <= last + MINUTE_MS for first, last in spans)


def _by_day(chosen: Mapping[Key, list[Alarm]]) -> dict[str, int]:
    """Return the alarms by UTC day, all symbols together."""
    days = Counter(alarm.event_ms // DAY_MS for found in chosen.values() for alarm in found)
    return {iso_utc(day * DAY_MS)[:10]: days[day] for day in sorted(days)}
