"""How often each coin would have followed anyway, and how surprising it is that so many did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shared.detection.reading import Direction
from shared.times import MINUTE_MS

_LEAST_MINUTES = 360  # of a coin's own past, before its rate is stated
_LANES = (Direction.UP, Direction.DOWN)


class FollowerRates:
    """Count, for each coin and direction, how many times it began to look like a follower.

    A follower's excess return spans `quiet_minutes`, so hits closer together than that are one beginning. A minute
    is judged by what came before it and joins the counts afterwards.
    """

    def __init__(self, quiet_minutes: int) -> None:
        self._quiet_ms = quiet_minutes * MINUTE_MS
        self._newest_ms = -1
        # symbol -> [minutes seen, beginnings up, beginnings down, last hit up, last hit down]
        self._counts: dict[str, list[int]] = {}

    def learn(self, minute_ms: int, directions: Mapping[str, Direction | None]) -> None:
        """Take one minute: every scored coin, with the direction in which it looks like a follower, if it does.

        Minutes are learnt in ascending order; one that was learnt already changes nothing.
        """
        if minute_ms <= self._newest_ms:
            return
        self._newest_ms = minute_ms
        for symbol, direction in directions.items():
            counts = self._counts.setdefault(symbol, [0, 0, 0, 0, 0])
            counts[0] += 1
            if direction is not None:
                lane = _LANES.index(direction)
                counts[1 + lane] += minute_ms - counts[3 + lane] > self._quiet_ms
                counts[3 + lane] = minute_ms

    def chance(self, symbol: str, direction: Direction, minutes: int) -> float | None:
        """Return the chance that a coin begins to look like a follower within so many minutes; None: too little past.

        Half a beginning is added, so that a coin that never did it is rare and not impossible.
        """
        counts = self._counts.get(symbol)
        if counts is None or counts[0] < _LEAST_MINUTES:
            return None
        rate = min(1.0, (counts[1 + _LANES.index(direction)] + 0.5) / (counts[0] + 1.0))
        return float(1.0 - (1.0 - rate) ** minutes)

    def p_value(self, symbols: Iterable[str], direction: Direction, minutes: int, followers: int) -> float | None:
        """Return the chance that at least `followers` of the coins follow by themselves; None when one is unknown."""
        chances = [self.chance(symbol, direction, minutes) for symbol in symbols]
        known = [chance for chance in chances if chance is not None]
        return tail(known, followers) if len(known) == len(chances) else None

    def snapshot(self) -> dict[str, Any]:
        return {"newest_ms": self._newest_ms, "counts": self._counts}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        if state is not None:
            self._newest_ms = state["newest_ms"]
            self._counts = {symbol: list(counts) for symbol, counts in state["counts"].items()}


def tail(chances: Iterable[float], least: int) -> float:
    """Return the chance of at least `least` successes among independent trials, each with its own chance.

    The binomial tail when all chances are equal; otherwise that of the Poisson binomial, summed exactly.
    """
    below = [1.0]  # chance of exactly 0, 1, ... successes so far; what reaches `least` is done
    reached = 0.0
    if least <= 0:
        return 1.0
    for chance in chances:
        reached += below[-1] * chance if len(below) == least else 0.0
        shifted = [0.0, *(one * chance for one in below)]
        kept = [one * (1.0 - chance) for one in below] + [0.0]
        below = [a + b for a, b in zip(kept, shifted, strict=True)][:least]
    return min(1.0, reached)
