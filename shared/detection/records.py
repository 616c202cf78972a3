"""For how long nothing as large has been seen: a rarity in time, which costs next to nothing to keep.

In a market whose ways do not change, a value is the largest of the last H hours once in H hours on average, whatever
its distribution and however many values come. So "largest for 24 hours" is about one alert a day and symbol, on the
busiest pair and on the thinnest, and none of it has to be tuned.

A watch that is younger than H hours makes too much a record. Whose values have a tail without an end can ask of it
meanwhile that one as large is expected only once in H hours (`tail_share`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from shared.times import HOUR_MS


def tail_share(excess: float, excesses: Sequence[float]) -> float:
    """Return the probability that the next excess over a fixed level is at least this large, 0..1.

    Excesses over a high level are close to exponential; with n of them known, of sum S, the predictive probability is
    (1 + x / S)^-n, which is careful where n is small. Without any it is 1. Source: peaks over threshold (Pickands,
    1975), Bayesian with the scale-free prior.
    """
    total = sum(excesses)
    if total <= 0.0:
        return 1.0 if excess <= 0.0 or not excesses else 0.0
    return float((1.0 + max(0.0, excess) / total) ** -len(excesses))


class Record:
    """Times of the values that a new one has to beat: each larger than all that came after it."""

    __slots__ = ("_horizon_ms", "_larger", "seen", "since_ms")

    def __init__(self, horizon_hours: float) -> None:
        self._horizon_ms = horizon_hours * HOUR_MS
        self._larger: list[tuple[float, int]] = []  # (value, time), values descending, times ascending
        self.since_ms: int | None = None  # the first value's time
        self.seen = 0

    def step(self, value: float, at_ms: int) -> float | None:
        """Return the hours since a value at least as large, then learn it; None when none is remembered.

        Nothing is remembered longer than the horizon. A value that is no number is no record: 0.0.
        """
        if not isfinite(value):
            return 0.0
        self.since_ms = at_ms if self.since_ms is None else self.since_ms
        self.seen += 1
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
        larger = [[value, at_ms] for value, at_ms in self._larger]
        return {"version": 1, "larger": larger, "since_ms": self.since_ms, "seen": self.seen}

    def watched_hours(self, at_ms: int) -> float:
        """Return the hours since the first value."""
        return 0.0 if self.since_ms is None else max(0, at_ms - self.since_ms) / HOUR_MS

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot.

        Raises:
            ValueError: the snapshot is of another version.
        """
        if state.get("version") != 1:
            raise ValueError("unknown version of a record snapshot")
        self._larger = [(float(value), int(at_ms)) for value, at_ms in state["larger"]]
        # One of an earlier version does not say since when: taken for old enough.
        since_ms = state.get("since_ms", 0)
        self.since_ms, self.seen = None if since_ms is None else int(since_ms), int(state.get("seen", 0))
