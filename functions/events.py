"""What starts a function: a schedule's payload or a link of the event chain, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from shared.clock import MINUTE_MS, floor_minute_ms, parse_utc_ms
from shared.errors import UsageError

_EARLIEST_MS = 1_230_768_000_000  # 2009: before it, a time is a mistake of units
_LATEST_MS = 4_102_444_800_000  # 2100


@dataclass(frozen=True, slots=True)
class Trigger:
    """`scheduled_ms` is when the run was due; `minute_ms` the open time of the bar that had just closed then."""

    scheduled_ms: int
    minute_ms: int
    detail: Mapping[str, Any]


def read_trigger(event: Any) -> Trigger:
    """Read `{"scheduled_time": ISO}` (EventBridge Scheduler) or `{"time": ISO, "detail": {...}}` (a rule's event).

    A `minute_ms` in the detail names the minute itself; otherwise it is the one before the scheduled minute.

    Raises:
        UsageError: the event names no time that could be meant.
    """
    if not isinstance(event, Mapping):
        raise UsageError(f"an event must be an object, not {type(event).__name__}")
    detail = event.get("detail", event)  # invoked by hand or by a schedule, the event itself says the details
    if not isinstance(detail, Mapping):
        raise UsageError("the event's detail must be an object")
    named = detail.get("minute_ms")
    text = event.get("scheduled_time", event.get("time"))
    if text is None and named is None:
        raise UsageError('the event names no time: expected "scheduled_time", "time" or detail.minute_ms')
    minute_ms = None if named is None else _minute(named)
    scheduled_ms = minute_ms + MINUTE_MS if text is None and minute_ms is not None else _time(text)
    if minute_ms is None:
        minute_ms = floor_minute_ms(scheduled_ms) - MINUTE_MS
    return Trigger(scheduled_ms, minute_ms, detail)


def number(detail: Mapping[str, Any], name: str) -> float | None:
    """Return a number of the event, None where it is absent or null.

    Raises:
        UsageError: something else stands there.
    """
    value = detail.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise UsageError(f"{name} must be a number, is {str(value)[:40]!r}")
    return float(value)


def text(detail: Mapping[str, Any], name: str) -> str | None:
    """Return a text of the event, None where it is absent or null.

    Raises:
        UsageError: something else stands there.
    """
    value = detail.get(name)
    if value is None or isinstance(value, str):
        return value
    raise UsageError(f"{name} must be a text, is {str(value)[:40]!r}")


def integer(detail: Mapping[str, Any], name: str) -> int | None:
    """Return an integer of the event, None where it is absent or null.

    Raises:
        UsageError: something else stands there.
    """
    value = number(detail, name)
    if value is not None and value != int(value):  # some producers turn integers into floats
        raise UsageError(f"{name} must be an integer, is {str(value)[:40]!r}")
    return None if value is None else int(value)


def _minute(value: Any) -> int:
    minute_ms = integer({"minute_ms": value}, "minute_ms")
    if minute_ms is None or minute_ms % MINUTE_MS or not _EARLIEST_MS <= minute_ms < _LATEST_MS:
        raise UsageError(f"minute_ms must be the start of a minute in epoch milliseconds, is {str(value)[:40]!r}")
    return minute_ms


def _time(text: Any) -> int:
    try:
        ms = parse_utc_ms(str(text))
    except (ValueError, OverflowError):
        raise UsageError(f"the event's time is not an ISO time: {str(text)[:60]!r}") from None
    if not _EARLIEST_MS <= ms < _LATEST_MS:
        raise UsageError(f"the event's time lies outside 2009..2100: {str(text)[:60]!r}")
    return ms
