"""Time as a dependency: the core is told the time, only the edges hold a clock."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


class Clock(Protocol):
    def now_ms(self) -> int:
        """Return the time in epoch milliseconds, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of this clock's own time."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class ScaledClock:
    """A clock that starts at `origin_ms` and runs `speed` times as fast as the wall; for the simulated market."""

    def __init__(self, origin_ms: int, speed: float) -> None:
        if speed <= 0:
            raise ValueError("speed must be positive")
        self.origin_ms = origin_ms
        self.speed = speed
        self._started = time.monotonic()

    def now_ms(self) -> int:
        return self.origin_ms + int((time.monotonic() - self._started) * 1000 * self.speed)

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds / self.speed))


class ManualClock:
    """A clock that moves only when told; sleeping moves it. Safe to share between threads."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._lock = threading.Lock()

    def now_ms(self) -> int:
        with self._lock:
            return self._now_ms

    def set(self, now_ms: int) -> None:
        with self._lock:
            self._now_ms = now_ms

    def advance(self, ms: int) -> None:
        with self._lock:
            self._now_ms += ms

    def sleep(self, seconds: float) -> None:
        self.advance(int(max(0.0, seconds) * 1000))


def iso_utc(ms: int) -> str:
    """Format epoch milliseconds as `2023-10-27T10:00:00Z`; milliseconds appear only when they are not zero."""
    moment = datetime.fromtimestamp(ms / 1000, tz=UTC)
    if ms % 1000:
        return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc_ms(text: str) -> int:
    """Read an ISO time (`Z`, an offset, or none = UTC) or a number of epoch milliseconds.

    Raises:
        ValueError: the text is neither.
    """
    stripped = text.strip()
    if stripped.lstrip("-").isdigit():
        return int(stripped)
    moment = datetime.fromisoformat(stripped.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def floor_minute_ms(ms: int) -> int:
    """Return the start of the minute that `ms` lies in."""
    return ms - ms % MINUTE_MS
