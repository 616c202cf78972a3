"""Sector features of every symbol, minute by minute: returns, beta, excess return, robust z, taker share.

Choices where the specification leaves one, the same live, in a replay and in a refill:
- A z is taken against the (up to) 720 minutes strictly before the bar; the bar's own value joins them afterwards.
- A lookback that reaches before a symbol's first bar is cut there: minutes before the beginning are too little
  history, not missing minutes. Of what remains, 95 % of the minutes must be there.
- Returns need their two closes only.
- On the logarithmic scale a volume of zero has no value.
- `log_seasonal` takes from each logarithm the median of the symbol's own logarithms at the same minute of the hour in
  the 12 hours before (at least 3 known, else no value): each bar keeps the value that could be known at it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, repeat
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.detection.beta import FloatArray, Lookback, covered, newest_beta, rolling_beta, strided_return
from shared.detection.reading import Status
from shared.detection.sorted_columns import SortedColumns
from shared.market.model import Bar
from shared.settings import SectorSettings
from shared.times import MINUTE_MS, iso_utc

_NAN = float("nan")
_MOST = 1e18  # no price or volume lies beyond
_CHUNK = 1440  # minutes loaded at once
SEASON_MINUTES = 60
SEASON_HOURS = 12
_LEAST_HOURS = 3
_BLOCK = 240  # minutes whose season is worked out at once


def history_minutes(settings: SectorSettings) -> int:
    """Return how many earlier minutes a full answer needs: scored values, each with what it was made of itself."""
    windows = settings.windows
    reach = max(windows.beta_lookback_bars, windows.return_bars, windows.taker_bars)
    if settings.volume_scale == "log_seasonal":
        reach = max(reach, SEASON_MINUTES * SEASON_HOURS)
    return windows.zscore_lookback_bars + reach + 1


@dataclass(frozen=True, slots=True)
class SymbolFeatures:
    """The features of one symbol at one closed bar; None wherever there is no answer.

    `bars` is how many excess returns the bar was scored against. `status`: WARMING with too few of them, UNSCORABLE
    when any of the three figures the initiator rule needs is missing, NORMAL otherwise.
    """

    symbol: str
    open_ms: int
    r_1m: float | None
    r_15m: float | None
    beta: float | None
    excess_return: float | None
    z_excess_return: float | None
    z_volume: float | None
    taker_buy_share: float | None
    status: Status
    bars: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values: `open_time` as ISO text beside `open_ms`."""
        return {**asdict(self), "status": self.status.value, "open_time": iso_utc(self.open_ms)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SymbolFeatures:
        """Read what `to_json` wrote; other keys are ignored."""
        values = {name: stored[name] for name in cls.__slots__}
        return cls(**{**values, "status": Status(values["status"])})


_SLOTS = [getattr(SymbolFeatures, name).__set__ for name in SymbolFeatures.__slots__]


class FeatureEngine:
    """Keep the last minutes of all symbols and answer each new one. Arrays are (minutes, symbols).

    `push` takes the bars of one closed minute, `load` a history without output; both leave the same state.
    `history_bars` minutes of history give the same answers as having run for ever.
    """

    def __init__(self, settings: SectorSettings, benchmark: str, symbols: Sequence[str]) -> None:
        self.settings = settings
        self.symbols = tuple(dict.fromkeys((benchmark, *symbols)))
        windows = settings.windows
        self._z_bars = windows.zscore_lookback_bars
        self._reach = max(windows.beta_lookback_bars, windows.return_bars, windows.taker_bars)
        self.history_bars = history_minutes(settings)
        self._column = {symbol: i for i, symbol in enumerate(self.symbols)}
        self._keep = self.history_bars + 1
        self._capacity = self._keep + _CHUNK
        width = len(self.symbols)
        self._close, self._volume, self._taker, self._excess, self._scale = (
            np.full((self._capacity, width), np.nan) for _ in range(5)
        )  # close as logarithm; scale is the volume as its z sees it
        self._rows = 0  # rows in use; the newest minute is the last of them
        self._row_ms = 0  # the minute of row 0
        # The minute of each symbol's first bar, and of its first value, as an offset of minutes since the epoch.
        self._first_bar = np.full(width, -1, dtype=np.int64)
        self._first_excess = np.full(width, -1, dtype=np.int64)
        self._first_volume = np.full(width, -1, dtype=np.int64)
        # What the next minute is scored against.
        self._excess_window = SortedColumns(width, self._z_bars)
        self._volume_window = SortedColumns(width, self._z_bars)
        self._nothing = np.full(width, np.nan)

    @property
    def newest_ms(self) -> int | None:
        """The open time of the newest minute pushed or loaded."""
        return self._row_ms + (self._rows - 1) * MINUTE_MS if self._rows else None

    def push(self, minute_open_ms: int, bars: Mapping[str, Bar]) -> dict[str, SymbolFeatures]:
        """Take the bars of one closed minute; return the features of every symbol at it.

        Minutes left out since the last one count as missing. Bars of unknown symbols are ignored.

        Raises:
            ValueError: the minute is not a minute's open time, or not after the newest one.
        """
        self._begin(minute_open_ms, 1, evict=True)
        row = self._rows - 1
        self._write(row, bars)
        beta = self._compute(row, row + 1)[0]
        features = self._read(row, minute_open_ms, beta)
        for window, values in self._learnt():
            # The bar joins; what is too old for the next minute leaves.
            gone = values[row - self._z_bars] if row >= self._z_bars else self._nothing
            window.replace(gone, values[row])
        self._note_first(row, row + 1)
        return features

    def load(self, bars_by_minute: Iterable[tuple[int, Mapping[str, Bar]]]) -> None:
        """Take a history, minutes strictly ascending, without answering; much faster than pushing it.

        Raises:
            ValueError: as `push`.
        """
        minutes = iter(bars_by_minute)
        ahead = next(minutes, None)
        while ahead is not None:
            start_ms = ahead[0]
            span = 0
            chunk = []
            while ahead is not None and ahead[0] < start_ms + _CHUNK * MINUTE_MS:
                chunk.append(ahead)
                span = (ahead[0] - start_ms) // MINUTE_MS + 1
                following = next(islice(minutes, 1), None)
                if following is not None and following[0] <= ahead[0]:
                    raise ValueError("minutes must be strictly ascending")
                ahead = following
            self._begin(start_ms, span, evict=False)
            first = self._rows - span
            for minute_ms, bars in chunk:
                if minute_ms % MINUTE_MS:
                    raise ValueError("a minute is named by its open time")
                self._write(first + (minute_ms - start_ms) // MINUTE_MS, bars)
            self._compute(first, self._rows)
            self._note_first(first, self._rows)
        self._refill()

    def load_arrays(self, start_ms: int, close: FloatArray, volume: FloatArray, taker: FloatArray) -> None:
        """Take a history of consecutive minutes as (minutes, symbols) arrays in the order of `symbols`; NaN = missing.

        The same as `load`, for storage that keeps columns.

        Raises:
            ValueError: as `push`, or an array of another shape.
        """
        shape = (len(close), len(self.symbols))
        if close.shape != shape or volume.shape != shape or taker.shape != shape:
            raise ValueError(f"arrays of shape (minutes, {len(self.symbols)}) are needed")
        for at in range(0, len(close), _CHUNK):
            span = min(_CHUNK, len(close) - at)
            self._begin(start_ms + at * MINUTE_MS, span, evict=False)
            first, part = self._rows - span, slice(at, at + span)
            self._put(first, close[part], volume[part], taker[part])
            self._compute(first, self._rows)
            self._note_first(first, self._rows)
        self._refill()

    def walk_arrays(
        self, start_ms: int, close: FloatArray, volume: FloatArray, taker: FloatArray
    ) -> Iterator[tuple[FloatArray, ...]]:
        """Take a history as `load_arrays` does; yield of each part the log closes, volumes, taker volumes, excess
        returns, volumes as their z sees them, and betas, without scoring them."""
        for at in range(0, len(close), _CHUNK):
            span = min(_CHUNK, len(close) - at)
            self._begin(start_ms + at * MINUTE_MS, span, evict=False)
            first, part = self._rows - span, slice(at, at + span)
            self._put(first, close[part], volume[part], taker[part])
            beta = self._compute(first, self._rows)
            self._note_first(first, self._rows)
            kept = (self._close, self._volume, self._taker, self._excess, self._scale)
            yield (*(values[first : self._rows].copy() for values in kept), beta)
        self._refill()

    def _begin(self, minute_ms: int, span: int, *, evict: bool) -> None:
        """Make `span` empty rows ready, the first of them for `minute_ms`, after empty rows for minutes left out.

        `evict` says that the z windows are kept in step; a load sorts them anew at its end.
        """
        if minute_ms % MINUTE_MS:
            raise ValueError("a minute is named by its open time")
        newest = self.newest_ms
        if newest is None:
            self._row_ms = minute_ms
        elif minute_ms <= newest:
            raise ValueError(f"minute {minute_ms} is not after {newest}")
        else:
            missing = (minute_ms - newest) // MINUTE_MS - 1
            if missing > self._keep:  # nothing known is within reach any more
                self._rows, self._row_ms = 0, minute_ms - self._keep * MINUTE_MS
                missing = self._keep
                self._clear()
            while missing:
                step = min(missing, _CHUNK)
                self._extend(step)
                if evict:
                    self._evict(step)
                missing -= step
        self._extend(span)

    def _extend(self, span: int) -> None:
        if self._rows + span > self._capacity:
            drop = self._rows - self._keep
            for values in (self._close, self._volume, self._taker, self._excess, self._scale):
                values[: self._keep] = values[drop : self._rows]
            self._rows, self._row_ms = self._keep, self._row_ms + drop * MINUTE_MS
        for values in (self._close, self._volume, self._taker, self._excess, self._scale):
            values[self._rows : self._rows + span] = np.nan
        self._rows += span

    def _evict(self, span: int) -> None:
        """Forget what left the z windows while `span` empty rows, the last ones, went by."""
        for row in range(self._rows - span, self._rows):
            if row >= self._z_bars:
                for window, values in self._learnt():
                    window.remove(values[row - self._z_bars])

    def _clear(self) -> None:
        self._excess_window.clear()
        self._volume_window.clear()

    def _refill(self) -> None:
        """Sort the last minutes into the z windows: the state that pushing them would have left."""
        low = max(0, self._rows - self._z_bars)
        for window, values in self._learnt():
            window.fill(values[low : self._rows])

    def _learnt(self) -> tuple[tuple[SortedColumns, FloatArray], ...]:
        return (self._excess_window, self._excess), (self._volume_window, self._scale)

    def _write(self, row: int, bars: Mapping[str, Bar]) -> None:
        known = [(self._column[symbol], bar) for symbol, bar in bars.items() if symbol in self._column]
        if not known:
            return
        columns = [column for column, _ in known]
        found = np.full((3, 1, len(self.symbols)), np.nan)
        found[:, 0, columns] = (
            [bar.close for _, bar in known],
            [bar.volume for _, bar in known],
            [_NAN if bar.taker_buy_volume is None else bar.taker_buy_volume for _, bar in known],
        )
        self._put(row, found[0], found[1], found[2])

    def _put(self, first: int, close: FloatArray, volume: FloatArray, taker: FloatArray) -> None:
        """Store rows from `first` on. A bar whose close or volume is no number is missing."""
        part = slice(first, first + len(close))
        usable = (close > 0) & (close <= _MOST) & (volume >= 0) & (volume <= _MOST)
        volume = np.where(usable, volume, np.nan)
        self._close[part] = np.log(np.where(usable, close, np.nan))
        self._volume[part] = volume
        self._taker[part] = np.where(usable & (taker >= 0) & (taker <= volume), taker, np.nan)
        if self.settings.volume_scale == "log":
            volume = np.log(np.where(volume > 0, volume, np.nan))
        elif self.settings.volume_scale == "log_seasonal":
            for at in range(first, part.stop, _BLOCK):
                end = min(at + _BLOCK, part.stop)
                self._scale[at:end] = self._without_season(at, end)
            return
        self._scale[part] = volume

    def _without_season(self, first: int, end: int) -> FloatArray:
        """Return the logarithms of rows [first, end) without what is usual at their minute of the hour."""
        earlier = np.full((SEASON_HOURS, end - first, len(self.symbols)), np.nan)
        for hour in range(SEASON_HOURS):
            back = SEASON_MINUTES * (hour + 1)
            low = max(0, first - back)
            if low < end - back:
                rows = self._volume[low : end - back]
                earlier[hour, low + back - first :] = np.log(np.where(rows > 0, rows, np.nan))
        earlier.sort(axis=0)  # NaN goes last
        known = np.isfinite(earlier).sum(axis=0)
        upper = np.take_along_axis(earlier, np.minimum(known // 2, SEASON_HOURS - 1)[None], axis=0)[0]
        lower = np.take_along_axis(earlier, np.maximum((known - 1) // 2, 0)[None], axis=0)[0]
        usual = np.where(known >= _LEAST_HOURS, (upper + lower) / 2.0, np.nan)
        own = self._volume[first:end]
        values: FloatArray = np.log(np.where(own > 0, own, np.nan)) - usual
        return values

    def _compute(self, first: int, end: int) -> FloatArray:
        """Fill the excess returns of rows [first, end), each with its own beta; return those betas."""
        windows = self.settings.windows
        low = max(0, first - self._reach)
        close = self._close[low:end]
        row0 = self._row_ms // MINUTE_MS + low
        known = np.isfinite(close)
        new = known.argmax(axis=0) + row0
        first_bar = np.where(self._first_bar >= 0, self._first_bar, np.where(known.any(axis=0), new, row0 + len(close)))
        lookback = Lookback(windows.beta_lookback_bars, windows.beta_return_bars, windows.min_beta_pairs)
        beta = newest_beta(close, lookback) if end - first == 1 else rolling_beta(close, lookback)[first - low :]
        enough = covered(close, first_bar - row0, first - low, lookback.bars, windows.min_coverage)
        beta[~(enough & enough[:, :1])] = np.nan
        benchmark_known = known[first - low :, 0]
        beta[:, 0] = np.where(benchmark_known, 1.0, np.nan)
        moved = strided_return(close[max(0, first - low - windows.return_bars) :], windows.return_bars)
        moved = moved[len(moved) - (end - first) :]
        self._excess[first:end] = moved - beta * moved[:, :1]
        return beta

    def _note_first(self, first: int, end: int) -> None:
        row0 = self._row_ms // MINUTE_MS + first
        for noted, values in (
            (self._first_bar, self._close),
            (self._first_excess, self._excess),
            (self._first_volume, self._scale),
        ):
            known = np.isfinite(values[first:end])
            fresh = (noted < 0) & known.any(axis=0)
            noted[fresh] = known.argmax(axis=0)[fresh] + row0

    def _read(self, row: int, minute_ms: int, beta: FloatArray) -> dict[str, SymbolFeatures]:
        windows = self.settings.windows
        back = self._close[max(0, row - windows.return_bars) : row + 1]
        r_1m = back[-1] - back[-2] if len(back) > 1 else self._nothing
        r_15m = back[-1] - back[0] if len(back) == windows.return_bars + 1 else self._nothing
        z_excess = _plain(self._z(self._excess[row], self._excess_window, self._spans(self._first_excess, row)))
        z_volume = _plain(self._z(self._scale[row], self._volume_window, self._spans(self._first_volume, row)))
        share, bars = _plain(self._taker_share(row)), self._excess_window.counts.tolist()
        statuses = [
            Status.WARMING
            if known < windows.min_zscore_bars
            else Status.UNSCORABLE
            if one is None or other is None or part is None
            else Status.NORMAL
            for known, one, other, part in zip(bars, z_excess, z_volume, share, strict=True)
        ]
        columns = (
            self.symbols,
            repeat(minute_ms),
            _plain(r_1m),
            _plain(r_15m),
            _plain(beta),
            _plain(self._excess[row]),
            z_excess,
            z_volume,
            share,
            statuses,
            bars,
        )
        made = [object.__new__(SymbolFeatures) for _ in self.symbols]
        for fill, column in zip(_SLOTS, columns, strict=True):  # as in `packed_bars`: a third of the time
            deque(map(fill, made, column), maxlen=0)
        return dict(zip(self.symbols, made, strict=True))

    def _z(self, x: FloatArray, window: SortedColumns, spans: npt.NDArray[np.int64]) -> FloatArray:
        windows = self.settings.windows
        enough = (window.counts >= windows.min_zscore_bars) & (window.counts >= windows.min_coverage * spans)
        return np.where(enough, window.z(x), np.nan)

    def _spans(self, first: npt.NDArray[np.int64], row: int) -> npt.NDArray[np.int64]:
        """Return how many minutes before the row each z lookback holds, cut at the symbol's first value."""
        minute = self._row_ms // MINUTE_MS + row
        return np.where(first >= 0, np.minimum(minute - first, self._z_bars), 0)

    def _taker_share(self, row: int) -> FloatArray:
        bars = self.settings.windows.taker_bars
        taker = self._taker[max(0, row + 1 - bars) : row + 1]
        known = np.isfinite(taker)
        enough = known.sum(axis=0) >= self.settings.windows.min_coverage * bars
        total = np.where(known, self._volume[max(0, row + 1 - bars) : row + 1], 0.0).sum(axis=0)
        usable = enough & (total > 0) & known[-1]
        share = np.full(len(self.symbols), np.nan)
        np.divide(np.where(known, taker, 0.0).sum(axis=0), total, out=share, where=usable)
        return share


def _plain(values: FloatArray) -> list[float | None]:
    return [value if isfinite(value) else None for value in values.tolist()]
