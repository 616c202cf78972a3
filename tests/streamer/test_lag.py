"""F109: what is far behind for long is dropped; a pause of the process, after which all is quick, is not."""

from __future__ import annotations

import pytest

from streamer.lag import LagWatch


def parts_decided(watch: LagWatch, recv_ms: int, took_ms: list[int]) -> int | None:
    """Return after how many parts of one read it is dropped."""
    now_ms = recv_ms
    for number, took in enumerate(took_ms, start=1):
        now_ms += took
        if watch.decided(recv_ms, now_ms):
            return number
    return None


@pytest.mark.parametrize(
    ("took_ms", "dropped_at"),
    [
        ([100] * 40, None),  # 4 s in all
        ([3_200] * 5, 3),  # 6.4 s behind at the second part, and 3.2 s later still
        ([10_000, 1, 1, 1], None),  # a sleep, then quick
        ([10_000, 2_000, 2_000], 3),
    ],
)
def test_slow_parts_are_dropped_and_a_sleep_is_not(took_ms: list[int], dropped_at: int | None) -> None:
    watch = LagWatch()
    assert parts_decided(watch, 1_000_000, took_ms) == dropped_at
    assert watch.drops == (dropped_at is not None)
    assert watch.slow is (watch.held_ms > 1_000)


def test_each_read_begins_anew() -> None:
    watch = LagWatch()
    assert [parts_decided(watch, recv_ms, [6_000]) for recv_ms in (10**6, 2 * 10**6, 3 * 10**6)] == [None] * 3


def test_receipts_that_stay_old_are_dropped_whatever_the_clocks_differ_by() -> None:
    watch, years_ms = LagWatch(), 10**11
    assert not watch.look(years_ms, 1, 0.0)
    late = [watch.look(years_ms + 6_000, 2 + n, float(n)) for n in range(6)]
    assert late == [False, False, False, False, True, False]
    assert not any(watch.look(years_ms + 60_000, 100, 10.0 + n) for n in range(9))  # an old lag of a silent feed
