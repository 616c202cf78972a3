"""The last minutes of all symbols as arrays of (minutes, symbols), with the excess return of each minute."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shared.detection.beta import FloatArray, Lookback, covered, newest_beta, rolling_beta, strided_return
from shared.detection.season import log_volume, without_season
from shared.market.model import Bar
from shared.settings import SectorSettings
from shared.times import MINUTE_MS

_NAN = float("nan")
_MOST = 1e18  # no price or volume lies beyond


class MinuteColumns:
    """Keeps at least the last `keep` minutes and takes up to `chunk` of them at once; column 0 is the benchmark.

    `scored` holds what a z is taken of: the excess returns of all symbols, then their volumes as the z sees them.
    """

    def __init__(self, settings: SectorSettings, symbols: tuple[str, ...], keep: int, chunk: int) -> None:
        self.settings = settings
        windows = settings.windows
        self._reach = max(windows.beta_lookback_bars, windows.return_bars, windows.taker_bars)
        self._lookback = Lookback(windows.beta_lookback_bars, windows.beta_return_bars, windows.min_beta_pairs)
        self._keep, self._capacity, self.width = keep, keep + chunk, len(symbols)
        self._column = {symbol: i for i, symbol in enumerate(symbols)}
        self.close, self.volume, self.taker = (np.full((self._capacity, self.width), np.nan) for _ in range(3))
        self.scored = np.full((self._capacity, 2 * self.width), np.nan)  # close is kept as its logarithm
        self.excess, self.scale = self.scored[:, : self.width], self.scored[:, self.width :]
        self.rows = 0  # in use; the newest minute is the last of them
        self.row_ms = 0  # the minute of row 0
        # The minute of each symbol's first bar, and of its first values, as an offset of minutes since the epoch.
        self.first_bar = np.full(self.width, -1, dtype=np.int64)
        self.first_scored = np.full(2 * self.width, -1, dtype=np.int64)

    @property
    def newest_ms(self) -> int | None:
        return self.row_ms + (self.rows - 1) * MINUTE_MS if self.rows else None

    def minute_of(self, row: int) -> int:
        """Return a row's minute as an offset of minutes since the epoch."""
        return self.row_ms // MINUTE_MS + row

    def restart(self, minute_ms: int) -> None:
        """Let `minute_ms` be the next row; nothing known is within reach any more."""
        self.rows, self.row_ms = 0, minute_ms

    def extend(self, span: int) -> None:
        """Add `span` empty rows, dropping the oldest where there is no room."""
        kept = (self.close, self.volume, self.taker, self.scored)
        if self.rows + span > self._capacity:
            drop = self.rows - self._keep
            for values in kept:
                values[: self._keep] = values[drop : self.rows]
            self.rows, self.row_ms = self._keep, self.row_ms + drop * MINUTE_MS
        for values in kept:
            values[self.rows : self.rows + span] = np.nan
        self.rows += span

    def write(self, row: int, bars: Mapping[str, Bar]) -> None:
        """Store the bars of one minute; those of unknown symbols are ignored."""
        place = self._column
        known = [
            (place[symbol], bar.close, bar.volume, _NAN if (taker := bar.taker_buy_volume) is None else taker)
            for symbol, bar in bars.items()
            if symbol in place
        ]
        if known:
            found = np.full((self.width, 3), np.nan)
            numbers = np.array(known)
            found[numbers[:, 0].astype(np.int64)] = numbers[:, 1:]
            self.put(row, found[None, :, 0], found[None, :, 1], found[None, :, 2])

    def put(self, first: int, close: FloatArray, volume: FloatArray, taker: FloatArray) -> None:
        """Store rows from `first` on. A bar whose close or volume is no number is missing."""
        part = slice(first, first + len(close))
        usable = (close > 0) & (close <= _MOST) & (volume >= 0) & (volume <= _MOST)
        volume = np.where(usable, volume, np.nan)
        self.close[part] = np.log(np.where(usable, close, np.nan))
        self.volume[part] = volume
        self.taker[part] = np.where(usable & (taker >= 0) & (taker <= volume), taker, np.nan)
        scale = self.settings.volume_scale
        if scale == "log_seasonal":
            volume = without_season(self.volume, first, part.stop)
        elif scale == "log":
            volume = log_volume(volume)
        self.scale[part] = volume

    def compute(self, first: int, end: int) -> FloatArray:
        """Fill the excess returns of rows [first, end), each with its own beta; return those betas."""
        windows = self.settings.windows
        low = max(0, first - self._reach)
        close = self.close[low:end]
        row0 = self.minute_of(low)
        known = np.isfinite(close)
        first_bar = self.first_bar
        if (first_bar < 0).any():
            new = np.where(known.any(axis=0), known.argmax(axis=0), len(close)) + row0
            first_bar = np.where(first_bar >= 0, first_bar, new)
        lookback = self._lookback
        beta = newest_beta(close, lookback) if end - first == 1 else rolling_beta(close, lookback)[first - low :]
        enough = covered(known, first_bar - row0, first - low, lookback.bars, windows.min_coverage)
        beta[~(enough & enough[:, :1])] = np.nan
        beta[:, 0] = np.where(known[first - low :, 0], 1.0, np.nan)
        moved = strided_return(close[max(0, first - low - windows.return_bars) :], windows.return_bars)
        moved = moved[len(moved) - (end - first) :]
        self.excess[first:end] = moved - beta * moved[:, :1]
        return beta

    def note_first(self, first: int, end: int) -> None:
        """Remember the minutes of first bars and values that rows [first, end) bring."""
        for noted, values in ((self.first_bar, self.close), (self.first_scored, self.scored)):
            unknown = np.flatnonzero(noted < 0)
            if len(unknown):
                known = np.isfinite(values[first:end, unknown])
                fresh = known.any(axis=0)
                noted[unknown[fresh]] = known.argmax(axis=0)[fresh] + self.minute_of(first)

    def spans(self, row: int, most: int) -> npt.NDArray[np.int64]:
        """Return how many minutes before the row each lookback of `scored` holds, cut at the first value."""
        first = self.first_scored
        return np.where(first >= 0, np.minimum(self.minute_of(row) - first, most), 0)

    def taker_share(self, row: int) -> FloatArray:
        """Return the takers' buy share of the last bars; NaN where there is none."""
        bars, coverage = self.settings.windows.taker_bars, self.settings.windows.min_coverage
        part = slice(max(0, row + 1 - bars), row + 1)
        taker, volume = self.taker[part], self.volume[part]
        known = np.isfinite(taker)
        if known.all() and len(taker) == bars:
            enough = np.ones(self.width, dtype=bool)
        else:
            enough = (known.sum(axis=0) >= coverage * bars) & known[-1]
            taker, volume = np.where(known, taker, 0.0), np.where(known, volume, 0.0)
        total = volume.sum(axis=0)
        share = np.full(self.width, np.nan)
        np.divide(taker.sum(axis=0), total, out=share, where=enough & (total > 0))
        return share
