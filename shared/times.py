"""Time as numbers and as text: pure helpers, so that the core may use them without holding a clock."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


def iso_utc(ms: int) -> str:
    """Format epoch milliseconds as `2023-10-27T10:00:00Z`; milliseconds appear only when they are not zero."""
    minute, rest = divmod(ms, MINUTE_MS)
    seconds, part = divmod(rest, 1000)
    return f"{_minute(minute)}{seconds:02d}.{part:03d}Z" if part else f"{_minute(minute)}{seconds:02d}Z"


@lru_cache(maxsize=2048)
def _minute(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, tz=UTC).strftime("%Y-%m-%dT%H:%M:")


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
