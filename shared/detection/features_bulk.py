"""The features of a whole recording at once: the same numbers as minute by minute, some twenty times as fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import numpy.typing as npt

from shared.detection.beta import FloatArray, strided_sum
from shared.detection.features import FeatureEngine, SymbolFeatures
from shared.detection.reading import Status
from shared.detection.sorted_columns import SortedColumns
from shared.settings import SectorSettings
from shared.times import MINUTE_MS

Counts = npt.NDArray[np.int64]
_SIDE_BY_SIDE = 1024  # columns walked at once
_LEAST_PART = 60  # minutes; each part sorts a window of its own first
_STATUSES = (Status.NORMAL, Status.WARMING, Status.UNSCORABLE)


@dataclass(frozen=True, slots=True)
class BulkFeatures:
    """Arrays of (minutes, symbols), NaN where there is no answer.

    `statuses` is 0 for NORMAL, 1 for WARMING, 2 for UNSCORABLE.
    """

    symbols: tuple[str, ...]
    start_ms: int
    r_1m: FloatArray
    r_15m: FloatArray
    beta: FloatArray
    excess: FloatArray
    z_excess: FloatArray
    z_volume: FloatArray
    share: FloatArray
    bars: Counts
    statuses: Counts

    def at(self, row: int) -> dict[str, SymbolFeatures]:
        """Return one minute as `FeatureEngine.push` does."""
        columns = (self.r_1m, self.r_15m, self.beta, self.excess, self.z_excess, self.z_volume, self.share)
        rows = [[value if isfinite(value) else None for value in column[row].tolist()] for column in columns]
        open_ms = self.start_ms + row * MINUTE_MS
        counts, statuses = self.bars[row].tolist(), self.statuses[row].tolist()
        return {
            symbol: SymbolFeatures(symbol, open_ms, r1, r15, beta, er, z_er, z_v, share, _STATUSES[status], bars)
            for symbol, r1, r15, beta, er, z_er, z_v, share, status, bars in zip(
                self.symbols, *rows, statuses, counts, strict=True
            )
        }

    def loud(self, least_z_return: float, least_z_volume: float) -> list[int]:
        """Return the rows in which any symbol stands out so far in return and volume."""
        with np.errstate(invalid="ignore"):
            out = (np.abs(self.z_excess) >= least_z_return) & (self.z_volume >= least_z_volume)
        rows: list[int] = np.flatnonzero(out.any(axis=1)).tolist()
        return rows


def bulk_features(
    settings: SectorSettings,
    benchmark: str,
    symbols: Sequence[str],
    start_ms: int,
    close: FloatArray,
    volume: FloatArray,
    taker: FloatArray,
) -> BulkFeatures:
    """Return the features of consecutive minutes from `start_ms` on, as an engine that begins there would give them.

    The arrays are (minutes, symbols), the symbols being the benchmark and then the others, each once; NaN is missing.
    """
    windows = settings.windows
    engine = FeatureEngine(settings, benchmark, symbols)
    parts = list(engine.walk_arrays(start_ms, close, volume, taker))
    log_close, kept_volume, kept_taker, excess, scale, beta = (
        np.concatenate([part[number] for part in parts]) for number in range(6)
    )
    width = len(engine.symbols)
    z, before = _scores(np.hstack((excess, scale)), settings)
    z_excess, z_volume, bars = z[:, :width], z[:, width:], before[:, :width]
    share = _shares(kept_volume, kept_taker, windows.taker_bars, windows.min_coverage)
    unscorable = np.isnan(z_excess) | np.isnan(z_volume) | np.isnan(share)
    statuses = np.where(bars < windows.min_zscore_bars, 1, np.where(unscorable, 2, 0)).astype(np.int64)
    return BulkFeatures(
        engine.symbols,
        start_ms,
        _moved(log_close, 1),
        _moved(log_close, windows.return_bars),
        beta,
        excess,
        z_excess,
        z_volume,
        share,
        bars,
        statuses,
    )


def _moved(log_close: FloatArray, bars: int) -> FloatArray:
    out = np.full_like(log_close, np.nan)
    out[bars:] = log_close[bars:] - log_close[:-bars]
    return out


def _scores(values: FloatArray, settings: SectorSettings) -> tuple[FloatArray, Counts]:
    """Return each value's z against those before it, and how many those were."""
    capacity, minimum = settings.windows.zscore_lookback_bars, settings.windows.min_zscore_bars
    known = np.isfinite(values)
    counts = np.zeros((len(values) + 1, values.shape[1]), dtype=np.int64)
    np.cumsum(known, axis=0, out=counts[1:])
    rows = np.arange(len(values))
    before = counts[rows] - counts[np.maximum(rows - capacity, 0)]
    first = np.where(known.any(axis=0), known.argmax(axis=0), len(values))
    spans = np.clip(rows[:, None] - first[None, :], 0, capacity)
    enough = known & (before >= minimum) & (before >= settings.windows.min_coverage * spans)
    scores = np.concatenate(
        [_rolling(values[:, at : at + _SIDE_BY_SIDE], capacity) for at in range(0, values.shape[1], _SIDE_BY_SIDE)],
        axis=1,
    )
    return np.where(enough, scores, np.nan), before


def _rolling(values: FloatArray, capacity: int) -> FloatArray:
    """Return the z of every value of (minutes, columns) against the `capacity` minutes before it.

    The minutes are cut into parts that are walked side by side, each beginning with the sorted window that the minutes
    before it have left: the same steps as minute by minute, for many minutes at once.
    """
    minutes, columns = values.shape
    parts = max(1, min(_SIDE_BY_SIDE // max(1, columns), minutes // _LEAST_PART))
    span = -(-minutes // parts)
    padded = np.full((capacity + parts * span, columns), np.nan)
    padded[capacity : capacity + minutes] = values
    scores = np.empty((parts, span, columns))
    window = SortedColumns(parts * columns, capacity)

    def side_by_side(row: int) -> FloatArray:
        """Return the row of each part, counted from `capacity` minutes before its first one."""
        return padded[row : row + (parts - 1) * span + 1 : span].reshape(-1)

    window.fill(np.stack([side_by_side(row) for row in range(capacity)]))
    for row in range(span):
        new = side_by_side(capacity + row)
        scores[:, row] = window.z(new).reshape(parts, columns)
        window.replace(side_by_side(row), new)
    return scores.reshape(-1, columns)[:minutes]


def _shares(volume: FloatArray, taker: FloatArray, bars: int, coverage: float) -> FloatArray:
    known = np.isfinite(taker)
    count = strided_sum(known.astype(np.float64), bars, 1)
    taken = strided_sum(np.where(known, taker, 0.0), bars, 1)
    total = strided_sum(np.where(known, volume, 0.0), bars, 1)
    share = np.full_like(taker, np.nan)
    np.divide(taken, total, out=share, where=(count >= coverage * bars) & (total > 0) & known)
    return share
