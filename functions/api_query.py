"""Read the query of a request strictly: a filter that cannot be meant is an error, never silently ignored."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from shared.detection.reading import Detector, Direction
from shared.errors import UsageError
from shared.jobs.when import parse_when
from shared.market.universe import normalize_symbol

E = TypeVar("E", bound=StrEnum)

DEFAULT_LIMIT = 100
MAX_LIMIT = 500
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
    unknown = sorted(set(query) - set(_NAMES))
    if unknown:
        raise UsageError(f"unknown parameter {unknown[0][:40]!r}: known are {', '.join(_NAMES)}")
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
        limit=_limit(query.get("limit")),
        cursor=decode_cursor(query.get("cursor")),
    )


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


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit() and 1 <= int(stripped[:9]) <= MAX_LIMIT):
        raise UsageError(f"limit must be an integer from 1 to {MAX_LIMIT}")
    return int(stripped)
