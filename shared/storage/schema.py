"""Every key of the table in one place: which partition holds what, and how it is ordered.

One partition answers one question. Times in sort keys are zero-padded, so that bytewise order is time order.
Words from outside (symbols, hosts, names) pass through `word`, so that none can break out of its place.
"""

from __future__ import annotations

import hashlib

from shared.storage.table import Key

_LONGEST_WORD = 200  # bytes; a sort key has 1024, and may hold a few words
_TIME_DIGITS = 15  # epoch milliseconds to the year 33658


def word(text: str) -> str:
    """Return outside text as one part of a key: no `#`, no control characters, never empty, at most 200 bytes.

    Distinct texts stay distinct. Ordinary symbols, in any script, stay readable as they are.
    """
    escaped = "".join(_escape(sign) for sign in text) or "%"
    raw = escaped.encode(errors="surrogatepass")
    if len(raw) <= _LONGEST_WORD:
        return escaped
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"%h{digest}"  # no escape begins with h


def _escape(sign: str) -> str:
    code = ord(sign)
    if sign in "#%" or code < 0x20 or 0x7F <= code <= 0x9F:
        return f"%{code:02X}"
    if 0xD800 <= code <= 0xDFFF:  # half of a surrogate pair, which UTF-8 cannot say
        return f"%u{code:04X}"
    return sign


def time_key(ms: int) -> str:
    """Return epoch milliseconds as text whose order is time order.

    Raises:
        ValueError: before 1970 or absurdly late.
    """
    if not 0 <= ms < 10**_TIME_DIGITS:
        raise ValueError(f"{ms} is no time in epoch milliseconds")
    return f"{ms:0{_TIME_DIGITS}d}"


def bars_partition(market: str) -> str:
    """One market's bars: one item a minute."""
    return f"BARS#{word(market)}"


def charts_partition(market: str, bucket: int) -> str:
    """One bucket of a market's symbols: one item an hour."""
    return f"CHARTS#{word(market)}#{bucket:02d}"


def open_interest_partition() -> str:
    """The open interest of the futures: one item a minute."""
    return "OPEN_INTEREST"


def universe_partition() -> str:
    """The futures symbols watched and their sectors: one item per change, by the minute from which it holds."""
    return "UNIVERSE"


def features_partition() -> str:
    """The sector features: one item a minute."""
    return "FEATURES"


def windows_partition(market: str, symbol: str) -> str:
    """One symbol's trade windows, by start."""
    return f"WINDOWS#{word(market)}#{word(symbol)}"


def model_key(market: str, symbol: str) -> Key:
    return "MODELS", f"{word(market)}#{word(symbol)}"


def checkpoint_key(name: str) -> Key:
    return "CHECKPOINTS", word(name)


def heartbeats_partition() -> str:
    """One item per component."""
    return "HEARTBEATS"


def failures_partition() -> str:
    """Runs that failed, by time."""
    return "FAILURES"


def heartbeat_key(component: str) -> Key:
    return heartbeats_partition(), word(component)


def blindness_partition() -> str:
    """One item per component that was without data: why."""
    return "BLINDNESS"


def blindness_key(component: str) -> Key:
    return blindness_partition(), word(component)


def not_before_key(host: str) -> Key:
    """The instant before which an exchange's host must not be called."""
    return "NOT_BEFORE", word(host)


def lease_key(name: str) -> Key:
    return "LEASES", word(name)


def chunks_partition(owner: Key) -> str:
    """The pieces of a value that is too large for the item that names it."""
    pk, sk = owner
    return f"CHUNKS#{pk}#{sk}"


def chunk_sort(version: int, generation: str, number: int) -> str:
    """Order pieces by the version of their owner, so that those of older versions can be swept."""
    return f"{version:012d}#{generation}#{number:05d}"
