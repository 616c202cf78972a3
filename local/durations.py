"""How people write spans of time: 45s, 30m, 24h, 7d."""

from __future__ import annotations

import re

from shared.errors import UsageError

LONGEST_MS = 3_653 * 86_400_000
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPAN = re.compile(r"^(\d+(?:\.\d+)?)\s*([smhd])$")


def parse_span_ms(option: str, text: str) -> int:
    """Return the span in milliseconds.

    Raises:
        UsageError: names the option and the forms it takes.
    """
    match = _SPAN.match(text.strip().lower())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"{option} {text!r}: write a span such as 45s, 30m, 24h or 7d")
    span_ms = float(match[1]) * _UNITS[match[2]]
    if span_ms > LONGEST_MS:
        raise UsageError(f"{option} {text!r}: ten years are the most")
    return round(span_ms)


def since_ms(option: str, text: str, now_ms: int) -> int:
    """Return the beginning: a span back from `now_ms`, an ISO time (UTC) or epoch milliseconds."""
    from shared.clock import parse_utc_ms

    if _SPAN.match(text.strip().lower()):
        return now_ms - parse_span_ms(option, text)
    try:
        return parse_utc_ms(text)
    except ValueError:
        raise UsageError(f"{option} {text!r}: write a span such as 24h, or an ISO time") from None
