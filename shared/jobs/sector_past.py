"""What the sector job keeps of the last minutes, so that bars which come late are still decided as if in time.

A late bar changes the features of its minute and of those after it. The job then goes back to a state from before
that minute and steps through the minutes again. What was found the first time stays as it was told; only what is new
is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.clock import MINUTE_MS
from shared.detection.reading import Detector, Signal
from shared.settings import SectorSettings

STEP_MS = 5 * MINUTE_MS
"""The least distance of two kept states: minutes up to this old, at most twice as old, can be decided again."""
_KEPT = 2


class SectorPast:
    """Earlier states of the tracker, oldest first, and what has been found since."""

    def __init__(self, state: Mapping[str, Any] | None, settings: SectorSettings) -> None:
        self._kept: list[dict[str, Any]] = [] if state is None else list(state.get("kept", []))
        self._found: list[list[Any]] = [] if state is None else list(state.get("found", []))
        self._shadow_ms = settings.windows.return_bars * MINUTE_MS
        self._span_ms = settings.windows.diffusion_minutes * MINUTE_MS

    def before(self, minute_ms: int) -> dict[str, Any] | None:
        """Return the newest state that did not know the minute, else the oldest one there is, and go back to it."""
        if not self._kept:
            return None
        self._kept = [one for one in self._kept if one["newest_ms"] < minute_ms] or self._kept[:1]
        return self._kept[-1]

    def knows_initiator(self, symbol: str, minute_ms: int) -> bool:
        return [Detector.SECTOR_INITIATOR.value, minute_ms, symbol] in self._found

    def learn(self, signal: Signal) -> bool:
        """Remember what was found; False when it had been found before."""
        name, at_ms = signal.detector.value, signal.event_ms
        if signal.detector is Detector.SECTOR_DIFFUSION:
            # One event for each initiator, whichever minute completes it.
            whose = [signal.symbol, str(signal.direction), signal.values["initiator_time"]]
            known = any(one[0] == name and one[2:] == whose for one in self._found)
            entry = [name, at_ms, *whose]
        elif signal.detector is Detector.MARKET_WIDE:
            # Moves begin further apart than this: one that is nearer is the same, begun a little earlier or later.
            known = any(one[0] == name and abs(one[1] - at_ms) <= self._shadow_ms for one in self._found)
            entry = [name, at_ms]
        else:
            entry = [name, at_ms, signal.symbol]
            known = entry in self._found
        if not known:
            self._found.append(entry)
        return not known

    def snapshot(self, newest_ms: int, tracker: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the state, the newest tracker joining the kept ones when it is time."""
        if not self._kept or newest_ms - self._kept[-1]["newest_ms"] >= STEP_MS:
            self._kept = [*self._kept, {"newest_ms": newest_ms, "tracker": tracker}][-_KEPT:]
        oldest_ms = self._kept[0]["newest_ms"] - self._span_ms
        return {"kept": self._kept, "found": [one for one in self._found if one[1] > oldest_ms]}
