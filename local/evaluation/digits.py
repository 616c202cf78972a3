"""Decimal text to integers, a whole block of rows at once. Exact: no float is involved.

Eight ASCII digits are read as one 64-bit word and added up in three multiplications. Source: Langdale and Lemire,
"Parsing series of integers with SIMD" (2014), the scalar form, here over arrays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

PAD = 24
"""Bytes that must stand before and after the text, so that no word reaches outside."""

_DOT, _ZERO, _NINE = 46, 48, 57
_KEEP_HIGH = np.array([0] + [((1 << 64) - 1) >> (64 - 8 * n) << (64 - 8 * n) for n in range(1, 9)], dtype=np.uint64)
_KEEP_LOW = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype=np.uint64)
_ZEROS = np.uint64(0x3030303030303030)


def words(text: Bytes) -> Words:
    """Return, for each offset, the eight bytes that begin there, as one little-endian word; a view, not a copy."""
    return np.ndarray(shape=(len(text) - 7,), dtype="<u8", buffer=text, strides=(1,))


def integers(at: Words, start: Ints, end: Ints) -> Ints | None:
    """Return the integers written in [start, end), 1 to 16 digits each; None where one is written otherwise."""
    width = end - start
    if not len(width):
        return np.empty(0, dtype=np.int64)
    most = int(width.max())
    if most > 16 or int(width.min()) < 1:
        return None
    low = _eight(_right(at, end, np.minimum(width, 8)))
    if low is None:
        return None
    if most <= 8:
        return low
    high = _eight(_right(at, end - 8, np.clip(width - 8, 0, 8)))
    return None if high is None else high * 100_000_000 + low


def hundred_millionths(text: Bytes, at: Words, start: Ints, end: Ints) -> Ints | None:
    """Return the decimals written in [start, end) in units of 1e-8; None where one is not a plain decimal.

    At most 10 digits before the point and 8 behind it.
    """
    if not len(start):
        return np.empty(0, dtype=np.int64)
    dot = end - 9
    if int((end - start).min()) >= 10 and bool((text[dot] == _DOT).all()):  # the exchange's own form: 8 decimals
        fraction = _eight(at[end - 8])
    else:
        points = np.flatnonzero(text == _DOT)
        if not len(points):
            dot = end
        else:
            found = points[np.minimum(np.searchsorted(points, start), len(points) - 1)]
            dot = np.where((found >= start) & (found < end), found, end)
        decimals = np.maximum(end - dot - 1, 0)
        if int(decimals.max()) > 8 or bool((dot == end - 1).any()):
            return None
        keep = _KEEP_LOW[decimals]
        fraction = _eight((at[dot + 1] & keep) | (_ZEROS & ~keep))
    if fraction is None or int((dot - start).max()) > 10:
        return None
    whole = integers(at, start, dot)
    return None if whole is None else whole * 100_000_000 + fraction


def _right(at: Words, end: Ints, width: Ints) -> Words:
    """Return the words that end at `end`, with zeros for digits where only the last `width` bytes are the number's."""
    least = int(width.min())
    if least == 8:
        return at[end - 8]
    keep = _KEEP_HIGH[least] if least == int(width.max()) else _KEEP_HIGH[width]
    right: Words = (at[end - 8] & keep) | (_ZEROS & ~keep)
    return right


def _eight(word: Words) -> Ints | None:
    """Return the number that eight ASCII digits stand for; None when a byte is no digit."""
    digits = word ^ _ZEROS
    wrong = (digits | (digits + np.uint64(0x0606060606060606))) & np.uint64(0xF0F0F0F0F0F0F0F0)
    if bool(wrong.any()):
        return None
    pairs = (digits * np.uint64(2561)) >> np.uint64(8) & np.uint64(0x00FF00FF00FF00FF)
    fours = (pairs * np.uint64(6553601)) >> np.uint64(16) & np.uint64(0x0000FFFF0000FFFF)
    return ((fours * np.uint64(42949672960001)) >> np.uint64(32)).astype(np.int64)
