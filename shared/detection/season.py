"""Volumes without what is usual at their minute of the hour: robots trade at :00, :15, :30 and :45."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SEASON_MINUTES = 60
SEASON_HOURS = 12
_LEAST_HOURS = 3
_BLOCK = 240  # minutes worked out at once


def log_volume(volume: FloatArray) -> FloatArray:
    """Return the logarithms; on this scale a volume of zero has no value."""
    values: FloatArray = np.log(np.where(volume > 0, volume, np.nan))
    return values


def without_season(volume: FloatArray, first: int, end: int) -> FloatArray:
    """Return the logarithms of rows [first, end) of (minutes, symbols) without what is usual at their minute.

    Usual is the median of the symbol's own logarithms at the same minute of the hour in the 12 hours before; with
    fewer than 3 of them known there is no value.
    """
    parts = [_block(volume, at, min(at + _BLOCK, end)) for at in range(first, end, _BLOCK)]
    return np.concatenate(parts) if parts else np.empty((0, volume.shape[1]))


def _block(volume: FloatArray, first: int, end: int) -> FloatArray:
    earlier = np.full((SEASON_HOURS, end - first, volume.shape[1]), np.nan)
    for hour in range(SEASON_HOURS):
        back = SEASON_MINUTES * (hour + 1)
        low = max(0, first - back)
        if low < end - back:
            earlier[hour, low + back - first :] = log_volume(volume[low : end - back])
    earlier.sort(axis=0)  # NaN goes last
    known = np.isfinite(earlier).sum(axis=0)
    upper = np.take_along_axis(earlier, np.minimum(known // 2, SEASON_HOURS - 1)[None], axis=0)[0]
    lower = np.take_along_axis(earlier, np.maximum((known - 1) // 2, 0)[None], axis=0)[0]
    usual = np.where(known >= _LEAST_HOURS, (upper + lower) / 2.0, np.nan)
    values: FloatArray = log_volume(volume[first:end]) - usual
    return values
