"""F109: what is far behind for long is dropped; a pause of the process, after which all is quick, is not."""

from __future__ import annotations

import pytest

from streamer.lag import LagWatch


def parts_decided(watch: LagWatch, began_s: float, took_s: list[float]) -> int | None:
    """Return after how many parts of one read it is dropped."""
    now_s = began_s
    for number, took in enumerate(took_s, start=1):
        now_s += took
        if watch.decided(began_s, now_s):
            return number
    return None


@pytest.mark.parametrize(
    ("took_s", "dropped_at"),
    [
        ([0.1] * 40, None),  # 4 s in all
        ([3.2] * 5, 3),  # 6.4 s behind at the second part, and 3.2 s later still
        ([10.0, 0.001, 0.001, 0.001], None),  # a sleep, then quick
        ([10.0, 2.0, 2.0], 3),
    ],
)
def test_slow_parts_are_dropped_and_a_sleep_is_not(took_s: list[float], dropped_at: int | None) -> None:
    watch = LagWatch()
    assert parts_decided(watch, 1_000.0, took_s) == dropped_at
    assert watch.drops == (dropped_at is not None)
    assert watch.slow is (watch.held_ms > 1_000)


def test_each_read_begins_anew() -> None:
    watch = LagWatch()
    assert [parts_decided(watch, began_s, [6.0]) for began_s in (1e3, 2e3, 3e3)] == [None] * 3


def test_one_drop_is_counted_once() -> None:
    watch = LagWatch()
    assert not watch.look(0, 1, 0.0)
    assert not watch.look(8_000, 2, 1.0)  # behind from here on
    assert parts_decided(watch, 1.0, [6.0, 6.0]) == 2
    assert not watch.look(8_000, 3, 10.0), "the dropped stream's lag is no news of the next one"
    assert watch.drops == 1


def test_receipts_that_stay_old_are_dropped_whatever_the_clocks_differ_by() -> None:
    watch, years_ms = LagWatch(), 10**11
    assert not watch.look(years_ms, 1, 0.0)
    late = [watch.look(years_ms + 6_000, 2 + n, float(n)) for n in range(6)]
    assert late == [False, False, False, False, True, False]
    assert not any(watch.look(years_ms + 60_000, 100, 10.0 + n) for n in range(9))  # an old lag of a silent feed
