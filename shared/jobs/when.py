"""Read the times that people and events name: ISO, epoch milliseconds, or how long ago."""

from __future__ import annotations

import re

from shared.clock import DAY_MS, HOUR_MS, MINUTE_MS, parse_utc_ms
from shared.errors import UsageError

_UNITS_MS = {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_AGO = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)([mhd])")
_LATEST_MS = 4_102_444_800_000  # 2100


def parse_when(text: str, now_ms: int) -> int:
    """Return epoch milliseconds of `2026-01-01T00:00:00Z`, `1767225600000`, or `30m`, `24h`, `7d` before `now_ms`.

    Raises:
        UsageError: the text is no time.
    """
    words = text.strip()
    if match := _AGO.fullmatch(words):
        return max(0, now_ms - round(float(match[1]) * _UNITS_MS[match[2]]))
    try:
        ms = parse_utc_ms(words)
    except (ValueError, OverflowError):
        ms = -1
    if not 0 <= ms < _LATEST_MS:
        raise UsageError(f"{text[:60]!r} is no time: give ISO (2026-01-01T00:00:00Z) or how long ago (30m, 24h, 7d)")
    return ms
