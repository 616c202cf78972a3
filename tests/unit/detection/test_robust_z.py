from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detection.robust import RollingRobustZ, SortedWindow, mad, median, robust_z
from shared.market.model import Bar

every_float = st.floats()
sane = st.one_of(st.floats(-1e9, 1e9), st.integers(-3, 3).map(float))


def slow_z(x: float, history: list[float]) -> float | None:
    """The definition, step by step."""
    if not history:
        return None
    centre = statistics.median(history)
    deviations = [abs(value - centre) for value in history]
    scale = 1.4826 * statistics.median(deviations)
    if scale == 0:
        scale = 1.2533 * (math.fsum(deviations) / len(deviations))
    return None if scale == 0 else (x - centre) / scale


@given(st.lists(sane, min_size=1, max_size=40))
def test_median_and_mad_equal_the_definition(values: list[float]) -> None:
    centre = statistics.median(values)
    assert median(values) == centre
    assert mad(values) == statistics.median(abs(value - centre) for value in values)


@given(sane, st.lists(sane, max_size=40))
def test_z_equals_the_definition(x: float, history: list[float]) -> None:
    expected = slow_z(x, history)
    z = robust_z(x, history)
    if expected is None or not math.isfinite(expected):
        assert z is None
    else:
        assert z == pytest.approx(expected, rel=1e-12, abs=0)


@given(every_float, st.lists(every_float, max_size=30))
def test_never_raises_and_never_answers_with_no_number(x: float, history: list[float]) -> None:
    z = robust_z(x, history)
    assert z is None or math.isfinite(z)


@pytest.mark.parametrize(
    ("x", "history"),
    [
        (5.0, [3.0] * 50),  # constant: no scale
        (5.0, []),
        (math.nan, [1.0, 2.0, 3.0]),
        (math.inf, [1.0, 2.0, 3.0]),
        (1.0, [0.0, 5e-324]),  # a scale so small that z overflows
        (1.0, [math.nan, math.inf]),
    ],
)
def test_says_nothing_without_a_usable_scale(x: float, history: list[float]) -> None:
    """F208, F602: constant series have no z, never an infinite one."""
    assert robust_z(x, history) is None


def test_falls_back_to_the_mean_deviation() -> None:
    history = [1.0] * 9 + [11.0]
    assert mad(history) == 0
    assert robust_z(3.5066, history) == pytest.approx(2.0)


@given(st.lists(every_float, max_size=60), st.integers(1, 12))
def test_a_sliding_window_equals_sorting_again(values: list[float], capacity: int) -> None:
    window = SortedWindow(capacity)
    known: list[float] = []
    for value in values:
        assert window.z(value) == robust_z(value, known)
        window.add(value)
        if math.isfinite(value):
            known = [*known, value][-capacity:]
        assert (len(window), window.median(), window.mad()) == (len(known), median(known), mad(known))


def test_refuses_to_forget_what_it_never_knew() -> None:
    window = SortedWindow()
    window.add(1.0)
    with pytest.raises(ValueError, match="not in the window"):
        window.remove(2.0)
    window.remove(math.nan)
    window.remove(1.0)
    assert len(window) == 0


@pytest.mark.recorded
def test_recorded_volumes_score_as_the_definition(recorded_dir: Path, read_bars: Callable[[Path], list[Bar]]) -> None:
    volumes = [bar.volume for bar in read_bars(next((recorded_dir / "klines").glob("*ZECUSDT_1m_2023*")))]
    rolling = RollingRobustZ(720, minimum=360)
    for i, volume in enumerate(volumes):
        z = rolling.step(volume)
        if i < 360:
            assert z is None
        elif i % 97 == 0:
            assert z == pytest.approx(slow_z(volume, volumes[max(0, i - 720) : i]), abs=1e-9)
