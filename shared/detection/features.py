"""Sector features of every symbol, minute by minute: returns, beta, excess return, robust z, taker share.

Choices where the specification leaves one, the same live, in a replay and in a refill:
- A z is taken against the (up to) 720 minutes strictly before the bar; the bar's own value joins them afterwards.
- A lookback that reaches before a symbol's first bar is cut there: minutes before the beginning are too little
  history, not missing minutes. Of what remains, 95 % of the minutes must be there.
- Returns need their two closes only.
- Logarithmic and seasonal volumes (`season`): each bar keeps the value that could be known at it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.detection.beta import FloatArray
from shared.detection.minute_columns import MinuteColumns
from shared.detection.reading import Status
from shared.detection.season import SEASON_HOURS, SEASON_MINUTES
from shared.detection.sorted_columns import SortedColumns
from shared.market.model import Bar
from shared.settings import SectorSettings
from shared.times import MINUTE_MS, iso_utc

_CHUNK = 1440  # minutes loaded at once


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


_STATUSES = (Status.NORMAL, Status.WARMING, Status.UNSCORABLE)
_SLOTS = [getattr(SymbolFeatures, name).__set__ for name in SymbolFeatures.__slots__]


class FeatureEngine:
    """Keep the last minutes of all symbols and answer each new one. Arrays are (minutes, symbols).

    `push` takes the bars of one closed minute, `load` a history without output; both leave the same state.
    `history_bars` minutes of history give the same answers as having run for ever.
    """

    def __init__(self, settings: SectorSettings, benchmark: str, symbols: Sequence[str]) -> None:
        self.settings = settings
        self.symbols = tuple(dict.fromkeys((benchmark, *symbols)))
        self._z_bars = settings.windows.zscore_lookback_bars
        self.history_bars = history_minutes(settings)
        self._keep = self.history_bars + 1
        self._minutes = MinuteColumns(settings, self.symbols, self._keep, _CHUNK)
        # What the next minute is scored against: all excess returns, then all volumes.
        self._window = SortedColumns(2 * len(self.symbols), self._z_bars)

    @property
    def newest_ms(self) -> int | None:
        """The open time of the newest minute pushed or loaded."""
        return self._minutes.newest_ms

    def push(self, minute_open_ms: int, bars: Mapping[str, Bar]) -> dict[str, SymbolFeatures]:
        """Take the bars of one closed minute; return the features of every symbol at it.

        Minutes left out since the last one count as missing. Bars of unknown symbols are ignored.

        Raises:
            ValueError: the minute is not a minute's open time, or not after the newest one.
        """
        minutes = self._minutes
        self._begin(minute_open_ms, 1, evict=True)
        row = minutes.rows - 1
        minutes.write(row, bars)
        beta = minutes.compute(row, row + 1)[0]
        features = self._read(row, minute_open_ms, beta)
        # The bar joins; what is too old for the next minute leaves.
        new = minutes.scored[row]
        gone = minutes.scored[row - self._z_bars] if row >= self._z_bars else np.full_like(new, np.nan)
        self._window.replace(gone, new)
        minutes.note_first(row, row + 1)
        return features

    def load(self, bars_by_minute: Iterable[tuple[int, Mapping[str, Bar]]]) -> None:
        """Take a history, minutes strictly ascending, without answering; much faster than pushing it.

        Raises:
            ValueError: as `push`.
        """
        given = iter(bars_by_minute)
        ahead = next(given, None)
        while ahead is not None:
            start_ms = ahead[0]
            span = 0
            chunk = []
            while ahead is not None and ahead[0] < start_ms + _CHUNK * MINUTE_MS:
                chunk.append(ahead)
                span = (ahead[0] - start_ms) // MINUTE_MS + 1
                following = next(islice(given, 1), None)
                if following is not None and following[0] <= ahead[0]:
                    raise ValueError("minutes must be strictly ascending")
                ahead = following
            self._begin(start_ms, span, evict=False)
            first = self._minutes.rows - span
            for minute_ms, bars in chunk:
                if minute_ms % MINUTE_MS:
                    raise ValueError("a minute is named by its open time")
                self._minutes.write(first + (minute_ms - start_ms) // MINUTE_MS, bars)
            self._minutes.compute(first, self._minutes.rows)
            self._minutes.note_first(first, self._minutes.rows)
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
        for _ in self._parts(start_ms, close, volume, taker):
            pass
        self._refill()

    def walk_arrays(
        self, start_ms: int, close: FloatArray, volume: FloatArray, taker: FloatArray
    ) -> Iterator[tuple[FloatArray, ...]]:
        """Take a history as `load_arrays` does; yield of each part the log closes, volumes, taker volumes, excess
        returns, volumes as their z sees them, and betas, without scoring them."""
        kept = self._minutes
        for rows, beta in self._parts(start_ms, close, volume, taker):
            columns = (kept.close, kept.volume, kept.taker, kept.excess, kept.scale)
            yield (*(values[rows].copy() for values in columns), beta)
        self._refill()

    def _parts(
        self, start_ms: int, close: FloatArray, volume: FloatArray, taker: FloatArray
    ) -> Iterator[tuple[slice, FloatArray]]:
        """Put the arrays part by part; yield where each stands, and its betas."""
        minutes = self._minutes
        for at in range(0, len(close), _CHUNK):
            span = min(_CHUNK, len(close) - at)
            self._begin(start_ms + at * MINUTE_MS, span, evict=False)
            first, part = minutes.rows - span, slice(at, at + span)
            minutes.put(first, close[part], volume[part], taker[part])
            beta = minutes.compute(first, minutes.rows)
            minutes.note_first(first, minutes.rows)
            yield slice(first, minutes.rows), beta

    def _begin(self, minute_ms: int, span: int, *, evict: bool) -> None:
        """Make `span` empty rows ready, the first of them for `minute_ms`, after empty rows for minutes left out.

        `evict` says that the z windows are kept in step; a load sorts them anew at its end.
        """
        if minute_ms % MINUTE_MS:
            raise ValueError("a minute is named by its open time")
        newest = self.newest_ms
        if newest is None:
            self._minutes.restart(minute_ms)
        elif minute_ms <= newest:
            raise ValueError(f"minute {minute_ms} is not after {newest}")
        else:
            missing = (minute_ms - newest) // MINUTE_MS - 1
            if missing > self._keep:  # nothing known is within reach any more
                self._minutes.restart(minute_ms - self._keep * MINUTE_MS)
                missing = self._keep
                self._window.clear()
            while missing:
                step = min(missing, _CHUNK)
                self._minutes.extend(step)
                if evict:
                    self._evict(step)
                missing -= step
        self._minutes.extend(span)

    def _evict(self, span: int) -> None:
        """Forget what left the z windows while `span` empty rows, the last ones, went by."""
        for row in range(self._minutes.rows - span, self._minutes.rows):
            if row >= self._z_bars:
                self._window.remove(self._minutes.scored[row - self._z_bars])

    def _refill(self) -> None:
        """Sort the last minutes into the z windows: the state that pushing them would have left."""
        rows = self._minutes.rows
        self._window.fill(self._minutes.scored[max(0, rows - self._z_bars) : rows])

    def _read(self, row: int, minute_ms: int, beta: FloatArray) -> dict[str, SymbolFeatures]:
        windows, minutes, width = self.settings.windows, self._minutes, len(self.symbols)
        back = minutes.close[max(0, row - windows.return_bars) : row + 1]
        nothing = np.full(width, np.nan)
        r_1m = back[-1] - back[-2] if len(back) > 1 else nothing
        r_15m = back[-1] - back[0] if len(back) == windows.return_bars + 1 else nothing
        counts = self._window.counts
        enough = (counts >= windows.min_zscore_bars) & (
            counts >= windows.min_coverage * minutes.spans(row, self._z_bars)
        )
        z = np.where(enough, self._window.z(minutes.scored[row]), np.nan)
        z_excess, z_volume, share = z[:width], z[width:], minutes.taker_share(row)
        unscorable = ~np.isfinite(z_excess + z_volume + share)
        codes = np.where(counts[:width] < windows.min_zscore_bars, 1, np.where(unscorable, 2, 0))
        columns = (
            self.symbols,
            repeat(minute_ms),
            _plain(r_1m),
            _plain(r_15m),
            _plain(beta),
            _plain(minutes.excess[row]),
            _plain(z_excess),
            _plain(z_volume),
            _plain(share),
            map(_STATUSES.__getitem__, codes.tolist()),
            counts[:width].tolist(),
        )
        made = [object.__new__(SymbolFeatures) for _ in self.symbols]
        for fill, column in zip(_SLOTS, columns, strict=True):  # as in `packed_bars`: a third of the time
            deque(map(fill, made, column), maxlen=0)
        return dict(zip(self.symbols, made, strict=True))


def _plain(values: FloatArray) -> list[float | None]:
    known = np.isfinite(values)
    if known.all():
        whole: list[float | None] = values.tolist()
        return whole
    plain: npt.NDArray[np.object_] = values.astype(object)
    plain[~known] = None
    with_holes: list[float | None] = plain.tolist()
    return with_holes
