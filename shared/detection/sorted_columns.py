"""The last values of many symbols, each kept sorted: the robust z of all of them at once.

The same numbers, bit for bit, as one `SortedWindow` a symbol; median, MAD and places are found by binary searches that
run over all symbols together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.detection.robust import MAD_TO_SIGMA, robust_z

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NONE = float("inf")  # beyond the last value of a row; no value reaches it


class SortedColumns:
    """One ascending row of at most `capacity` numbers for each of `width` symbols. NaN is nothing."""

    def __init__(self, width: int, capacity: int) -> None:
        self._rows = np.full((width, capacity), _NONE)
        self._base = np.arange(width, dtype=np.int64) * capacity
        self._last = capacity - 1
        self._steps = capacity.bit_length()
        self.counts: Ints = np.zeros(width, dtype=np.int64)

    def fill(self, values: Floats) -> None:
        """Replace everything by the columns of (minutes, symbols), at most `capacity` minutes."""
        ordered = np.sort(values, axis=0).T  # NaN goes last
        self.counts = np.isfinite(ordered).sum(axis=1).astype(np.int64)
        self._rows[:] = _NONE
        self._rows[:, : ordered.shape[1]] = np.where(np.isfinite(ordered), ordered, _NONE)

    def clear(self) -> None:
        self._rows[:] = _NONE
        self.counts[:] = 0

    def remove(self, values: Floats) -> None:
        """Forget one value of each symbol that was added.

        Raises:
            ValueError: one of them is not there.
        """
        wanted = np.flatnonzero(np.isfinite(values))
        if not len(wanted):
            return
        at = self._find(values)
        found = self._take(at)
        if not (found[wanted] == values[wanted]).all():
            raise ValueError("a value is not in its row")
        ends = self.counts.tolist()
        places = at.tolist()
        for row in wanted.tolist():
            start, end, own = places[row], ends[row], self._rows[row]
            own[start : end - 1] = own[start + 1 : end]
            own[end - 1] = _NONE
        self.counts[wanted] -= 1

    def replace(self, gone: Floats, new: Floats) -> None:
        """Forget one value of each symbol and learn another in its place; the same as `remove`, then `add`."""
        both = np.isfinite(gone) & np.isfinite(new)
        if not both.all():
            self.remove(np.where(both, np.nan, gone))
            self.add(np.where(both, np.nan, new))
        wanted = np.flatnonzero(both)
        if not len(wanted):
            return
        left, at = self._find(gone), self._find(new)
        if not (self._take(left)[wanted] == gone[wanted]).all():
            raise ValueError("a value is not in its row")
        rows, starts, ends, numbers = self._rows, left.tolist(), at.tolist(), new.tolist()
        for row in wanted.tolist():
            start, end, own = starts[row], ends[row], rows[row]
            if end > start:
                end -= 1
                own[start:end] = own[start + 1 : end + 1]
            else:
                own[end + 1 : start + 1] = own[end:start]
            own[end] = numbers[row]

    def add(self, values: Floats) -> None:
        """Learn one value of each symbol; there must be room."""
        wanted = np.flatnonzero(np.isfinite(values))
        if not len(wanted):
            return
        ends = self.counts.tolist()
        places = self._find(values).tolist()
        numbers = values.tolist()
        for row in wanted.tolist():
            start, end, own = places[row], ends[row], self._rows[row]
            own[start + 1 : end + 1] = own[start:end]
            own[start] = numbers[row]
        self.counts[wanted] += 1

    def z(self, x: Floats) -> Floats:
        """Return the robust z of one value of each symbol against its row; NaN where there is no answer."""
        n = self.counts
        half = n >> 1
        odd = (n & 1).astype(bool)
        upper = self._take(half)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            centre = np.where(odd, upper, (self._take(np.maximum(half - 1, 0)) + upper) / 2.0)
            mad = self._mad(n, half, odd, centre)
            scores = (x - centre) / (MAD_TO_SIGMA * mad)
        usable = (n > 0) & np.isfinite(x) & np.isfinite(centre)
        scores = np.where(usable & (mad > 0) & np.isfinite(scores), scores, np.nan)
        for row in np.flatnonzero(usable & ~(mad > 0)).tolist():  # few: most of their past is one and the same value
            one = robust_z(float(x[row]), self._rows[row, : n[row]].tolist())
            scores[row] = np.nan if one is None else one
        result: Floats = scores
        return result

    def _mad(self, n: Ints, k: Ints, odd: npt.NDArray[np.bool_], centre: Floats) -> Floats:
        """Return each row's median deviation; see `robust._mad_of_sorted`, whose steps these are."""
        split = self._find(centre)
        right = n - split
        low, high = np.maximum(0, k - right), np.minimum(k, split)
        left_end, right_end = split - 1, split + k - 1
        for _ in range(self._steps):
            i = (low + high) >> 1
            less = (centre - self._take(left_end - i) < self._take(right_end - i) - centre) & (low < high)
            low, high = np.where(less, i + 1, low), np.where(less, high, i)
        i, j = low, k - low
        below = np.where(i < split, centre - self._take(split - 1 - i), _NONE)
        above = np.where(j < right, self._take(split + j) - centre, _NONE)
        upper = np.minimum(below, above)
        lower = np.maximum(
            np.where(i > 0, centre - self._take(split - i), -_NONE),
            np.where(j > 0, self._take(split + j - 1) - centre, -_NONE),
        )
        return np.where(odd, upper, (lower + upper) / 2.0)

    def _find(self, x: Floats) -> Ints:
        """Return, for each row, the place of the first number that is not below x."""
        low, high = np.zeros_like(self.counts), self.counts.copy()
        for _ in range(self._steps):
            middle = (low + high) >> 1
            less = (self._take(middle) < x) & (low < high)
            low, high = np.where(less, middle + 1, low), np.where(less, high, middle)
        return low

    def _take(self, at: Ints) -> Floats:
        taken: Floats = self._rows.reshape(-1)[self._base + np.minimum(np.maximum(at, 0), self._last)]
        return taken
