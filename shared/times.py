"""Time as numbers and as text: pure helpers, so that the core may use them without holding a clock."""

from __future__ import annotations

from datetime import UTC, datetime

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


def iso_utc(ms: int) -> str:
    """Format epoch milliseconds as `2023-10-27T10:00:00Z`; milliseconds appear only when they are not zero."""
    moment = datetime.fromtimestamp(ms // 1000, tz=UTC)
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
