"""All columns at once give what one sorted window each gives, bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detection.robust import SortedWindow
from shared.detection.sorted_columns import SortedColumns

NAN = float("nan")
VALUES = st.one_of(
    st.just(NAN), st.sampled_from([0.0, 1.0, 2.0]), st.floats(-1e18, 1e18, allow_nan=False), st.floats(-1e-9, 1e-9)
)


@given(
    st.integers(1, 9),
    st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=30),
    st.integers(0, 12),
)
def test_equals_one_sorted_window_a_column(
    capacity: int, minutes: list[tuple[float, float, float]], filled: int
) -> None:
    rows = np.array(minutes)
    columns, windows = SortedColumns(3, capacity), [SortedWindow() for _ in range(3)]
    known = min(filled, capacity, len(rows))
    columns.fill(rows[:known])
    for row in minutes[:known]:
        for window, value in zip(windows, row, strict=True):
            window.add(value)
    for at in range(known, len(rows)):
        expected = [window.z(value) for window, value in zip(windows, minutes[at], strict=True)]
        got = [None if math.isnan(z) else z for z in columns.z(rows[at])]
        assert got == expected
        gone = rows[at - capacity] if at >= capacity else np.full(3, NAN)
        columns.replace(gone, rows[at])
        for window, old, value in zip(windows, gone.tolist(), minutes[at], strict=True):
            window.remove(old)
            window.add(value)
        assert columns.counts.tolist() == [len(window) for window in windows]


def test_what_was_never_learnt_cannot_be_forgotten() -> None:
    columns = SortedColumns(2, 4)
    columns.add(np.array([1.0, NAN]))
    with pytest.raises(ValueError, match="not in its row"):
        columns.remove(np.array([2.0, NAN]))
    with pytest.raises(ValueError, match="not in its row"):
        columns.replace(np.array([2.0, NAN]), np.array([1.0, 1.0]))
