"""What the market did after an alert, and after random moments of the same market. Pure.

The entry is the open of the first whole minute after the decision: what somebody who read the alert could have got,
nothing of the move that caused it. Returns are fractions of the entry; `best` and `worst` are the furthest prices of
the hour in and against the alert's direction (up and down where it has none).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, median
from typing import Any

from shared.detection.reading import Direction
from shared.market.model import Bar
from shared.times import HOUR_MS, MINUTE_MS, iso_utc

HORIZONS = (5, 15, 60)  # minutes
LAST_MINUTE = HORIZONS[-1]
CONTROLS = 8  # random moments per alert
_CONTROL_FROM_MS = 61 * MINUTE_MS  # before the alert, so that their hour ends before it
CONTROL_SPAN_MS = 12 * HOUR_MS
_COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Outcome:
    """`returns` by horizon in minutes; None where the market gave no bar for it. `minutes` are the bars seen."""

    entry_ms: int
    entry_price: float | None
    returns: Mapping[int, float | None]
    best: float | None
    worst: float | None
    minutes: int
    complete: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "entry_time": iso_utc(self.entry_ms),
            "entry_price": self.entry_price,
            **{f"return_{minutes}m": self.returns.get(minutes) for minutes in HORIZONS},
            "best": self.best,
            "worst": self.worst,
            "minutes": self.minutes,
            "complete": self.complete,
        }


def entry_of(decided_ms: int) -> int:
    """Return the open time of the first whole minute at or after the decision."""
    return -(-decided_ms // MINUTE_MS) * MINUTE_MS


def outcome_of(bars: Mapping[int, Bar], entry_ms: int, direction: Direction | None, now_ms: int) -> Outcome:
    """Judge the hour from `entry_ms` on bars by their open time; only what had closed at `now_ms` is looked at."""
    seen = {
        at_ms: bar
        for at_ms in range(entry_ms, entry_ms + LAST_MINUTE * MINUTE_MS, MINUTE_MS)
        if (bar := bars.get(at_ms)) is not None and at_ms + MINUTE_MS <= now_ms and _usable(bar)
    }
    complete = now_ms >= entry_ms + LAST_MINUTE * MINUTE_MS
    first = seen.get(entry_ms)
    if first is None:
        return Outcome(entry_ms, None, dict.fromkeys(HORIZONS), None, None, len(seen), complete)
    entry = first.open
    returns = {
        minutes: seen[at_ms].close / entry - 1 if (at_ms := entry_ms + (minutes - 1) * MINUTE_MS) in seen else None
        for minutes in HORIZONS
    }
    high = max(bar.high for bar in seen.values()) / entry - 1
    low = min(bar.low for bar in seen.values()) / entry - 1
    best, worst = (-low, -high) if direction is Direction.DOWN else (high, low)
    enough = complete and len(seen) >= _COVERAGE * LAST_MINUTE
    return Outcome(entry_ms, entry, returns, best if enough else None, worst if enough else None, len(seen), complete)


def control_moments(alert_id: str, entry_ms: int) -> list[int]:
    """Return random moments of the twelve hours before an alert; the same alert always gets the same ones."""
    digest = hashlib.sha512(f"control|{alert_id}".encode()).digest()
    span = (CONTROL_SPAN_MS - _CONTROL_FROM_MS) // MINUTE_MS
    drawn = (int.from_bytes(digest[8 * at : 8 * at + 8]) % span for at in range(CONTROLS))
    return [entry_ms - _CONTROL_FROM_MS - minutes * MINUTE_MS for minutes in drawn]


@dataclass(frozen=True, slots=True)
class Judged:
    """One alert's outcome in plain numbers, with those of its random moments."""

    detector: str
    direction: str | None
    outcome: Mapping[str, Any]
    controls: Sequence[Mapping[str, Any]] = ()


def summary(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return how alerts of each detector turned out, and random moments of the same markets beside them.

    `mean` and `median` are in the alert's direction (up where it has none), `mean_abs` is the size of the move
    whatever its direction, `in_favour` the share above zero; `lift` is `mean_abs` over that of random moments.
    """
    found: dict[str, Any] = {}
    for name in sorted({one.detector for one in judged}):
        mine = [one for one in judged if one.detector == name]
        alerts = [(one.direction, one.outcome) for one in mine]
        controls = [(one.direction, control) for one in mine for control in one.controls]
        told, chance = _figures(alerts), _figures(controls)
        found[name] = {"alerts": len(mine), "after": told, "random": chance, "lift": _lift(told, chance)}
    return found


def _figures(rows: Sequence[tuple[str | None, Mapping[str, Any]]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for minutes in HORIZONS:
        signed = [
            -value if direction == Direction.DOWN.value else value
            for direction, row in rows
            if (value := _number(row.get(f"return_{minutes}m"))) is not None
        ]
        figures[f"{minutes}m"] = {
            "count": len(signed),
            "mean": _rounded(fmean(signed)) if signed else None,
            "median": _rounded(median(signed)) if signed else None,
            "mean_abs": _rounded(fmean(map(abs, signed))) if signed else None,
            "in_favour": _rounded(sum(value > 0 for value in signed) / len(signed)) if signed else None,
        }
    for name in ("best", "worst"):
        values = [value for _, row in rows if (value := _number(row.get(name))) is not None]
        figures[f"mean_{name}"] = _rounded(fmean(values)) if values else None
    return figures


def _lift(told: Mapping[str, Any], chance: Mapping[str, Any]) -> dict[str, float | None]:
    lifts: dict[str, float | None] = {}
    for minutes in HORIZONS:
        mine, other = told[f"{minutes}m"]["mean_abs"], chance[f"{minutes}m"]["mean_abs"]
        lifts[f"{minutes}m"] = _rounded(mine / other) if mine is not None and other else None
    return lifts


def _usable(bar: Bar) -> bool:
    return all(isfinite(price) and price > 0 for price in (bar.open, bar.high, bar.low, bar.close))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _rounded(value: float) -> float:
    return round(value, 8)
