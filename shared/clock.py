"""Time as a dependency: the core is told the time, only the edges hold a clock."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from shared.times import DAY_MS, HOUR_MS, MINUTE_MS, floor_minute_ms, iso_utc, parse_utc_ms

__all__ = [
    "DAY_MS",
    "HOUR_MS",
    "MINUTE_MS",
    "Clock",
    "ManualClock",
    "ScaledClock",
    "SystemClock",
    "floor_minute_ms",
    "iso_utc",
    "parse_utc_ms",
]


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
    """A clock at `origin_ms` that runs `speed` times as fast as the wall once started; for the simulated market.

    Until `start` it stands still, so that what must be ready first does not cost market time.
    """

    def __init__(self, origin_ms: int, speed: float, *, running: bool = True) -> None:
        if speed <= 0:
            raise ValueError("speed must be positive")
        self.origin_ms = origin_ms
        self.speed = speed
        self._started: float | None = time.monotonic() if running else None

    def start(self) -> None:
        """Let time begin; doing it twice changes nothing."""
        if self._started is None:
            self._started = time.monotonic()

    def now_ms(self) -> int:
        if self._started is None:
            return self.origin_ms
        return self.origin_ms + int((time.monotonic() - self._started) * 1000 * self.speed)

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds / self.speed))


class OffsetClock:
    """Another clock moved by `offset_ms`: the exchange's time as this machine can tell it."""

    def __init__(self, base: Clock, offset_ms: int = 0) -> None:
        self._base = base
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        return self._base.now_ms() + self.offset_ms

    def sleep(self, seconds: float) -> None:
        self._base.sleep(seconds)


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
