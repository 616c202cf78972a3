from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.exchange.binance.ids import (
    BACKWARD_EPOCH,
    FORWARD_EPOCH,
    MAX_GAPS,
    STRAY_RUN,
    IdFollower,
    Seen,
    Step,
)


def test_a_late_id_is_delivered_and_shrinks_the_hole() -> None:
    follower = IdFollower()
    assert follower.step(10).seen is Seen.NEW
    assert follower.step(15) == Step(Seen.NEW, (11, 14))
    assert follower.step(12).seen is Seen.LATE
    assert follower.gaps() == [(11, 11), (13, 14)]
    assert follower.step(12).seen is Seen.REPEAT
    assert follower.step(15).seen is Seen.REPEAT


def test_numbering_that_goes_back_by_more_than_a_million_is_new() -> None:
    follower = IdFollower(5_000_000)
    assert follower.step(5_000_000 - BACKWARD_EPOCH).seen is Seen.REPEAT
    assert follower.step(5_000_000 - BACKWARD_EPOCH - 1) == Step(Seen.EPOCH, None, 5_000_000)
    assert follower.step(4_000_000).seen is Seen.NEW


def test_numbering_far_ahead_is_new_and_makes_no_absurd_hole() -> None:
    follower = IdFollower(5)
    assert follower.step(6 + FORWARD_EPOCH) == Step(Seen.EPOCH, None, 5)
    assert follower.gaps() == []


def test_one_stray_low_id_does_not_open_a_hole_of_millions() -> None:
    follower = IdFollower(15_000_000)
    follower.step(15_000_002)
    assert follower.step(3).seen is Seen.EPOCH
    assert follower.step(15_000_003) == Step(Seen.EPOCH, None, 3)
    assert follower.step(15_000_004).seen is Seen.NEW
    assert follower.gaps() == [(15_000_001, 15_000_001)]


def test_holes_are_bounded_and_what_was_given_up_is_counted() -> None:
    follower = IdFollower(0)
    for id_ in range(2, 2 * MAX_GAPS + 6, 2):
        follower.step(id_)
    assert len(follower.gaps()) == MAX_GAPS
    assert follower.abandoned == 2
    assert follower.step(1).seen is Seen.REPEAT


def test_holes_can_be_given_up_in_part() -> None:
    follower = IdFollower(0)
    follower.step(11)
    assert follower.abandon(4, 6) == 3
    assert follower.gaps() == [(1, 3), (7, 10)]
    assert follower.abandon(4, 6) == 0


def test_a_hole_from_before_a_restart_is_still_open() -> None:
    follower = IdFollower(100)
    follower.expect(40, 50)
    follower.expect(99, 120)
    assert follower.gaps() == [(40, 50)]
    assert follower.step(45).seen is Seen.LATE


def test_behind_a_stray_id_it_goes_back_to_the_last_before_it() -> None:
    follower = IdFollower(100)
    assert follower.step(50_100) == Step(Seen.NEW, (101, 50_099))
    assert [follower.step(id_).seen for id_ in (101, 102)] == [Seen.LATE, Seen.LATE]
    assert follower.abandon(101, 50_099) == 49_997
    repeats = [follower.step(id_).seen for id_ in range(105, 104 + STRAY_RUN)]
    assert set(repeats) == {Seen.REPEAT}
    back = follower.step(104 + STRAY_RUN)
    assert back == Step(Seen.EPOCH, (103, 103 + STRAY_RUN), 50_100, 102, 49_997)
    assert follower.step(105 + STRAY_RUN) == Step(Seen.NEW)
    assert follower.gaps() == [(103, 103 + STRAY_RUN)]
    assert follower.step(110).seen is Seen.LATE
    assert follower.step(50_100).gap == (106 + STRAY_RUN, 50_099)  # an ordinary hole again


def test_late_ids_of_a_hole_that_was_given_up_are_no_stream_when_more_came_behind_it() -> None:
    follower = IdFollower(100)
    for id_ in range(201, 201 + STRAY_RUN):
        follower.step(id_)
    follower.abandon(101, 200)
    assert {follower.step(id_).seen for id_ in range(101, 201)} == {Seen.REPEAT}
    assert follower.newest == 200 + STRAY_RUN


def test_repeats_of_what_was_delivered_are_no_stream() -> None:
    follower = IdFollower(0)
    for id_ in range(1, 500):
        follower.step(id_)
    follower.step(600)
    follower.abandon(500, 599)
    assert {follower.step(id_).seen for id_ in range(100, 499)} == {Seen.REPEAT}


def test_late_ids_between_new_ones_are_no_stream() -> None:
    follower = IdFollower(100)
    follower.step(301)
    follower.abandon(101, 300)
    for at in range(100):
        assert follower.step(101 + at).seen is Seen.REPEAT
        if at % 10 == 0:
            assert follower.step(302 + at // 10).seen is Seen.NEW


def test_ids_advanced_by_the_caller_are_counted() -> None:
    follower = IdFollower()
    follower.step(7)
    for id_ in (8, 9):
        follower.newest = id_
    assert follower.advanced == 2
    follower.step(12)
    follower.newest = 13
    assert follower.advanced == 3


@given(st.lists(st.integers(0, 80), min_size=1, max_size=120))
def test_delivered_and_missing_cover_every_id_once(ids: list[int]) -> None:
    follower = IdFollower()
    delivered = [id_ for id_ in ids if follower.step(id_).seen is not Seen.REPEAT]
    missing = [id_ for first, last in follower.gaps() for id_ in range(first, last + 1)]
    assert sorted(delivered + missing) == list(range(min(ids), max(ids) + 1))
    assert set(delivered) == set(ids)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80))
def test_holes_reported_are_the_holes_that_were_open(ids: list[int]) -> None:
    follower, open_ids, newest = IdFollower(0), set[int](), 0
    for id_ in ids:
        step = follower.step(id_)
        if step.gap:
            open_ids |= set(range(step.gap[0], step.gap[1] + 1))
        open_ids.discard(id_)
        newest = max(newest, id_)
        assert {i for first, last in follower.gaps() for i in range(first, last + 1)} == open_ids
        assert follower.newest == newest
