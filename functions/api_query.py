"""Read the query of a request strictly: a filter that cannot be meant is an error, never silently ignored."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from shared.clock import MINUTE_MS
from shared.detection.reading import Detector, Direction
from shared.errors import UsageError
from shared.jobs.when import parse_when
from shared.market.universe import normalize_symbol

E = TypeVar("E", bound=StrEnum)

DEFAULT_LIMIT = 100
MAX_LIMIT = 500
MAX_MINUTES = 20_160  # two weeks, the longest that state is kept
_LONGEST_CURSOR = 400
_NAMES = ("symbol", "detector", "direction", "since", "until", "limit", "cursor")


@dataclass(frozen=True, slots=True)
class Filters:
    symbol: str | None = None
    detector: Detector | None = None
    direction: Direction | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None


def read_filters(query: Mapping[str, str], now_ms: int) -> Filters:
    """Return the filters of a list request.

    Raises:
        UsageError: an unknown parameter, or a value that cannot be used; the text says what may stand there.
    """
    refuse_unknown(query, _NAMES)
    detector = _one_of(Detector, query.get("detector"), "detector", str.lower)
    symbol = query.get("symbol")
    if symbol is not None:
        # A system event's symbol is a component, which is no pair.
        symbol = symbol.strip() if detector is Detector.SYSTEM else named_symbol(symbol)
    since_ms = parse_when(query["since"], now_ms) if "since" in query else None
    until_ms = parse_when(query["until"], now_ms) if "until" in query else None
    if since_ms is not None and until_ms is not None and since_ms > until_ms:
        raise UsageError("since must not lie after until")
    return Filters(
        symbol=symbol,
        detector=detector,
        direction=_one_of(Direction, query.get("direction"), "direction", str.upper),
        since_ms=since_ms,
        until_ms=until_ms,
        limit=whole(query.get("limit"), "limit", DEFAULT_LIMIT, MAX_LIMIT),
        cursor=decode_cursor(query.get("cursor")),
    )


def refuse_unknown(query: Mapping[str, str], known: Iterable[str]) -> None:
    """Raise UsageError for a parameter that the route does not have."""
    names = list(known)
    unknown = sorted(set(query) - set(names))
    if unknown:
        said = f"known are {', '.join(names)}" if names else "this path has none"
        raise UsageError(f"unknown parameter {unknown[0][:40]!r}: {said}")


@dataclass(frozen=True, slots=True)
class Span:
    """[start_ms, end_ms) of a series, ascending; with a cursor the start is where the last page ended."""

    start_ms: int
    end_ms: int
    limit: int

    @property
    def page_end_ms(self) -> int:
        """Where a page of minutes ends: its work is bounded by the minutes that it may hold."""
        return min(self.end_ms, self.start_ms + self.limit * MINUTE_MS)

    @property
    def cursor(self) -> str | None:
        """The cursor of the page after that, None at the end."""
        return encode_cursor(str(self.page_end_ms - 1)) if self.page_end_ms < self.end_ms else None


def read_span(
    query: Mapping[str, str], now_ms: int, *, minutes: int = 60, most_minutes: int = MAX_MINUTES, page: int = 500
) -> Span:
    """Return the time that a series' request asks for: `since` and `until`, or the last `minutes`.

    Raises:
        UsageError: a value that cannot be used; the text says what may stand there.
    """
    end_ms = parse_when(query["until"], now_ms) if "until" in query else now_ms + 1
    if "since" in query:
        start_ms = parse_when(query["since"], now_ms)
    else:
        wanted = whole(query.get("minutes"), "minutes", minutes, most_minutes)
        last_ms = end_ms if "until" in query else now_ms // MINUTE_MS * MINUTE_MS
        start_ms = last_ms - wanted * MINUTE_MS
    if start_ms > end_ms:
        raise UsageError("since must not lie after until")
    cursor = decode_cursor(query.get("cursor"))
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 13):
            raise UsageError("the cursor is not one that this API gave")
        start_ms = max(start_ms, int(cursor) + 1)
    start_ms = min(end_ms, max(start_ms, end_ms - most_minutes * MINUTE_MS, 0))
    return Span(start_ms, end_ms, whole(query.get("limit"), "limit", page, page))


def named_symbol(text: str) -> str:
    """Return the pair that a person meant (`btc` is BTCUSDT).

    Raises:
        UsageError: no pair can be named so.
    """
    try:
        return normalize_symbol(text, None)
    except ValueError as exc:
        raise UsageError(str(exc)) from None


def encode_cursor(cursor: str | None) -> str | None:
    """Return a page's cursor in a form that needs no escaping in an address."""
    return None if cursor is None else base64.urlsafe_b64encode(cursor.encode()).decode().rstrip("=")


def decode_cursor(text: str | None) -> str | None:
    """Read a cursor that `encode_cursor` gave.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    try:
        if len(text) > _LONGEST_CURSOR:
            raise ValueError("too long")
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = raw.decode("utf-8")
        if not cursor or not cursor.isprintable():
            raise ValueError("not printable")
    except (ValueError, binascii.Error):
        raise UsageError("the cursor is not one that this API gave") from None
    return cursor


def _one_of(kind: type[E], text: str | None, name: str, fold: Callable[[str], str]) -> E | None:
    if text is None:
        return None
    try:
        return kind(fold(text.strip()))
    except ValueError:
        raise UsageError(f"{name} must be one of {', '.join(kind)}") from None


def whole(text: str | None, name: str, default: int, most: int) -> int:
    """Read an integer from 1 to `most`.

    Raises:
        UsageError: it is none, or lies outside.
    """
    if text is None:
        return default
    stripped = text.strip()
    # No number that may be given has more digits, and Python refuses to read one of thousands.
    if not (len(stripped) <= 20 and stripped.isascii() and stripped.isdigit() and 1 <= int(stripped) <= most):
        raise UsageError(f"{name} must be an integer from 1 to {most}")
    return int(stripped)
