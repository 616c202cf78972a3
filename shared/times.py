"""Time as numbers and as text: pure helpers, so that the core may use them without holding a clock."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


def iso_utc(ms: int) -> str:
    """Format epoch milliseconds as `2023-10-27T10:00:00Z`; milliseconds appear only when they are not zero."""
    day, rest = divmod(ms, DAY_MS)
    seconds, part = divmod(rest, 1000)
    text = f"{_date(day)}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{part:03d}Z" if part else f"{text}Z"


@lru_cache(maxsize=64)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * (DAY_MS // 1000), tz=UTC).strftime("%Y-%m-%d")


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
