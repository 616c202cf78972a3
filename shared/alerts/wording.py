"""Words, numbers and times as people read them. Pure; whatever comes in, text comes out; no answer is "unknown"."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

UNKNOWN = "unknown"
_REPLACEMENT = "\ufffd"
_EMOJI_JOINERS = "\ufe0f\u200d"  # format characters that only shape a picture
_LARGEST_PLAIN = 1e15
_SMALLEST_PLAIN = 1e-9


def sanitize(text: object, limit: int = 64) -> str:
    """Return outside text as one harmless line of at most `limit` characters: the one place where that is done.

    Control characters, line and paragraph separators, bidi overrides and other invisible format characters, lone
    surrogates and unassigned code points become U+FFFD; what is too long is cut with an ellipsis. Letters of every
    script, digits, signs and emoji stay. It says nothing about markup: a channel that speaks HTML or Markdown
    escapes at its own substitution.
    """
    raw = str(text)
    cut = raw if len(raw) <= limit else raw[: max(0, limit - 1)] + "…"
    return "".join(sign if _harmless(sign) else _REPLACEMENT for sign in cut)


def _harmless(sign: str) -> bool:
    return " " <= sign <= "~" or sign in _EMOJI_JOINERS or unicodedata.category(sign)[0] not in "CZ"


def ascii_line(text: str, limit: int) -> str:
    """Return text as printable ASCII on one line, at most `limit` characters; other signs are dropped or become `?`."""
    plain = unicodedata.normalize("NFKD", text.replace("σ", "sigma").replace("…", "...").replace("\n", " "))
    kept = "".join(
        sign if " " <= sign <= "~" else "" if unicodedata.category(sign) in ("So", "Mn", "Cf") else "?"
        for sign in plain
    )
    return " ".join(kept.split())[:limit].rstrip()


def finite(value: object) -> float | None:
    """Return a finite number, None for anything else (text, None, NaN, infinity, a bool)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def fixed(value: object, decimals: int, *, sign: bool = False, scale: float = 1.0, unit: str = "") -> str:
    """Return a number with a fixed number of decimals, times `scale`; never `-0.0`."""
    number = finite(value)
    if number is None or not isfinite(number * scale):
        return UNKNOWN
    number *= scale
    if abs(number) >= _LARGEST_PLAIN:
        return f"{number:+.4g}{unit}" if sign else f"{number:.4g}{unit}"
    rounded = round(number, decimals) + 0.0
    return f"{rounded:+.{decimals}f}{unit}" if sign else f"{rounded:.{decimals}f}{unit}"


def percent(value: object, decimals: int = 1, *, sign: bool = False) -> str:
    """Return a share (0..1) in percent."""
    return fixed(value, decimals, sign=sign, scale=100.0, unit="%")


def sigma(value: object) -> str:
    """Return a robust z with one decimal: `3.2σ`."""
    return fixed(value, 1, unit="σ")


def decimal(value: object) -> str:
    """Return a price or quantity with the exchange's own decimals, which the shortest float text gives back."""
    number = finite(value)
    if number is None:
        return UNKNOWN
    if number and not _SMALLEST_PLAIN <= abs(number) < _LARGEST_PLAIN:
        return f"{number:.6g}"
    text = format(Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def brief(value: object) -> str:
    """Return a computed number (a mean, a ratio) with five significant digits."""
    number = finite(value)
    return UNKNOWN if number is None else decimal(float(f"{number:.5g}"))


def times(value: object) -> str:
    """Return a multiple: `5.2x`."""
    return fixed(value, 1, unit="x")


def moment(value: object) -> str:
    """Return epoch milliseconds, or an ISO text, as `2026-01-13 14:23:00 UTC`; milliseconds only when there are any."""
    try:
        if isinstance(value, str):
            when = datetime.fromisoformat(value.replace("Z", "+00:00"))
            when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds, ms = divmod(int(value), 1000)
            when = datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=ms * 1000)
        else:
            return UNKNOWN
    except (ValueError, OverflowError, OSError):
        return UNKNOWN
    text = when.strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{when.microsecond // 1000:03d} UTC" if when.microsecond >= 1000 else f"{text} UTC"


def word(value: object, limit: int = 64) -> str:
    """Return outside text sanitised, `unknown` for None."""
    return UNKNOWN if value is None else sanitize(value, limit)


def part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a nested mapping, an empty one where there is none."""
    inner = values.get(name)
    return inner if isinstance(inner, Mapping) else {}


def table_field(text: object) -> str:
    """Return outside text as a field of a CSV table: what a spreadsheet would run begins with an apostrophe."""
    raw = str(text)
    clean = sanitize(raw, 500)
    return f"'{clean}" if raw[:1] in ("=", "+", "-", "@", "\t", "\r") else clean
