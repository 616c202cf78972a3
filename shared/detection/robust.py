"""Robust z: how far a value lies from the median of its past, in units of the past's own spread.

z = (x - median) / (1.4826 x MAD); MAD = 0 falls back to 1.2533 x the mean absolute deviation from the median; if
that is 0 too there is no scale and no answer. Source: Iglewicz and Hoaglin (1993), the constants make both scales
equal to the standard deviation of a normal distribution.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from math import fsum, isfinite

MAD_TO_SIGMA = 1.4826
MEAN_DEVIATION_TO_SIGMA = 1.2533


def median(values: Sequence[float]) -> float | None:
    """Return the median; None for an empty sequence."""
    return _median_of_sorted(sorted(values)) if values else None


def mad(values: Sequence[float]) -> float | None:
    """Return the median absolute deviation from the median; None for an empty sequence."""
    if not values:
        return None
    ordered = sorted(values)
    return _mad_of_sorted(ordered, _median_of_sorted(ordered))


def robust_z(x: float, history: Sequence[float]) -> float | None:
    """Score x against a history that does not hold it; numbers that are not finite are left out of the history.

    None when x is not finite, the history is empty or has no usable scale.
    """
    return z_of_sorted(x, sorted(value for value in history if isfinite(value)))


class SortedWindow:
    """A multiset of numbers kept sorted by bisection: median at once, MAD by binary search, z without a copy.

    With a capacity the oldest value leaves by itself; without one the owner removes values.
    """

    __slots__ = ("_arrived", "_capacity", "_ordered")

    def __init__(self, capacity: int | None = None) -> None:
        if capacity is not None and capacity < 1:
            raise ValueError("capacity must be at least 1")
        self._capacity = capacity
        self._arrived: deque[float] = deque()
        self._ordered: list[float] = []

    def __len__(self) -> int:
        return len(self._ordered)

    def add(self, value: float) -> None:
        """Learn a value; one that is not finite is left out."""
        if not isfinite(value):
            return
        if self._capacity is not None:
            if len(self._arrived) == self._capacity:
                self.remove(self._arrived.popleft())
            self._arrived.append(value)
        insort(self._ordered, value)

    def remove(self, value: float) -> None:
        """Forget one value that was added; one that is not finite never was.

        Raises:
            ValueError: it is not there.
        """
        if not isfinite(value):
            return
        at = bisect_left(self._ordered, value)
        if at == len(self._ordered) or self._ordered[at] != value:
            raise ValueError("the value is not in the window")
        del self._ordered[at]

    def fill(self, ordered: list[float]) -> None:
        """Replace everything by an ascending list of finite numbers, which this window then owns."""
        if self._capacity is not None:
            raise ValueError("only a window without capacity can be filled")
        self._ordered = ordered

    def median(self) -> float | None:
        return _median_of_sorted(self._ordered) if self._ordered else None

    def mad(self) -> float | None:
        return _mad_of_sorted(self._ordered, _median_of_sorted(self._ordered)) if self._ordered else None

    def z(self, x: float) -> float | None:
        """Return the robust z of x against the window; None when there is no answer."""
        return z_of_sorted(x, self._ordered)


class RollingRobustZ:
    """Score each value against the last `capacity` before it, then learn it; None with fewer than `minimum`."""

    __slots__ = ("_minimum", "_window")

    def __init__(self, capacity: int, minimum: int = 1) -> None:
        self._window = SortedWindow(capacity)
        self._minimum = minimum

    def step(self, x: float) -> float | None:
        window = self._window
        z = window.z(x) if len(window) >= self._minimum else None
        window.add(x)
        return z


def _midpoint(a: float, b: float) -> float:
    middle = (a + b) / 2.0
    return middle if isfinite(middle) else a / 2.0 + b / 2.0


def _median_of_sorted(ordered: list[float]) -> float:
    n = len(ordered)
    half = n >> 1
    return ordered[half] if n & 1 else _midpoint(ordered[half - 1], ordered[half])


def _mad_of_sorted(ordered: list[float], centre: float) -> float:
    """Return the median of abs(value - centre) without computing them all.

    Subtraction rounds monotonically, so deviations fall along ordered[:split] and rise along ordered[split:]: two
    sorted lists whose k-th smallest element a binary search finds. Exactly equal to sorting all deviations.
    """
    n = len(ordered)
    k = n >> 1  # elements below the upper middle one
    split = bisect_left(ordered, centre)
    right = n - split
    # Take i from the left list (ordered[split-1], ordered[split-2], ...) and k - i from the right one.
    low, high = max(0, k - right), min(k, split)
    left_end, right_end = split - 1, split + k - 1
    while low < high:
        i = (low + high) >> 1
        if centre - ordered[left_end - i] < ordered[right_end - i] - centre:
            low = i + 1
        else:
            high = i
    i, j = low, k - low
    if i < split and j < right:
        upper = min(centre - ordered[split - 1 - i], ordered[split + j] - centre)
    elif i < split:
        upper = centre - ordered[split - 1 - i]
    else:
        upper = ordered[split + j] - centre
    if n & 1:
        return upper
    if i and j:
        lower = max(centre - ordered[split - i], ordered[split + j - 1] - centre)
    elif i:
        lower = centre - ordered[split - i]
    else:
        lower = ordered[split + j - 1] - centre
    return _midpoint(lower, upper)


def z_of_sorted(x: float, ordered: list[float]) -> float | None:
    """Return the robust z of x against an ascending list of finite numbers; None when there is no answer."""
    if not ordered or not isfinite(x) or ordered[0] == ordered[-1]:
        return None
    centre = _median_of_sorted(ordered)
    scale = MAD_TO_SIGMA * _mad_of_sorted(ordered, centre)
    if scale == 0.0:
        try:
            scale = MEAN_DEVIATION_TO_SIGMA * (fsum(abs(value - centre) for value in ordered) / len(ordered))
        except OverflowError:
            return None
    if not 0.0 < scale < float("inf"):
        return None
    z = (x - centre) / scale
    return z if isfinite(z) else None
