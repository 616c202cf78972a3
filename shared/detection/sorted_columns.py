"""The last values of many columns, each kept sorted: the robust z of all of them at once.

The same numbers, bit for bit, as one `SortedWindow` a column; median, MAD and places are found by binary searches that
run over all columns together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.detection.robust import MAD_TO_SIGMA, robust_z

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BEYOND = float("inf")  # what stands before (negative) and after the values of a row; no value reaches it


class SortedColumns:
    """One ascending row of at most `capacity` numbers for each of `width` columns. NaN is nothing.

    A row is `-inf, values..., inf...`, so long that no search has to look where it ends: places are steps of
    falling powers of two, and one that goes too far meets a sentinel.
    """

    def __init__(self, width: int, capacity: int) -> None:
        size = 1 << capacity.bit_length()  # more than the capacity
        self._last = size  # of a row, the sentinel before it included
        self._flat = np.full(width * (size + 1), _BEYOND)
        self._rows = self._flat.reshape(width, size + 1)
        self._rows[:, 0] = -_BEYOND
        self._cells = memoryview(self._flat)  # type: ignore[arg-type]  # moves a few cells faster than numpy does
        self._base = np.arange(width, dtype=np.int64) * (size + 1) + 1
        self._steps = [1 << bit for bit in reversed(range(capacity.bit_length()))]
        self._mad_steps = [1 << bit for bit in reversed(range((capacity >> 1).bit_length()))]
        self.counts: Ints = np.zeros(width, dtype=np.int64)

    def fill(self, values: Floats) -> None:
        """Replace everything by the columns of (minutes, columns), at most `capacity` minutes."""
        ordered = np.sort(values, axis=0).T  # NaN goes last
        known = np.isfinite(ordered)
        self.clear()
        self.counts = known.sum(axis=1).astype(np.int64)
        self._rows[:, 1 : ordered.shape[1] + 1] = np.where(known, ordered, _BEYOND)

    def clear(self) -> None:
        self._rows[:, 1:] = _BEYOND
        self.counts[:] = 0

    def remove(self, values: Floats) -> None:
        """Forget one value of each column that was added.

        Raises:
            ValueError: one of them is not there.
        """
        wanted = np.flatnonzero(np.isfinite(values))
        if not len(wanted):
            return
        places = self._place(values[wanted], self._base[wanted])
        self._expect(places, values[wanted])
        ends = self._base[wanted] + self.counts[wanted]
        cells = self._cells
        for place, end in zip(places.tolist(), ends.tolist(), strict=True):
            cells[place:end] = cells[place + 1 : end + 1]
        self.counts[wanted] -= 1

    def replace(self, gone: Floats, new: Floats) -> None:
        """Forget one value of each column and learn another in its place; the same as `remove`, then `add`."""
        both = np.isfinite(gone) & np.isfinite(new)
        base = self._base
        if not both.all():
            self.remove(np.where(both, np.nan, gone))
            self.add(np.where(both, np.nan, new))
            gone, new, base = gone[both], new[both], base[both]
        left, at = self._place(np.stack((gone, new)), base)
        self._expect(left, gone)
        cells = self._cells
        for start, end, value in zip(left.tolist(), at.tolist(), new.tolist(), strict=True):
            if start < end:
                end -= 1
                cells[start:end] = cells[start + 1 : end + 1]
            else:
                cells[end + 1 : start + 1] = cells[end:start]
            cells[end] = value

    def add(self, values: Floats) -> None:
        """Learn one value of each column; there must be room."""
        wanted = np.flatnonzero(np.isfinite(values))
        if not len(wanted):
            return
        fresh = values[wanted]
        places = self._place(fresh, self._base[wanted])
        ends = self._base[wanted] + self.counts[wanted]
        cells = self._cells
        for place, end, value in zip(places.tolist(), ends.tolist(), fresh.tolist(), strict=True):
            cells[place + 1 : end + 1] = cells[place:end]
            cells[place] = value
        self.counts[wanted] += 1

    def z(self, x: Floats) -> Floats:
        """Return the robust z of one value of each column against its row; NaN where there is no answer."""
        n = self.counts
        half = n >> 1
        odd = (n & 1).astype(bool)
        upper = self._flat.take(self._base + half)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            centre = np.where(odd, upper, (self._flat.take(self._base + np.maximum(half - 1, 0)) + upper) / 2.0)
            mad = self._mad(half, odd, centre)
            scores = (x - centre) / (MAD_TO_SIGMA * mad)
        usable = (n > 0) & np.isfinite(x) & np.isfinite(centre)
        scores = np.where(usable & (mad > 0) & np.isfinite(scores), scores, np.nan)
        for row in np.flatnonzero(usable & ~(mad > 0)).tolist():  # few: most of their past is one and the same value
            own = self._rows[row, 1 : n[row] + 1]
            one = None if own[0] == own[-1] else robust_z(float(x[row]), own.tolist())
            scores[row] = np.nan if one is None else one
        result: Floats = scores
        return result

    def _mad(self, k: Ints, odd: npt.NDArray[np.bool_], centre: Floats) -> Floats:
        """Return each row's median deviation: `robust._mad_of_sorted` for all rows, `k` elements below the middle."""
        flat, base = self._flat, self._base
        before, beyond = base - 1, base - 1 + self._last
        split = self._place(centre, base)
        left_end, right_end = split - 1, split + (k - 1)
        i = np.zeros_like(k)
        for step in self._mad_steps:
            probe = i + (step - 1)
            left = flat.take(np.maximum(left_end - probe, before))
            right = flat.take(np.minimum(np.maximum(right_end - probe, before), beyond))
            i += step * (centre - left < right - centre)
        j = np.minimum(split + (k - i), beyond)
        upper = np.minimum(centre - flat.take(left_end - i), flat.take(j) - centre)
        lower = np.maximum(centre - flat.take(split - i), flat.take(j - 1) - centre)
        deviation: Floats = np.where(odd, upper, (lower + upper) / 2.0)
        return deviation

    def _place(self, x: Floats, base: Ints) -> Ints:
        """Return where in the flat array, for each row, the first number stands that is not below x."""
        flat = self._flat
        place = np.broadcast_to(base, x.shape).copy()
        for step in self._steps:
            place += step * (flat.take(place + (step - 1)) < x)
        return place

    def _expect(self, places: Ints, values: Floats) -> None:
        if not (self._flat.take(places) == values).all():
            raise ValueError("a value is not in its row")
