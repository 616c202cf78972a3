"""What the stored windows tell: score summary, anomaly rate, score distribution, and the lift of anomalies.

The lift says how much larger the summed absolute return over the next minutes is after anomalies than after other
windows: mean after anomalies / mean after the others, 1 = no difference.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from shared.alerts.wording import table_field
from shared.clock import HOUR_MS, MINUTE_MS, iso_utc

Row = Mapping[str, Any]
HORIZONS_MINUTES = (1, 5, 15, 30)
COLUMNS = ("timestamp", "trade_count", "volume", "avg_trade_size", "return", "volatility", "score", "prediction")


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return counts by state, the time range and the distribution of the scores."""
    states = Counter(_state(row) for row in rows)
    scores = _scores(rows)
    return {
        "windows": len(rows),
        "states": dict(states),
        "incomplete": sum(1 for row in rows if not row.get("complete", True)),
        "first": iso_utc(rows[0]["start_ms"]) if rows else None,
        "last": iso_utc(rows[-1]["end_ms"]) if rows else None,
        "scores": score_summary(scores),
        "rate": rate(rows)["overall"],
        "lift": lift(rows),
    }


def score_summary(scores: npt.NDArray[np.float64]) -> dict[str, float] | None:
    if not len(scores):
        return None
    quantiles = np.quantile(scores, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    names = ("p1", "p5", "p25", "p50", "p75", "p95", "p99")
    return {
        "count": len(scores),
        "mean": float(scores.mean()),
        "std": float(scores.std(ddof=1)) if len(scores) > 1 else 0.0,
        "min": float(scores.min()),
        **{name: float(value) for name, value in zip(names, quantiles, strict=True)},
        "max": float(scores.max()),
    }


def rate(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the share of anomalies among judged windows, over all and by hour (UTC)."""
    hours: dict[int, list[int]] = {}
    for row in rows:
        if row.get("prediction") is not None:
            counts = hours.setdefault(row["start_ms"] // HOUR_MS * HOUR_MS, [0, 0])
            counts[0] += 1
            counts[1] += row["prediction"] == -1
    judged, anomalies = sum(c[0] for c in hours.values()), sum(c[1] for c in hours.values())
    return {
        "overall": {"judged": judged, "anomalies": anomalies, "rate": anomalies / judged if judged else None},
        "hours": [
            {"hour": iso_utc(hour), "judged": counts[0], "anomalies": counts[1], "rate": counts[1] / counts[0]}
            for hour, counts in sorted(hours.items())
        ],
    }


def distribution(rows: Sequence[Row], *, bins: int = 20) -> list[dict[str, float]]:
    """Return a histogram of the scores: [from, to) and how many lie there."""
    scores = _scores(rows)
    if not len(scores):
        return []
    counts, edges = np.histogram(scores, bins=bins)
    return [{"from": float(edges[i]), "to": float(edges[i + 1]), "count": int(count)} for i, count in enumerate(counts)]


def lift(rows: Sequence[Row]) -> dict[str, dict[str, float] | None]:
    """Return by horizon the mean summed absolute return after anomalies and after others, and their quotient.

    A window counts only where the recording goes on for the whole horizon.
    """
    if not rows:
        return {f"{minutes}m": None for minutes in HORIZONS_MINUTES}
    ends = np.array([row["end_ms"] for row in rows], dtype=np.int64)
    moves = np.cumsum(np.concatenate([[0.0], np.abs(np.array([row["return"] for row in rows], dtype=np.float64))]))
    marks = np.array([row.get("prediction") or 0 for row in rows])
    answer: dict[str, dict[str, float] | None] = {}
    for minutes in HORIZONS_MINUTES:
        until = ends + minutes * MINUTE_MS
        stops = np.searchsorted(ends, until, side="right")
        after = moves[stops] - moves[np.arange(1, len(rows) + 1)]
        whole = until <= ends[-1]
        anomalous, other = after[whole & (marks == -1)], after[whole & (marks == 1)]
        if not len(anomalous) or not len(other) or other.mean() == 0:
            answer[f"{minutes}m"] = None
            continue
        answer[f"{minutes}m"] = {
            "after_anomalies": float(anomalous.mean()),
            "after_others": float(other.mean()),
            "lift": float(anomalous.mean() / other.mean()),
            "anomalies": len(anomalous),
            "others": len(other),
        }
    return answer


def export_csv(rows: Sequence[Row], out: TextIO) -> None:
    """Write the windows as CSV; the timestamp is the window's end, UTC."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        stamp = iso_utc(row["end_ms"]).replace("T", " ").replace("Z", "")
        values = [row[name] for name in COLUMNS[1:6]]
        verdict = ["" if row.get(name) is None else row[name] for name in COLUMNS[6:]]
        writer.writerow(
            [table_field(value) if isinstance(value, str) else value for value in [stamp, *values, *verdict]]
        )


def _state(row: Row) -> str:
    return {-1: "anomaly", 1: "normal"}.get(row.get("prediction") or 0, str(row.get("status", "unjudged")))


def _scores(rows: Sequence[Row]) -> npt.NDArray[np.float64]:
    return np.array([row["score"] for row in rows if row.get("score") is not None], dtype=np.float64)
