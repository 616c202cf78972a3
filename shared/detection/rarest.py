"""A budget of alerts a day that goes to the rarest signals, decided as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shared.detection.reading import Signal

DAY_MS = 86_400_000
_DAYS = 7  # of past signals that the bar is set by
_MOST = 2_000


class RarestBudget:
    """Say of each signal whether it is among the `per_day` rarest.

    The bar is the strength that `per_day` signals a day have reached over the last week; a signal passes when it is
    at least as strong, and at most `per_day` pass on one UTC day. In the first hours, with fewer than `per_day`
    signals known, every one passes.
    """

    def __init__(self, per_day: int) -> None:
        self._per_day = per_day
        self._past: list[tuple[int, float, bool]] = []  # event time, strength, passed

    def judge(self, event_ms: int, strength: float) -> bool:
        """Judge one signal against those before it, then learn it."""
        self._past = [one for one in self._past if one[0] > event_ms - _DAYS * DAY_MS][-_MOST:]
        today = sum(passed for at_ms, _, passed in self._past if at_ms // DAY_MS == event_ms // DAY_MS)
        passes = today < self._per_day and strength >= self._bar(event_ms)
        self._past.append((event_ms, strength, passes))
        return passes

    def judged(self, signal: Signal) -> Signal:
        """Return the signal with the word on whether the day's budget of alerts is for it."""
        among = self.judge(signal.event_ms, signal.strength)
        return replace(signal, values={**signal.values, "among_the_rarest": among})

    def snapshot(self) -> list[list[float | int | bool]]:
        return [list(one) for one in self._past]

    def restore(self, state: Sequence[Sequence[float | int | bool]]) -> None:
        self._past = [(int(at_ms), float(strength), bool(passed)) for at_ms, strength, passed in state]

    def _bar(self, event_ms: int) -> float:
        if not self._past:
            return 0.0
        days = max(1.0, (event_ms - min(at_ms for at_ms, _, _ in self._past)) / DAY_MS)
        room = int(self._per_day * days)
        ordered = sorted((strength for _, strength, _ in self._past), reverse=True)
        return ordered[room - 1] if len(ordered) >= room else 0.0
