"""What a person wants to see at a glance: alerts by hour, cooldowns in force, the forest's scores, each detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from shared.alerts.policy import Rules
from shared.clock import DAY_MS, HOUR_MS, iso_utc
from shared.detection.reading import Detector
from shared.jobs.deps import Dependencies, KeptScores
from shared.jobs.outcomes import how_they_turned_out
from shared.jobs.window_analysis import score_summary
from shared.market.model import Market
from shared.storage.alerts import AlertRepository
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.cooldowns import CooldownRepository
from shared.storage.windows import Scored, WindowRepository

HOURS = 24
SCORES = 1000
_BINS = 40
_AHEAD_MS = 60_000  # the exchange's clock may be ahead of ours
_AGAIN_MS = 15 * 60_000  # longer than closed windows wait to be stored together
_MOST_KEPT = 100


def alert_hours(deps: Dependencies, now_ms: int, hours: int = HOURS) -> dict[str, Any]:
    """Count the alerts of the last hours by hour (UTC) and detector, the running hour last."""
    last_ms = now_ms // HOUR_MS * HOUR_MS
    first_ms = last_ms - (hours - 1) * HOUR_MS
    by_hour: dict[int, Counter[str]] = {first_ms + i * HOUR_MS: Counter() for i in range(hours)}
    whole: Counter[str] = Counter()
    for event_ms, detector, _, _, _ in AlertRepository(deps.table).times(first_ms, last_ms + HOUR_MS):
        by_hour[event_ms // HOUR_MS * HOUR_MS][detector] += 1
        whole[detector] += 1
    return {
        "hours": [
            {"hour": iso_utc(hour), "total": sum(counts.values()), "detectors": dict(sorted(counts.items()))}
            for hour, counts in by_hour.items()
        ],
        "detectors": {one.value: whole[one.value] for one in Detector},
        "total": sum(whole.values()),
    }


def cooldowns(deps: Dependencies, now_ms: int) -> list[dict[str, Any]]:
    """Return what the last alerts keep back now: until when, and how many were held since; soonest end first.

    The alerts of the longest cooldown say which keys to look at, each key's own state what is in force: a cooldown
    that was lifted is not there. `key` is the name that `CooldownRepository.release` takes.
    """
    rules = Rules(deps.settings)
    longest_ms = max(rules.cooldown_ms(one) for one in Detector)
    newest: dict[tuple[str, str, str | None], str] = {}
    repository = AlertRepository(deps.table)
    for _, detector, symbol, direction, alert_id in repository.times(max(0, now_ms - longest_ms), now_ms + 1):
        newest[detector, symbol, direction] = alert_id
    states = CooldownRepository(deps.table)
    found = []
    for (name, symbol, direction), alert_id in newest.items():
        detector = Detector(name)
        for key in keys_of(detector, symbol):
            state = states.get(key)
            since_ms = next((one.at_ms for one in state.sent() if one.direction == direction), None)
            if since_ms is None or since_ms + rules.cooldown_ms(detector) <= now_ms:
                continue
            found.append(
                {
                    "key": key,
                    "detector": name,
                    "symbol": symbol,
                    "direction": direction,
                    "alert_id": alert_id,
                    "since": iso_utc(since_ms),
                    "until": iso_utc(since_ms + rules.cooldown_ms(detector)),
                    "held": state.held_count,
                    "held_since": None if state.held_since_ms is None else iso_utc(state.held_since_ms),
                }
            )
    return sorted(found, key=lambda row: (row["until"], row["detector"], row["symbol"]))


def keys_of(detector: Detector, symbol: str) -> list[str]:
    """Return the names under which the policy may keep its distance; see `shared.alerts.policy.cooldown_key`."""
    if detector in (Detector.SECTOR_INITIATOR, Detector.SECTOR_DIFFUSION):
        return [f"{detector.value}|{symbol}"]
    return [f"{detector.value}|{market.value}|{symbol}" for market in Market]


def newest_scores(deps: Dependencies, symbol: str, now_ms: int) -> dict[str, Any]:
    """Return `forest_scores` of now, asking the table only for the windows since the last call.

    The last minutes are read anew each time, because a window may be replaced; all of it once an hour.
    """
    kept = deps.warm.scores.get(symbol)
    until_ms = now_ms + _AHEAD_MS
    if kept is None or not kept.rows or not 0 <= now_ms - kept.read_ms < HOUR_MS:
        rows, read_ms = _score_rows(deps, symbol, until_ms), now_ms
    else:
        from_ms = kept.rows[-1].start_ms - _AGAIN_MS
        fresh = _score_rows(deps, symbol, until_ms, start_ms=from_ms)
        rows = [*(row for row in kept.rows if row.start_ms < from_ms), *fresh][-SCORES:]
        read_ms = kept.read_ms
        if rows == kept.rows:
            return kept.answer
    answer = _shown(deps, symbol, rows)
    if len(deps.warm.scores) >= _MOST_KEPT:
        deps.warm.scores.clear()
    deps.warm.scores[symbol] = KeptScores(read_ms, rows, answer)
    return answer


def forest_scores(deps: Dependencies, symbol: str, until_ms: int, limit: int = SCORES) -> dict[str, Any]:
    """Return the newest windows' scores as a histogram, with the threshold, the rate and how old the model is."""
    return _shown(deps, symbol, _score_rows(deps, symbol, until_ms, limit))


def _score_rows(deps: Dependencies, symbol: str, until_ms: int, limit: int = SCORES, start_ms: int = 0) -> list[Scored]:
    repository = WindowRepository(deps.table)
    return repository.scores(Market.SPOT.value, symbol, until_ms, limit=limit, start_ms=start_ms)


def _shown(deps: Dependencies, symbol: str, rows: list[Scored]) -> dict[str, Any]:
    settings = deps.settings.window_anomaly
    scores = np.array([row.score for row in rows if row.score is not None], dtype=np.float64)
    judged = [row for row in rows if row.prediction is not None]
    anomalies = sum(row.prediction == -1 for row in judged)
    counts, edges = np.histogram(scores, bins=_BINS) if len(scores) else (np.array([]), np.array([]))
    thresholds = [row.threshold for row in rows if row.threshold is not None]
    return {
        "symbol": symbol,
        "windows": len(rows),
        "first": iso_utc(rows[0].start_ms) if rows else None,
        "last": iso_utc(rows[-1].start_ms) if rows else None,
        "state": _state(rows),
        "edges": [round(float(edge), 6) for edge in edges],
        "counts": [int(count) for count in counts],
        "threshold": thresholds[-1] if thresholds else None,
        "judged": len(judged),
        "anomalies": anomalies,
        "rate": anomalies / len(judged) if judged else None,
        "model_age_windows": _model_age(deps, symbol),
        "wanted_rate": settings.alert_rate,
        "needed": {"windows": settings.first_fit, "scores": settings.calibration_min},
        "scored": len(scores),
        "scores": score_summary(scores),
    }


def _model_age(deps: Dependencies, symbol: str) -> int | None:
    """Return how many windows were learnt since the model was fitted, from the streamer's checkpoint; None: unknown."""
    stored = CheckpointRepository(deps.table).get(f"streamer/{Market.SPOT.value}/{symbol}")
    state = None if stored is None else stored.get("anomaly")
    if not isinstance(state, Mapping):
        return None
    learnt, fitted_after = state.get("learnt"), state.get("fitted_after")
    if not isinstance(learnt, int) or not isinstance(fitted_after, int) or not fitted_after:
        return None
    return max(0, learnt - fitted_after)


def _state(rows: list[Scored]) -> str:
    """`empty`, `learning` (no model or no threshold yet) or `judging`."""
    if not rows:
        return "empty"
    return "judging" if any(row.prediction is not None for row in rows[-50:]) else "learning"


def quality(deps: Dependencies, now_ms: int) -> dict[str, Any]:
    """Return the last evaluation; without one, how the alerts of the last day turned out, beside random moments.

    `state` is `evaluated`, `outcomes`, or `none` where neither is there.
    """
    stored = CheckpointRepository(deps.table).get(QUALITY)
    if stored is not None:
        return {"state": "evaluated", **stored}
    rows = [
        {
            "detector": name,
            "alerts": one["alerts"],
            "mean_5m": one["after"]["5m"]["mean"],
            "mean_60m": one["after"]["60m"]["mean"],
            "random_60m": one["random"]["60m"]["mean"],
            "lift_60m": one["lift"]["60m"],
        }
        for name, one in how_they_turned_out(deps, now_ms - DAY_MS, now_ms + 1).items()
    ]
    if not rows:
        return {"state": "none"}
    return {"state": "outcomes", "note": "Returns after the alerts of the last 24 hours", "rows": rows}


def kept_quality(created: str, truth: str, data: str, results: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return an evaluation in the form that `quality` shows, for the checkpoint `QUALITY`."""
    rows = []
    for row in list(results)[:_QUALITY_ROWS]:
        labels, lift = row.get("labels") or {}, row.get("lift") or {}
        rows.append(
            {
                "detector": f"{row['detector']} {row.get('setting', '')}".strip(),
                "level": row["level"],
                "alarms": row["alarms"],
                "precision": labels.get("precision"),
                "recall": labels.get("recall"),
                "lift": lift.get("lift"),
            }
        )
    return {"time": created, "note": truth, "data": data, "rows": rows}


QUALITY = "quality"
_QUALITY_ROWS = 40
