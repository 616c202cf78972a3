"""The windows' analysis against slow obvious versions of itself."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.clock import MINUTE_MS, parse_utc_ms
from shared.jobs import window_analysis

START = parse_utc_ms("2026-01-01T00:00:00Z")


def window(n: int, *, ret: float = 0.001, score: float | None = 0.1, prediction: int | None = 1) -> dict[str, Any]:
    start = START + n * 20_000
    return {
        "start_ms": start, "end_ms": start + 20_000, "trade_count": 5, "volume": 1.5, "avg_trade_size": 0.3,
        "return": ret, "volatility": 0.2, "score": score, "prediction": prediction, "status": "warming",
    }  # fmt: skip


def slow_lift(rows: list[dict[str, Any]], minutes: int) -> float | None:
    after: dict[int, list[float]] = {-1: [], 1: []}
    for row in rows:
        until = row["end_ms"] + minutes * MINUTE_MS
        if until <= rows[-1]["end_ms"] and row["prediction"] in after:
            moves = [abs(r["return"]) for r in rows if row["end_ms"] < r["end_ms"] <= until]
            after[row["prediction"]].append(sum(moves))
    if not after[-1] or not after[1]:
        return None
    others = sum(after[1]) / len(after[1])  # may be 0 where the sum is not: the least of all numbers, halved
    return (sum(after[-1]) / len(after[-1])) / others if others else None


@example([(0.0, -1, 1), (0.0625, 1, 1), (1e-12, -1, 3)])
@example([(0.0, -1, 1), (0.0, 1, 1), (5e-324, 1, 1), (0.0, -1, 3)])
@given(
    st.lists(
        st.tuples(st.floats(-0.1, 0.1), st.sampled_from([-1, 1, None]), st.integers(1, 4)), min_size=1, max_size=120
    )
)
def test_lift_equals_the_slow_one(parts: list[tuple[float, int | None, int]]) -> None:
    rows, n = [], 0
    for ret, prediction, step in parts:  # empty windows are not stored: steps leave holes
        n += step
        rows.append(window(n, ret=ret, prediction=prediction))
    for minutes in window_analysis.HORIZONS_MINUTES:
        found = window_analysis.lift(rows)[f"{minutes}m"]
        want = slow_lift(rows, minutes)
        if want is None:
            assert found is None or found["after_others"] == pytest.approx(0, abs=1e-9)
        elif found is not None and found["after_others"] > 1e-6:
            # Running sums round at 1e-16 of what has been summed: moves below a millionth of a percent say nothing.
            assert found["lift"] == pytest.approx(want, rel=1e-6, abs=1e-9)


def test_rate_by_hour_and_over_all() -> None:
    rows = [window(n, prediction=-1 if n % 60 == 0 else 1) for n in range(360)]
    rows += [window(360 + n, prediction=None) for n in range(5)]
    found = window_analysis.rate(rows)
    assert found["overall"] == {"judged": 360, "anomalies": 6, "rate": 6 / 360}
    assert [(row["hour"], row["judged"], row["anomalies"]) for row in found["hours"]] == [
        ("2026-01-01T00:00:00Z", 180, 3),
        ("2026-01-01T01:00:00Z", 180, 3),
    ]


def test_distribution_counts_every_score_once() -> None:
    rows = [window(n, score=n / 100) for n in range(100)] + [window(100, score=None, prediction=None)]
    found = window_analysis.distribution(rows, bins=10)
    assert sum(row["count"] for row in found) == 100
    assert (found[0]["from"], found[-1]["to"]) == (0.0, 0.99)
    assert window_analysis.distribution([window(0, score=None)]) == []


def test_export_has_the_documented_columns() -> None:
    out = io.StringIO()
    rows = [window(0, score=None, prediction=None), window(1, score=-0.25, prediction=-1)]
    window_analysis.export_csv(rows, out)
    lines = list(csv.reader(io.StringIO(out.getvalue())))
    assert lines[0] == [
        "timestamp", "trade_count", "volume", "avg_trade_size", "return", "volatility", "score", "prediction",
    ]  # fmt: skip
    assert lines[1] == ["2026-01-01 00:00:20", "5", "1.5", "0.3", "0.001", "0.2", "", ""]
    assert lines[2][-2:] == ["-0.25", "-1"]


def test_summary_of_nothing_and_of_something() -> None:
    assert window_analysis.summary([])["scores"] is None
    found = window_analysis.summary([window(n, score=0.0 if n else -1.0) for n in range(10)])
    assert found["windows"] == 10
    assert found["states"] == {"normal": 10}
    assert found["scores"]["min"] == -1.0
    assert found["scores"]["p50"] == 0.0
