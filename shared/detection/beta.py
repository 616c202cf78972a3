"""Beta of many symbols against one, at many bars at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LEAST_VARIANCE = 1e-12  # of the benchmark's returns; below it a slope means nothing


@dataclass(frozen=True, slots=True)
class Lookback:
    """`bars` minutes are cut into non-overlapping returns over `step` minutes each."""

    bars: int
    step: int
    least_pairs: int
    coverage: float


def strided_return(log_close: FloatArray, bars: int) -> FloatArray:
    """Return the log return over `bars` rows that ends at each row; NaN where either close is missing."""
    out = np.full_like(log_close, np.nan)
    if len(log_close) > bars:
        np.subtract(log_close[bars:], log_close[:-bars], out=out[bars:])
    return out


def rolling_beta(log_close: FloatArray, first_row: npt.NDArray[np.int64], start: int, lookback: Lookback) -> FloatArray:
    """Return beta (rows - start, symbols) at each row from `start` on; column 0 is the benchmark.

    `first_row` is the row of each symbol's first bar, possibly negative. Beta is covariance / variance of the pairs
    of returns that are both known. NaN where too few pairs or too few minutes of the lookback are known (the
    lookback is cut at the first bar of the symbol and of the benchmark), or the benchmark's variance is too small.

    Sums over the lookback are built by doubling, not by adding and subtracting: rounding does not depend on what
    came before, so one bar computed alone equals the same bar computed among thousands.
    """
    pairs = lookback.bars // lookback.step
    moved = strided_return(log_close, lookback.step)
    both = np.isfinite(moved) & np.isfinite(moved[:, :1])
    y = np.where(both, moved, 0.0)
    x = np.where(both, moved[:, :1], 0.0)

    def total(values: FloatArray) -> FloatArray:
        return _strided_sum(values, pairs, lookback.step)[start:]

    n = total(both.astype(np.float64))
    sum_x, sum_y, sum_xx, sum_xy = total(x), total(y), total(x * x), total(x * y)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        spread = sum_xx - sum_x * sum_x / n
        beta = (sum_xy - sum_x * sum_y / n) / spread
        usable = (n >= max(2, lookback.least_pairs)) & (spread / (n - 1.0) >= LEAST_VARIANCE)
    covered = _covered(log_close, first_row, start, lookback)
    result: FloatArray = np.where(usable & covered & covered[:, :1] & np.isfinite(beta), beta, np.nan)
    return result


def _covered(
    log_close: FloatArray, first_row: npt.NDArray[np.int64], start: int, lookback: Lookback
) -> npt.NDArray[np.bool_]:
    counts = np.cumsum(np.isfinite(log_close), axis=0)
    known = counts[start:].copy()
    rows = np.arange(start, len(log_close))
    from_row = max(0, lookback.bars - start)
    known[from_row:] -= counts[rows[from_row:] - lookback.bars]
    span = np.minimum(rows[:, None] - first_row[None, :] + 1, lookback.bars)
    enough: npt.NDArray[np.bool_] = (span > 0) & (known >= lookback.coverage * span)
    return enough


def _strided_sum(values: FloatArray, count: int, stride: int) -> FloatArray:
    """Return, at each row, the sum of `count` rows ending there, `stride` apart; rows before the first are zero."""
    result: FloatArray | None = None
    taken, width, block = 0, 1, values
    while True:
        if count & width:
            part = _shifted(block, taken * stride)
            result = part if result is None else result + part
            taken += width
        width *= 2
        if width > count:
            break
        block = block + _shifted(block, width // 2 * stride)
    return np.zeros_like(values) if result is None else result


def _shifted(values: FloatArray, rows: int) -> FloatArray:
    if rows == 0:
        return values
    out = np.zeros_like(values)
    if rows < len(values):
        out[rows:] = values[:-rows]
    return out
