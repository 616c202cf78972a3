"""For how long nothing as large has been seen: a rarity in time, which costs next to nothing to keep.

In a market whose ways do not change, a value is the largest of the last H hours once in H hours on average, whatever
its distribution and however many values come. So "largest for 24 hours" is about one alert a day and symbol, on the
busiest pair and on the thinnest, and none of it has to be tuned.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from shared.times import HOUR_MS


class Record:
    """Times of the values that a new one has to beat: each larger than all that came after it."""

    __slots__ = ("_horizon_ms", "_larger")

    def __init__(self, horizon_hours: float) -> None:
        self._horizon_ms = horizon_hours * HOUR_MS
        self._larger: list[tuple[float, int]] = []  # (value, time), values descending, times ascending

    def step(self, value: float, at_ms: int) -> float | None:
        """Return the hours since a value at least as large, then learn it; None when none is remembered.

        Nothing is remembered longer than the horizon. A value that is no number is no record: 0.0.
        """
        if not isfinite(value):
            return 0.0
        larger = self._larger
        while larger and larger[-1][0] < value:
            larger.pop()
        while larger and at_ms - larger[0][1] > self._horizon_ms:
            del larger[0]
        hours = max(0, at_ms - larger[-1][1]) / HOUR_MS if larger else None
        if larger and larger[-1][0] == value:
            larger.pop()
        larger.append((value, at_ms))
        return hours

    def snapshot(self) -> dict[str, Any]:
        return {"version": 1, "larger": [[value, at_ms] for value, at_ms in self._larger]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot.

        Raises:
            ValueError: the snapshot is of another version.
        """
        if state.get("version") != 1:
            raise ValueError("unknown version of a record snapshot")
        self._larger = [(float(value), int(at_ms)) for value, at_ms in state["larger"]]
