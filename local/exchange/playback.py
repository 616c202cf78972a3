"""The clock of a recording: it stands until somebody listens."""

from __future__ import annotations

import threading

from shared.clock import ScaledClock


class PlaybackClock:
    """Stands at `origin_ms` until `begin`, then runs `speed` times as fast as the wall.

    With `speed` None it follows the newest message played instead.
    """

    def __init__(self, origin_ms: int, speed: float | None) -> None:
        if speed is not None and speed <= 0:
            raise ValueError("speed must be positive")
        self.speed = speed
        self._at_ms = origin_ms
        self._running: ScaledClock | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            if self._running is None and self.speed is not None:
                self._running = ScaledClock(self._at_ms, self.speed)

    def advance(self, ms: int) -> None:
        """Move to a later moment; only while following messages."""
        with self._lock:
            self._at_ms = max(self._at_ms, ms)

    def now_ms(self) -> int:
        with self._lock:
            return self._at_ms if self._running is None else self._running.now_ms()

    def sleep(self, seconds: float) -> None:
        if self._running is not None:
            self._running.sleep(seconds)
