"""What the market did after an alarm, against what it did after every other minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RESAMPLES = 1000
BLOCK_MS = 6 * 3_600_000


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """One symbol's prices on a grid: `prices[k]` is the last one known at `start_ms + k x step_ms`, NaN before any.

    An alarm is measured from the first grid point at or after it; `slack_ms` lets one count for the point just before
    (a window is known a little after its end).
    """

    start_ms: int
    step_ms: int
    prices: Floats
    slack_ms: int = 0

    def forward(self, horizon_ms: int) -> tuple[Floats, Floats]:
        """Return, for each grid point, the summed absolute and the net log return over the horizon; NaN at the end."""
        steps = max(1, horizon_ms // self.step_ms)
        logs = np.log(self.prices)
        length, net = np.full(len(logs), np.nan), np.full(len(logs), np.nan)
        if len(logs) > steps:
            walked = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(logs)))])
            length[:-steps] = walked[steps:] - walked[:-steps]
            net[:-steps] = logs[steps:] - logs[:-steps]
        return length, net

    def index(self, times_ms: Ints) -> Ints:
        """Return the grid point from which each time is measured."""
        return -((self.start_ms + self.slack_ms - times_ms) // self.step_ms)


class PathBuilder:
    """Makes the path of prices that come in blocks: a month of trades need not be in memory at once.

    Of equal times the price that came later counts. `first_ms` and `last_ms` bound the times, None before any.
    """

    def __init__(self, step_ms: int) -> None:
        self._step_ms = step_ms
        self._known: dict[int, tuple[int, float]] = {}  # grid point: time and price of the newest up to it
        self.first_ms: int | None = None
        self.last_ms: int | None = None

    def add(self, times_ms: Ints, prices: Floats) -> None:
        """Take times at which prices were known, in any order."""
        if not len(times_ms):
            return
        if (times_ms[1:] < times_ms[:-1]).any():
            order = np.argsort(times_ms, kind="stable")
            times_ms, prices = times_ms[order], prices[order]
        first, last = int(times_ms[0]), int(times_ms[-1])
        self.first_ms = first if self.first_ms is None else min(first, self.first_ms)
        self.last_ms = last if self.last_ms is None else max(last, self.last_ms)
        points = -(-times_ms // self._step_ms)
        newest = np.append(np.flatnonzero(points[1:] != points[:-1]), len(points) - 1)
        chosen = (points[newest], times_ms[newest], prices[newest])
        for point, at_ms, price in zip(*(column.tolist() for column in chosen), strict=True):
            known = self._known.get(point)
            if known is None or at_ms >= known[0]:
                self._known[point] = (at_ms, price)

    def path(self) -> Path:
        if self.first_ms is None or self.last_ms is None:
            return Path(0, self._step_ms, np.empty(0))
        start = -(-self.first_ms // self._step_ms)
        prices = np.full(max(0, self.last_ms // self._step_ms - start + 1), np.nan)
        for point, (_, price) in self._known.items():
            if point - start < len(prices):  # behind the last point lies what is known at none
                prices[point - start] = price
        told = np.maximum.accumulate(np.where(np.isnan(prices), 0, np.arange(len(prices))))
        return Path(start * self._step_ms, self._step_ms, prices[told])


def grid_path(times_ms: Ints, prices: Floats, step_ms: int) -> Path:
    """Return the path of trades or bars: times at which each price was known."""
    builder = PathBuilder(step_ms)
    builder.add(times_ms, prices)
    return builder.path()


@dataclass(frozen=True, slots=True)
class Lift:
    """Mean forward movement after alarms / after all other minutes, each symbol in units of its own; 1: no news.

    `low` and `high` bound 95 % of block bootstraps (blocks of 6 hours of one symbol); None where all alarms lie in one
    block. `agreement` is the share of alarms with a direction after which the price went that way.
    """

    alarms: int
    lift: float
    low: float | None
    high: float | None
    net_lift: float
    agreement: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What followed each alarm, in units of what followed the symbol's other minutes; arrays (n,).

    `blocks` numbers the six hours of one symbol in which an alarm lies, the same ones for every set of alarms on the
    same paths. `agreed` has one entry for each alarm with a direction.
    """

    moved: Floats
    net: Floats
    blocks: Ints
    agreed: tuple[bool, ...]


def outcomes(
    paths: Mapping[str, Path], alarms: Mapping[str, Sequence[tuple[int, int]]], horizon_ms: int
) -> Outcomes | None:
    """Return what followed alarms (known time, direction +1, -1 or 0) by symbol. None where nothing can be measured."""
    moved: list[float] = []
    nets: list[float] = []
    blocks: list[int] = []
    agreed: list[bool] = []
    block = 0
    for symbol in sorted(paths):
        path = paths[symbol]
        start, block = block, block + len(path.prices) * path.step_ms // BLOCK_MS + 2
        length, net = path.forward(horizon_ms)
        told = alarms.get(symbol, ())
        at = path.index(np.array([time for time, _ in told], dtype=np.int64))
        direction = np.array([way for _, way in told])
        inside = (at >= 0) & (at < len(length))
        at, direction = at[inside], direction[inside]
        measured = np.isfinite(length[at])
        at, direction = at[measured], direction[measured]
        others = np.isfinite(length)
        others[at] = False
        if not len(at) or not others.any():
            continue
        usual, usual_net = float(length[others].mean()), float(np.abs(net[others]).mean())
        if usual <= 0 or usual_net <= 0:
            continue
        moved += (length[at] / usual).tolist()
        nets += (np.abs(net[at]) / usual_net).tolist()
        number = (path.start_ms + at * path.step_ms) // BLOCK_MS
        blocks += (number - path.start_ms // BLOCK_MS + start).tolist()
        way = direction != 0
        agreed += (np.sign(net[at][way]) == direction[way]).tolist()
    if not moved:
        return None
    return Outcomes(np.array(moved), np.array(nets), np.array(blocks, dtype=np.int64), tuple(agreed))


def lift(
    paths: Mapping[str, Path],
    alarms: Mapping[str, Sequence[tuple[int, int]]],
    horizon_ms: int,
    *,
    seed: int = 1,
) -> Lift | None:
    """Measure alarms (known time, direction +1, -1 or 0) by symbol. None where nothing can be measured."""
    found = outcomes(paths, alarms, horizon_ms)
    if found is None:
        return None
    low, high = _bounds(found.moved, found.blocks, seed)
    return Lift(
        alarms=len(found.moved),
        lift=float(np.mean(found.moved)),
        low=low,
        high=high,
        net_lift=float(np.mean(found.net)),
        agreement=float(np.mean(found.agreed)) if found.agreed else None,
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """How much larger one mean is than another; `low` and `high` bound 95 % of a paired block bootstrap."""

    more: float
    low: float
    high: float


def difference(ours: Floats, our_blocks: Ints, theirs: Floats, their_blocks: Ints, *, seed: int = 1) -> Difference:
    """Compare the means of two sets of alarms on the same paths; whole blocks are drawn again, the same for both.

    A draw that holds no alarm of one of them says nothing and is left out.
    """
    _, member = np.unique(np.concatenate([our_blocks, their_blocks]), return_inverse=True)
    sides = ((ours, member[: len(ours)]), (theirs, member[len(ours) :]))
    size = int(member.max()) + 1
    drawn = np.random.default_rng(seed).integers(0, size, (RESAMPLES, size))
    means = []
    for values, blocks in sides:
        sums, counts = np.bincount(blocks, values, size), np.bincount(blocks, minlength=size)
        total = counts[drawn].sum(axis=1)
        means.append(np.divide(sums[drawn].sum(axis=1), total, out=np.full(RESAMPLES, np.nan), where=total > 0))
    low, high = np.nanquantile(means[0] - means[1], (0.025, 0.975))
    return Difference(float(ours.mean() - theirs.mean()), float(low), float(high))


def _bounds(values: Floats, blocks: Ints, seed: int) -> tuple[float, float] | tuple[None, None]:
    """Return the 2.5 and 97.5 % points of the mean when whole blocks are drawn again; None of a single block."""
    _, member = np.unique(blocks, return_inverse=True)
    sums, counts = np.bincount(member, values), np.bincount(member)
    if len(sums) < 2:
        return None, None
    drawn = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
