"""Beta of many symbols against one, at many bars at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_BLOCK_CELLS = 65_536  # worked on at once: their arrays fit into a core's cache
LEAST_VARIANCE = 1e-12  # of the benchmark's returns; below it a slope means nothing


@dataclass(frozen=True, slots=True)
class Lookback:
    """`bars` minutes are cut into non-overlapping returns over `step` minutes each."""

    bars: int
    step: int
    least_pairs: int


def strided_return(log_close: FloatArray, bars: int) -> FloatArray:
    """Return the log return over `bars` rows that ends at each row; NaN where either close is missing."""
    out = np.full_like(log_close, np.nan)
    if len(log_close) > bars:
        np.subtract(log_close[bars:], log_close[:-bars], out=out[bars:])
    return out


def rolling_beta(log_close: FloatArray, lookback: Lookback) -> FloatArray:
    """Return beta (rows, symbols) of the returns that end at each row; column 0 is the benchmark.

    Beta is covariance / variance of the pairs of returns that are both known. NaN where they are too few or the
    benchmark's variance is too small.

    Sums over the lookback are built by doubling, not by adding and subtracting: rounding does not depend on what
    came before, so one bar computed alone equals the same bar computed among thousands.
    """
    moved = strided_return(log_close[:, :1], lookback.step)
    beta = np.empty_like(log_close)
    block = max(64, _BLOCK_CELLS // max(1, len(log_close)))
    for at in range(0, log_close.shape[1], block):
        part = slice(at, at + block)
        beta[:, part] = _betas(log_close[:, part], moved, lookback)
    return beta


def _betas(log_close: FloatArray, benchmark_moved: FloatArray, lookback: Lookback) -> FloatArray:
    """Return the betas of some columns against the benchmark's returns, (rows, 1)."""
    pairs, step = lookback.bars // lookback.step, lookback.step
    moved = strided_return(log_close, step)
    both = np.isfinite(moved)
    both &= np.isfinite(benchmark_moved)
    y = np.where(both, moved, 0.0)
    x = np.where(both, benchmark_moved, 0.0)
    n = strided_sum(both.astype(np.float64), pairs, step)
    sum_x, sum_y = strided_sum(x, pairs, step), strided_sum(y, pairs, step)
    y *= x
    sum_xy = strided_sum(y, pairs, step)
    x *= x
    sum_xx = strided_sum(x, pairs, step)
    return _slopes(n, sum_x, sum_y, sum_xy, sum_xx, lookback.least_pairs)


def newest_beta(log_close: FloatArray, lookback: Lookback) -> FloatArray:
    """Return the last row of `rolling_beta`, shape (1, symbols), from the closes that it needs alone."""
    pairs, step = lookback.bars // lookback.step, lookback.step
    back = min((len(log_close) - 1) // step, pairs) * step
    moved = np.diff(log_close[len(log_close) - 1 - back :: step], axis=0)[::-1]  # the newest first
    parts = np.zeros((4, pairs, log_close.shape[1]))
    if np.isfinite(moved).all():
        n = np.full(log_close.shape[1], float(len(moved)))
        parts[0, : len(moved)], parts[1, : len(moved)] = moved[:, :1], moved
    else:
        both = np.isfinite(moved) & np.isfinite(moved[:, :1])
        n = both.sum(axis=0).astype(np.float64)
        parts[0, : len(moved)] = np.where(both, moved[:, :1], 0.0)
        parts[1, : len(moved)] = np.where(both, moved, 0.0)
    np.multiply(parts[1], parts[0], out=parts[2])
    np.multiply(parts[0], parts[0], out=parts[3])
    sum_x, sum_y, sum_xy, sum_xx = _newest_sum(parts)
    return _slopes(n, sum_x, sum_y, sum_xy, sum_xx, lookback.least_pairs)[None]


def _slopes(
    n: FloatArray, sum_x: FloatArray, sum_y: FloatArray, sum_xy: FloatArray, sum_xx: FloatArray, least_pairs: int
) -> FloatArray:
    """Return covariance / variance; NaN where there are too few pairs or too little variance."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        spread = sum_xx - sum_x * sum_x / n
        beta: FloatArray = (sum_xy - sum_x * sum_y / n) / spread
        usable = (n >= max(2, least_pairs)) & (spread / (n - 1.0) >= LEAST_VARIANCE)
    beta[~(usable & np.isfinite(beta))] = np.nan
    return beta


def covered(
    there: npt.NDArray[np.bool_], first_row: npt.NDArray[np.int64], start: int, bars: int, share: float
) -> npt.NDArray[np.bool_]:
    """Return, for each row from `start` on, whether that share of the last `bars` rows is `there`.

    `first_row` is the row of each symbol's first bar, possibly negative; the lookback is cut there.
    """
    if start == len(there) - 1:  # one row: no need for running counts
        span = np.minimum(start - first_row + 1, bars)[None]
        newest = there[-bars:]
        known = len(newest) if newest.all() else newest.sum(axis=0)[None]
        alone: npt.NDArray[np.bool_] = (span > 0) & (known >= share * span)
        return alone
    counts = np.zeros((len(there) + 1, there.shape[1]), dtype=np.int32)
    np.cumsum(there, axis=0, out=counts[1:])
    rows = np.arange(start, len(there))
    known = counts[rows + 1] - counts[np.maximum(rows + 1 - bars, 0)]
    span = np.minimum(rows[:, None] - first_row[None, :] + 1, bars)
    enough: npt.NDArray[np.bool_] = (span > 0) & (known >= share * span)
    return enough


def strided_sum(values: FloatArray, count: int, stride: int) -> FloatArray:
    """Return, at each row, the sum of `count` rows ending there, `stride` apart; rows before the first are zero."""
    result = np.zeros_like(values)
    taken, width, block = 0, 1, values
    while True:
        if count & width:
            _add_shifted(result, block, taken * stride)
            taken += width
        width *= 2
        if width > count:
            return result
        doubled = block.copy()
        _add_shifted(doubled, block, width // 2 * stride)
        block = doubled


def _newest_sum(values: FloatArray) -> FloatArray:
    """Return the sums of (parts, rows, columns) over the rows, the newest row first.

    Added in the order of `strided_sum`, so that they equal its last row bit for bit.
    """
    count, taken = values.shape[1], 0
    result = np.zeros((len(values), values.shape[2]))
    for bit in range(count.bit_length()):
        width = 1 << bit
        if count & width:
            block = values[:, taken : taken + width]
            while block.shape[1] > 1:
                block = block[:, 0::2] + block[:, 1::2]
            result += block[:, 0]
            taken += width
    return result


def _add_shifted(to: FloatArray, values: FloatArray, rows: int) -> None:
    if rows < len(values):
        to[rows:] += values[: len(values) - rows]
