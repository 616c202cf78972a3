"""Follow the ids of one stream: what is new, what is missing, what came twice, when numbering began anew."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum

BACKWARD_EPOCH = 1_000_000
"""An id further back than this is a new numbering, not a repeat."""
FORWARD_EPOCH = 1_000_000_000
"""An id further ahead than this is a new numbering, not a hole that anyone could fill."""
START_LOOKBACK = 1_000
"""Ids this far below the very first one are late arrivals of a shuffled start."""
MAX_GAPS = 1_000
"""Separate holes remembered per stream; the oldest is given up first."""

STRAY_RUN = 50
"""So many ids in a row out of a hole that was given up, nothing new between them: what stood behind it was a stray."""
MAX_GIVEN_UP = 100
"""Holes given up that are remembered for that."""


class Seen(Enum):
    NEW = "new"
    LATE = "late"
    """Below the newest, but it was missing: deliver it."""
    REPEAT = "repeat"
    EPOCH = "epoch"
    """The first id of another numbering: deliver it."""


@dataclass(frozen=True, slots=True)
class Step:
    """The verdict on one id. `gap` is a hole (first, last) that this id revealed, `old_id` the newest before it.

    `back_to` is the last id before a stray one: with an EPOCH that goes on there, in the same numbering; `recovered`
    ids that had been given up are open again, or were never sent.
    """

    seen: Seen
    gap: tuple[int, int] | None = None
    old_id: int | None = None
    back_to: int | None = None
    recovered: int = 0


class IdFollower:
    """Ids of one kind and symbol, growing by one each. Remembers holes, so that a late arrival is not a repeat.

    `newest` is None before the first id. A straight run may be advanced by the caller itself, which saves a call
    on the hot path: `if id == follower.newest + 1: follower.newest = id`.
    """

    __slots__ = (
        "_advanced", "_gaps", "_given_up", "_mark", "_previous", "_run", "_start", "abandoned", "longest", "newest",
    )  # fmt: skip

    def __init__(self, newest: int | None = None) -> None:
        self.newest = newest
        self.abandoned = 0  # ids given up because too many holes were open
        self.longest = 0  # length of the longest message read carefully: a longer one may hold an absurd number
        self._advanced = 0
        self._mark = newest or 0  # newest as the last step left it
        self._gaps: list[tuple[int, int]] = []  # ascending, disjoint
        self._given_up: list[tuple[int, int]] = []  # the newest holes given up, in that order
        self._run = (0, 0, 0)  # repeats in a row: how many, the last of them, and `newest` while they came
        self._start: int | None = None  # lowest id delivered since a fresh start; None once resumed
        self._previous: tuple[int, list[tuple[int, int]], int | None] | None = None  # the numbering before this one

    @property
    def advanced(self) -> int:
        """Ids that the caller advanced itself."""
        return self._advanced + (self.newest - self._mark if self.newest is not None else 0)

    def step(self, id_: int) -> Step:
        """Judge one id and remember it."""
        self._advanced = self.advanced
        step = self._judge(id_)
        self._mark = self.newest or 0
        return step

    def _judge(self, id_: int) -> Step:
        newest = self.newest
        if newest is None:
            self.newest = self._start = id_
            return Step(Seen.NEW)
        if id_ > newest:
            return self._ahead(id_, newest)
        if self._take(id_):
            return Step(Seen.LATE)
        if self._start is not None and 0 < self._start - id_ <= START_LOOKBACK:
            gap = (id_ + 1, self._start - 1) if id_ + 1 < self._start else None
            self._start = id_
            if gap:
                self._remember(gap)
            return Step(Seen.LATE, gap)
        if newest - id_ > BACKWARD_EPOCH:
            return self._turn(id_, newest)
        return self._repeated(id_, newest)

    def gaps(self) -> list[tuple[int, int]]:
        """Return the holes still open, ascending, as (first, last)."""
        return list(self._gaps)

    def expect(self, first: int, last: int) -> None:
        """Remember a hole from before a restart."""
        if first <= last and self.newest is not None and last < self.newest:
            self._remember((first, last))

    def abandon(self, first: int, last: int) -> int:
        """Give up the missing ids within first..last; return how many were given up."""
        kept: list[tuple[int, int]] = []
        dropped = 0
        for low, high in self._gaps:
            cut_low, cut_high = max(low, first), min(high, last)
            if cut_low > cut_high:
                kept.append((low, high))
                continue
            dropped += cut_high - cut_low + 1
            self._given_up.append((cut_low, cut_high))
            if low < cut_low:
                kept.append((low, cut_low - 1))
            if cut_high < high:
                kept.append((cut_high + 1, high))
        self._gaps = kept
        del self._given_up[:-MAX_GIVEN_UP]
        return dropped

    def _repeated(self, id_: int, newest: int) -> Step:
        """Tell a repeat from the stream itself, which goes on below one stray id far ahead of it."""
        count, last, then = self._run
        count = count + 1 if id_ == last + 1 and newest == then else 1
        self._run = (count, id_, newest)
        if count < STRAY_RUN:
            return Step(Seen.REPEAT)
        hole = next((hole for hole in self._given_up if hole[0] <= id_ - STRAY_RUN + 1 and id_ <= hole[1]), None)
        if hole is None:
            return Step(Seen.REPEAT)
        above = newest - hole[1]  # that came from behind the hole
        above -= sum(high - low + 1 for low, high in [*self._gaps, *self._given_up] if low > hole[1])
        if above >= STRAY_RUN:
            return Step(Seen.REPEAT)
        back_to = hole[0] - 1
        recovered = sum(high - low + 1 for low, high in self._given_up if low > back_to)
        self._given_up = [part for part in self._given_up if part[1] <= back_to]
        self._gaps = [part for part in self._gaps if part[1] <= back_to]
        self._previous, self._run = None, (0, 0, 0)
        self.newest, gap = id_, (back_to + 1, id_ - 1)
        self._remember(gap)
        return Step(Seen.EPOCH, gap, newest, back_to, recovered)

    def _ahead(self, id_: int, newest: int) -> Step:
        if id_ == newest + 1:
            self.newest = id_
            return Step(Seen.NEW)
        if self._previous is not None and abs(id_ - self._previous[0]) <= BACKWARD_EPOCH:
            # One stray id looked like a new numbering; the old one simply goes on.
            self.newest, self._gaps, self._start = self._previous
            self._previous = None
            step = self._judge(id_)
            return step if step.seen is Seen.REPEAT else Step(Seen.EPOCH, step.gap, newest)
        if id_ - newest > FORWARD_EPOCH:
            return self._turn(id_, newest)
        gap = (newest + 1, id_ - 1)
        self.newest = id_
        self._remember(gap)
        return Step(Seen.NEW, gap)

    def _turn(self, id_: int, newest: int) -> Step:
        self._previous = (newest, self._gaps, self._start)
        self.newest = self._start = id_
        self._gaps, self._given_up = [], []
        return Step(Seen.EPOCH, None, newest)

    def _take(self, id_: int) -> bool:
        """Remove one id from the holes; False when it was in none."""
        at = bisect_right(self._gaps, (id_, id_)) - 1
        for index in (at, at + 1):
            if not 0 <= index < len(self._gaps):
                continue
            low, high = self._gaps[index]
            if low <= id_ <= high:
                rest = [part for part in ((low, id_ - 1), (id_ + 1, high)) if part[0] <= part[1]]
                self._gaps[index : index + 1] = rest
                return True
        return False

    def _remember(self, gap: tuple[int, int]) -> None:
        self._gaps.insert(bisect_right(self._gaps, gap), gap)
        while len(self._gaps) > MAX_GAPS:
            low, high = self._gaps.pop(0)
            self.abandoned += high - low + 1
