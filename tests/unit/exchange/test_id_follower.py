from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.exchange.binance.ids import BACKWARD_EPOCH, FORWARD_EPOCH, MAX_GAPS, IdFollower, Seen, Step


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
