"""Columns of decimal numbers as few bytes, given back bit for bit.

A price or a quantity is a short decimal: an integer and a number of decimals say it in a third of a float's bytes,
and their quotient is the very same float. What is no short decimal keeps its eight bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Exponents = npt.NDArray[np.uint8]

RAW = 255
"""The number of decimals of a value that is kept as its own bits."""
_MOST_DECIMALS = 10
_EXACT = 2.0**53
_POWERS = 10.0 ** np.arange(_MOST_DECIMALS + 1)


def to_decimals(values: Floats) -> tuple[Exponents, Ints]:
    """Return the decimals (n,) that all rows of (k, n) share, and the integers (k, n). NaN is -1 among counts >= 0.

    Only numbers that are not negative, and NaN, are short decimals here.
    """
    missing = np.isnan(values)
    known = np.where(missing, 0.0, values)
    decimals = np.full(values.shape[1], RAW, dtype=np.uint8)
    whole = np.zeros(values.shape, dtype=np.int64)
    open_ = np.ones(values.shape[1], dtype=bool)
    with np.errstate(invalid="ignore", over="ignore"):
        for places, power in enumerate(_POWERS):
            at = np.flatnonzero(open_)
            if not len(at):
                break
            part = known[:, at]
            scaled = np.rint(part * power)
            fits = ((scaled / power == part) & (scaled >= 0) & ~np.signbit(part) & (scaled < _EXACT)).all(axis=0)
            hit = at[fits]
            decimals[hit] = places
            whole[:, hit] = scaled[:, fits].astype(np.int64)
            open_[hit] = False
    whole[missing] = -1
    raw = decimals == RAW
    whole[:, raw] = np.ascontiguousarray(values[:, raw]).view(np.int64)
    return decimals, whole


def from_decimals(decimals: Exponents, whole: Ints) -> Floats:
    """Return what `to_decimals` was given."""
    places = np.minimum(decimals, _MOST_DECIMALS)
    values = whole / _POWERS[places]
    values[whole == -1] = np.nan
    raw = decimals == RAW
    if raw.any():
        values[:, raw] = np.ascontiguousarray(whole[:, raw]).view(np.float64)
    return values


def to_planes(whole: Ints) -> bytes:
    """Return integers of either sign as byte planes, high zero planes left out; small numbers take few bytes."""
    flat = whole.reshape(-1)
    folded = ((flat << 1) ^ (flat >> 63)).view(np.uint64)
    top = int(folded.max()) if len(folded) else 0
    width = max(1, (top.bit_length() + 7) // 8)
    planes = folded.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].T
    return bytes((width,)) + planes.tobytes()


def from_planes(packed: bytes, count: int) -> Ints:
    """Return `count` integers.

    Raises:
        ValueError: the bytes do not hold them.
    """
    width = packed[0] if packed else 0
    if not 1 <= width <= 8 or len(packed) != 1 + width * count:
        raise ValueError("damaged columns")
    full = np.zeros((count, 8), dtype=np.uint8)
    full[:, :width] = np.frombuffer(packed, dtype=np.uint8, offset=1).reshape(width, count).T
    folded = full.view("<u8").reshape(-1)
    return (folded >> np.uint64(1)).astype(np.int64) ^ -(folded & np.uint64(1)).astype(np.int64)
