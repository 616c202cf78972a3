"""One simulated symbol's trades, an hour at a time, and the bars made of exactly those trades."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from local.exchange.decimals import SPOT_DECIMALS, text
from local.exchange.effects import Bend, Effects, Floats, Ints
from local.exchange.paths import Path, generator
from local.exchange.source import Candle, Print
from local.exchange.universe import SimulatedSymbol
from shared.clock import HOUR_MS, MINUTE_MS
from shared.market.model import Market

GENESIS_HOUR = 438_288  # 2020-01-01: trade 1 of every symbol
AGGREGATE_OFFSET = 1_000_000  # aggregate ids are never the trades' own
_SIZE_SIGMA = 1.1  # of the logarithm of a trade's size
_SIZE_LARGEST = 3.0  # standard deviations, about 15 mean sizes: no chance trade of a day outgrows a planted one
_BASIS = 0.0004  # futures stand this much above spot, log


@dataclass(frozen=True, slots=True)
class TapeHour:
    """The trades of one hour, ascending: times, prices in ticks, quantities in steps, was the buyer the maker."""

    first_id: int
    times: Ints
    ticks: Ints
    steps: Ints
    maker: NDArray[np.bool_]


class Tape:
    """Everything that trades on one symbol; any hour can be asked for, in any order, with the same answer."""

    def __init__(self, seed: int, symbol: SimulatedSymbol, own: Path, benchmark: Path | None, effects: Effects) -> None:
        self.symbol, self.effects = symbol, effects
        self._seed, self._own, self._benchmark = seed, own, benchmark
        self._extra = effects.extra_times()
        self._tick = 10.0**-symbol.instrument.tick_decimals
        self._step = 10.0**-symbol.instrument.step_decimals
        spot = symbol.instrument.market is Market.SPOT
        self.padded = SPOT_DECIMALS if spot else None
        self._basis = 0.0 if spot else _BASIS
        self.hour = lru_cache(maxsize=64)(self._build)
        self.candle_hour = lru_cache(maxsize=256)(self._candles)

    def mid(self, times: Ints) -> Floats:
        """Return the middle of the market at each time (ascending)."""
        coin = self.symbol.coin
        moved = self._own.at(times) + self.effects.shift(Bend.MOVE, times) + self._basis
        if self._benchmark is not None:
            moved = moved + coin.beta * self._benchmark.at(times)
        price: Floats = coin.price * np.exp(moved)
        return price

    def half_spread(self, price: float) -> float:
        return max(self._tick / 2, price * 1e-5)

    def first_id(self, hour: int) -> int:
        planted = int(np.searchsorted(self._extra, hour * HOUR_MS))
        return 1 + (hour - GENESIS_HOUR) * self.symbol.trades_per_hour + planted

    def hour_of(self, trade_id: int) -> int:
        """Return the hour that holds a trade id; genesis for ids before the first."""
        hour = GENESIS_HOUR + max(0, trade_id - 1) // self.symbol.trades_per_hour
        while hour > GENESIS_HOUR and self.first_id(hour) > trade_id:
            hour -= 1
        return hour

    def newest_id(self, now_ms: int) -> int:
        """Return the id of the last trade at or before now."""
        block = self.hour(now_ms // HOUR_MS)
        return block.first_id + int(np.searchsorted(block.times, now_ms, side="right")) - 1

    def first_id_from(self, start_ms: int) -> int:
        """Return the id of the first trade at or after a time."""
        block = self.hour(max(GENESIS_HOUR, start_ms // HOUR_MS))
        return block.first_id + int(np.searchsorted(block.times, start_ms, side="left"))

    def prints(self, first_id: int, last_id: int, *, aggregate: bool) -> list[Print]:
        """Return the trades with ids in [first_id, last_id]; an aggregate here is one trade under its own number."""
        out: list[Print] = []
        first_id = max(1, first_id)
        instrument, padded = self.symbol.instrument, self.padded
        tick_d, step_d = instrument.tick_decimals, instrument.step_decimals
        while first_id <= last_id:
            block = self.hour(self.hour_of(first_id))
            a = first_id - block.first_id
            b = min(last_id - block.first_id + 1, len(block.times))
            rows = zip(
                range(first_id, first_id + b - a),
                block.times[a:b].tolist(),
                block.ticks[a:b].tolist(),
                block.steps[a:b].tolist(),
                block.maker[a:b].tolist(),
                strict=True,
            )
            for id_, time_ms, ticks, steps, maker in rows:
                quote = text(ticks * steps, tick_d + step_d, padded)
                out.append(
                    Print(
                        id_ - AGGREGATE_OFFSET if aggregate else id_,
                        text(ticks, tick_d, padded),
                        text(steps, step_d, padded),
                        quote,
                        time_ms,
                        maker,
                        id_,
                        id_,
                    )
                )
            first_id += b - a
        return out

    def running_candle(self, now_ms: int) -> Candle:
        """Return the candle of the minute that now lies in, made of the trades up to now."""
        block = self.hour(now_ms // HOUR_MS)
        shown = int(np.searchsorted(block.times, now_ms, side="right"))
        start = now_ms - now_ms % MINUTE_MS
        a = int(np.searchsorted(block.times, start, side="left"))
        before = int(block.ticks[a - 1]) if a > 0 else self._close_before(start // HOUR_MS)
        return self._candle(block, start, a, shown, before)

    def _candles(self, hour: int) -> tuple[Candle, ...]:
        block = self.hour(hour)
        edges = hour * HOUR_MS + np.arange(61) * MINUTE_MS
        cuts = np.searchsorted(block.times, edges, side="left").tolist()
        out, before = [], self._close_before(hour)
        for minute, (a, b) in enumerate(pairwise(cuts)):
            out.append(self._candle(block, hour * HOUR_MS + minute * MINUTE_MS, a, b, before))
            if b > a:
                before = int(block.ticks[b - 1])
        return tuple(out)

    def _close_before(self, hour: int) -> int:
        """Return the last price before an hour; no hour is without trades."""
        return int(self.hour(hour - 1).ticks[-1])

    def _candle(self, block: TapeHour, open_ms: int, a: int, b: int, before: int) -> Candle:
        instrument, padded = self.symbol.instrument, self.padded
        tick_d, step_d = instrument.tick_decimals, instrument.step_decimals
        ticks, steps, taken = block.ticks[a:b], block.steps[a:b], ~block.maker[a:b]
        quotes = ticks * steps
        if b > a:
            prices = (int(ticks[0]), int(ticks.max()), int(ticks.min()), int(ticks[-1]))
        else:
            prices = (before, before, before, before)
        first, high, low, last = (text(price, tick_d, padded) for price in prices)
        return Candle(
            open_ms,
            open_ms + MINUTE_MS - 1,
            first,
            high,
            low,
            last,
            text(int(steps.sum()), step_d, padded),
            text(int(quotes.sum()), tick_d + step_d, padded),
            b - a,
            text(int(steps[taken].sum()), step_d, padded),
            text(int(quotes[taken].sum()), tick_d + step_d, padded),
            block.first_id + a if b > a else -1,
            block.first_id + b - 1 if b > a else -1,
        )

    def _build(self, hour: int) -> TapeHour:
        symbol, effects, start = self.symbol, self.effects, hour * HOUR_MS
        rng = generator(self._seed, symbol.key, "tape", hour)
        weights = season() * np.exp(0.3 * rng.standard_normal(60))
        counts = rng.multinomial(symbol.trades_per_hour, weights / weights.sum())
        ordinary = start + np.repeat(np.arange(60) * MINUTE_MS, counts) + rng.integers(0, MINUTE_MS, counts.sum())
        a, b = np.searchsorted(self._extra, [start, start + HOUR_MS])
        times = np.sort(np.concatenate([ordinary, self._extra[a:b]]), kind="stable")
        n = len(times)

        mid = self.mid(times)
        minute = (times - start) // MINUTE_MS
        lively = self._own.activity(hour) * np.exp(0.2 * rng.standard_normal(60))
        spread = np.minimum(rng.standard_normal(n), _SIZE_LARGEST)
        sizes = np.exp(_SIZE_SIGMA * spread) * symbol.coin.trade_quote / mid * lively[minute]
        mean = float(sizes.mean())
        sizes *= effects.factor(Bend.VOLUME, times, 1.0)
        for huge in effects.within(Bend.HUGE, start, start + HOUR_MS):
            at = int(np.searchsorted(times, huge.start_ms))
            if at < n and times[at] == huge.start_ms:
                sizes[at] = huge.size * mean

        wobble = np.repeat(0.5 + 0.03 * rng.standard_normal(6), 10)[minute]
        share = effects.factor(Bend.BUYERS, times, -1.0)
        buys = rng.random(n) < np.where(share < 0, wobble, share)
        shake = effects.factor(Bend.SHAKE, times, 0.0) * rng.standard_normal(n)
        half = np.maximum(self._tick / 2, mid * 1e-5)
        price = (mid + np.where(buys, half, -half) * (0.5 + rng.random(n))) * np.exp(shake)
        return TapeHour(
            self.first_id(hour),
            times.astype(np.int64),
            np.maximum(1, np.rint(price / self._tick)).astype(np.int64),
            np.maximum(1, np.rint(sizes / self._step)).astype(np.int64),
            ~buys,
        )


def season() -> Floats:
    """Return how busy each minute of the hour is: bursts at :00, :15, :30 and :45 that are the clock, not news."""
    weights = np.ones(60)
    weights[[0, 15, 30, 45]] = [2.2, 1.6, 1.8, 1.6]
    weights[[1, 16, 31, 46]] = [1.4, 1.15, 1.2, 1.15]
    return weights
