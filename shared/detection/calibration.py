"""How unusual a value is among its own past: trailing quantile and trailing rarity."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from math import exp, isfinite, log
from typing import Any

from shared.detection.robust import robust_z


class _Trail:
    """The newest `capacity` values, in order of arrival and sorted; packed, for a whole market keeps 1.5 million."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self.capacity = capacity
        self.arrived, self.ordered = array("d"), array("d")

    def learn(self, value: float) -> None:
        if not isfinite(value):
            return
        if len(self.arrived) == self.capacity:
            oldest = self.arrived.pop(0)
            del self.ordered[bisect_left(self.ordered, oldest)]
        self.arrived.append(value)
        insort(self.ordered, value)

    def replace(self, values: Iterable[float]) -> None:
        self.arrived, self.ordered = array("d"), array("d")
        for value in values:
            self.learn(float(value))


class TrailingQuantile:
    """Flag the lowest `rate` of scores, judged by the last `capacity` of them, whatever their distribution.

    Lower scores are more anomalous. If scores are exchangeable, the next one lies below the k-th smallest of n with
    probability k / (n + 1), so the threshold stands at position rate x (n + 1), interpolated; a score strictly below
    it is flagged. A constant series therefore never flags. `minimum` scores are needed before anything is said.
    """

    def __init__(self, rate: float, capacity: int = 1500, minimum: int = 300) -> None:
        if not 0 < rate < 1:
            raise ValueError("rate must lie in (0, 1)")
        self.rate = rate
        self.minimum = minimum
        self._trail = _Trail(capacity)

    def __len__(self) -> int:
        return len(self._trail.arrived)

    def threshold(self) -> float | None:
        """Return the score below which the next one is flagged; None while too few are known."""
        return self._threshold(self.rate)

    def _threshold(self, rate: float) -> float | None:
        ordered = self._trail.ordered
        if len(ordered) < max(1, self.minimum):
            return None
        position = rate * (len(ordered) + 1)
        below = int(position)
        if below < 1:
            return ordered[0]
        if below >= len(ordered):
            return ordered[-1]
        low, high = ordered[below - 1], ordered[below]
        return low + (position - below) * (high - low)

    def flags(self, score: float) -> bool | None:
        """Judge a score against the past, then learn it; None while warming or for a score that is no number."""
        threshold = self.threshold()
        self._trail.learn(score)
        return None if threshold is None or not isfinite(score) else score < threshold

    def snapshot(self) -> dict[str, Any]:
        return {"version": 1, "scores": list(self._trail.arrived)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot.

        Raises:
            ValueError: the snapshot is of another version.
        """
        if state.get("version") != 1:
            raise ValueError("unknown version of a quantile snapshot")
        self._trail.replace(state["scores"])


class PacedQuantile(TrailingQuantile):
    """A trailing quantile that pays back: flags missing so far lower the bar, flags too many raise it.

    A trailing quantile alone lags behind the market, so its realised rate can be a third off for a day. Here the rate
    it aims at is  rate x exp((backlog / edge)^3),  backlog = flags wanted minus flags raised. The promise is 15 % of a
    day's flags, and the edge lies a tenth inside of it. Well inside, the step is next to nothing, because anomalies
    come in clusters and a cluster is news; at the edge it grows fast. Source: the saturating integral step of
    conformal PID control (Angelopoulos, Candes and Tibshirani, 2023). Measured in docs/evaluation.md.
    """

    TOLERANCE = 0.15  # of the wanted number of flags
    HORIZON = 4_320  # judged scores over which the promise is kept: a day of 20-second windows
    _EDGE = 0.9  # of the promise
    _MOST_STEERING = 3.0  # the rate aimed at stays within a factor of e^3

    def __init__(self, rate: float, capacity: int = 1500, minimum: int = 300) -> None:
        super().__init__(rate, capacity, minimum)
        self.judged = 0
        self.backlog = 0.0

    def threshold(self) -> float | None:
        """Return the score below which the next one is flagged; None while too few are known."""
        edge = max(1.0, self._EDGE * self.TOLERANCE * self.rate * self.HORIZON)
        steering = max(-self._MOST_STEERING, min(self._MOST_STEERING, (self.backlog / edge) ** 3))
        return self._threshold(min(0.5, self.rate * exp(steering)) if self.rate < 0.5 else self.rate)

    def flags(self, score: float) -> bool | None:
        """Judge a score against the past, then learn it; None while warming or for a score that is no number."""
        flagged = super().flags(score)
        if flagged is not None:
            most = max(20.0, 2 * self.TOLERANCE * self.rate * self.HORIZON)
            self.judged += 1
            self.backlog = max(-most, min(most, self.backlog + self.rate - flagged))
        return flagged

    def snapshot(self) -> dict[str, Any]:
        return {**super().snapshot(), "judged": self.judged, "backlog": self.backlog}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.judged, self.backlog = int(state.get("judged", 0)), float(state.get("backlog", 0.0))


class TrailingRarity:
    """The share of the last `capacity` values that were at least as large as a new one."""

    def __init__(self, capacity: int = 1500, minimum: int = 1) -> None:
        self.minimum = minimum
        self._trail = _Trail(capacity)

    def __len__(self) -> int:
        return len(self._trail.arrived)

    def rarity(self, value: float) -> float | None:
        """Return the share, 0..1; None with fewer than `minimum` values or for a value that is no number."""
        ordered = self._trail.ordered
        if not ordered or len(ordered) < self.minimum or not isfinite(value):
            return None
        return (len(ordered) - bisect_left(ordered, value)) / len(ordered)

    def surprise(self, value: float) -> float | None:
        """Return the robust z of the value's logarithm among those of the past; None when there is no answer."""
        ordered = self._trail.ordered
        if len(ordered) < max(2, self.minimum) or not 0.0 < value < float("inf"):
            return None
        return robust_z(log(value), [log(one) for one in ordered if one > 0.0])

    def learn(self, value: float) -> None:
        """Add a value to the past; one that is no number is left out."""
        self._trail.learn(value)

    def step(self, value: float) -> float | None:
        """Return the rarity against the past, then learn the value."""
        rarity = self.rarity(value)
        self._trail.learn(value)
        return rarity

    def largest(self, count: int) -> list[float]:
        """Return the largest known values, descending."""
        return list(reversed(self._trail.ordered[-count:]))

    def values(self) -> list[float]:
        """Return the known values in order of arrival."""
        return list(self._trail.arrived)

    def snapshot(self) -> dict[str, Any]:
        return {"version": 1, "values": self.values()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot.

        Raises:
            ValueError: the snapshot is of another version.
        """
        if state.get("version") != 1:
            raise ValueError("unknown version of a rarity snapshot")
        self._trail.replace(state["values"])
