"""The primitive disturbances that planted anomalies are made of, and how they bend a symbol's market."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from shared.clock import HOUR_MS, MINUTE_MS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOLD_MS = 45 * MINUTE_MS  # a moved price stays this long
FADE_MS = 6 * HOUR_MS  # and then returns over this long


class Bend(StrEnum):
    TRADES = "trades"  # size: trades on top of the ordinary ones, spread evenly
    VOLUME = "volume"  # size: factor on every trade's quantity
    BUYERS = "buyers"  # size: share of trades whose taker buys
    HUGE = "huge"  # size: one trade of this many times the mean, at start_ms
    MOVE = "move"  # size: log price change, ramped over the span, held, then faded
    SHAKE = "shake"  # size: standard deviation of log price noise on each trade
    BOOK = "book"  # size: factor on the bids (positive) or on the asks (negative)
    INTEREST = "interest"  # size: log growth of the open interest, ramped over the span
    FUNDING = "funding"  # size: the funding rate in force during the span
    LIQUIDATIONS = "liquidations"  # size: number of forced orders, spread over the span; negative: of shorts


@dataclass(frozen=True, slots=True)
class Effect:
    """One bend of one symbol's market in [start_ms, end_ms). `market` is None where both share it (price moves)."""

    bend: Bend
    market: str | None
    symbol: str
    start_ms: int
    end_ms: int
    size: float


class Effects:
    """The planted effects of one symbol, asked by kind."""

    def __init__(self, effects: Iterable[Effect], market: str, symbol: str) -> None:
        self._by_bend: dict[Bend, list[Effect]] = {bend: [] for bend in Bend}
        for effect in effects:
            if effect.symbol == symbol and effect.market in (None, market):
                self._by_bend[effect.bend].append(effect)

    def of(self, bend: Bend) -> list[Effect]:
        return self._by_bend[bend]

    def within(self, bend: Bend, start_ms: int, end_ms: int) -> list[Effect]:
        """Return the effects that overlap [start_ms, end_ms)."""
        return [e for e in self._by_bend[bend] if e.start_ms < end_ms and e.end_ms > start_ms]

    def factor(self, bend: Bend, times: Ints, otherwise: float) -> Floats:
        """Return the size in force at each time; the later effect wins where two overlap."""
        out = np.full(len(times), otherwise)
        if len(times):
            for e in self.within(bend, int(times[0]), int(times[-1]) + 1):
                out[(times >= e.start_ms) & (times < e.end_ms)] = e.size
        return out

    def at(self, bend: Bend, time_ms: int, otherwise: float) -> float:
        for e in reversed(self._by_bend[bend]):
            if e.start_ms <= time_ms < e.end_ms:
                return e.size
        return otherwise

    def shift(self, bend: Bend, times: Ints) -> Floats:
        """Return the summed log displacement at each time: ramp up, hold, fade."""
        out = np.zeros(len(times))
        for e in self._by_bend[bend]:
            fade = e.end_ms + HOLD_MS
            out += e.size * np.interp(times, [e.start_ms, e.end_ms, fade, fade + FADE_MS], [0.0, 1.0, 1.0, 0.0])
        return out

    def extra_times(self) -> Ints:
        """Return the times of every planted trade, ascending: fixed by the plan alone."""
        times: list[int] = []
        for e in self._by_bend[Bend.TRADES]:
            count = int(e.size)
            times += [e.start_ms + (2 * i + 1) * (e.end_ms - e.start_ms) // (2 * count) for i in range(count)]
        times += [e.start_ms for e in self._by_bend[Bend.HUGE]]
        return np.array(sorted(times), dtype=np.int64)
