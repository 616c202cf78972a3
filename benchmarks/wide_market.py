"""A USD-M market of any width for measuring: prices walk, volumes breathe, every answer is a lookup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from local.exchange.source import Candle, Forced, Instrument, Ladder, Mark, Played, Print
from shared.clock import HOUR_MS, MINUTE_MS
from shared.market.model import Market

BENCHMARK = "BTCUSDT"


@dataclass(frozen=True, slots=True)
class Shot:
    """A coin that leaves the others at a minute: its log move, its volume factor, its takers' buy share."""

    symbol: str
    minute_ms: int
    move: float
    volume: float
    buys: float


class WideMarket:
    """A MarketSource of futures alone, the same for the same seed, between two instants.

    Each coin follows the benchmark with a beta of its own and walks besides; a shot moves it for good.
    """

    def __init__(
        self,
        seed: int,
        sectors: Mapping[str, Sequence[str]],
        start_ms: int,
        end_ms: int,
        *,
        shots: Sequence[Shot] = (),
    ) -> None:
        self.start_ms = start_ms
        self.symbols = (BENCHMARK, *(symbol for members in sectors.values() for symbol in members))
        tags = {symbol: name for name, members in sectors.items() for symbol in members}
        self._listed = [
            Instrument(Market.USDM, symbol, symbol.removesuffix("USDT"), "USDT", 4, 1, (tags.get(symbol, ""),))
            for symbol in self.symbols
        ]
        self._place = {symbol: at for at, symbol in enumerate(self.symbols)}
        rng, count, minutes = np.random.default_rng(seed), len(self.symbols), (end_ms - start_ms) // MINUTE_MS
        benchmark = rng.standard_t(5, minutes) * 3e-4
        beta = np.append(1.0, rng.uniform(0.6, 1.6, count - 1))
        moves = rng.standard_t(5, (minutes, count)) * 4e-4
        moves[:, 0] = 0.0
        moves += benchmark[:, None] * beta
        volumes = rng.lognormal(6.0, 0.6, (minutes, count))
        buys = np.clip(rng.normal(0.5, 0.06, (minutes, count)), 0.05, 0.95)
        for shot in shots:
            at, column = (shot.minute_ms - start_ms) // MINUTE_MS, self._place[shot.symbol]
            moves[at, column] += shot.move
            volumes[at, column] *= shot.volume
            buys[at, column] = shot.buys
        self._close = np.round(np.exp(np.cumsum(moves, axis=0)) * rng.uniform(0.5, 400.0, count), 4)
        self._volume = np.round(volumes, 1)
        self._buys = np.minimum(np.round(volumes * buys, 1), self._volume)
        self._wick = np.round(self._close * rng.uniform(0, 5e-4, (minutes, count)), 4)

    def instruments(self, market: Market) -> Sequence[Instrument]:
        return self._listed if market is Market.USDM else []

    def candles(
        self, market: Market, symbol: str, *, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
    ) -> list[Candle]:
        column = self._place.get(symbol)
        if column is None or market is not Market.USDM:
            return []
        last = (min(now_ms if end_ms is None else end_ms, now_ms) - self.start_ms) // MINUTE_MS
        last = min(last, len(self._close) - 1)
        first = last - limit + 1 if start_ms is None else -(-(start_ms - self.start_ms) // MINUTE_MS)
        first = max(0, first)
        return [self._candle(row, column) for row in range(first, min(last, first + limit - 1) + 1)]

    def _candle(self, row: int, column: int) -> Candle:
        close, before = float(self._close[row, column]), float(self._close[max(0, row - 1), column])
        volume, taken, wick = (float(values[row, column]) for values in (self._volume, self._buys, self._wick))
        open_ms = self.start_ms + row * MINUTE_MS
        return Candle(
            open_ms,
            open_ms + MINUTE_MS - 1,
            f"{before:.4f}",
            f"{max(before, close) + wick:.4f}",
            f"{max(0.0001, min(before, close) - wick):.4f}",
            f"{close:.4f}",
            f"{volume:.1f}",
            f"{volume * (close + before) / 2:.5f}",
            int(volume) % 900 + 10,
            f"{taken:.1f}",
            f"{taken * close:.5f}",
        )

    def prints(
        self,
        market: Market,
        symbol: str,
        *,
        aggregate: bool,
        from_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int,
        now_ms: int,
    ) -> list[Print]:
        return []

    def ladder(self, market: Market, symbol: str, *, levels: int, now_ms: int) -> Ladder | None:
        return None

    def open_interest(self, symbol: str, at_ms: int) -> str | None:
        at = self._place.get(symbol)
        return None if at is None else f"{1e6 + 1e3 * ((at * 7919 + at_ms // MINUTE_MS * 104_729) % 977):.1f}"

    def mark(self, symbol: str, at_ms: int) -> Mark | None:
        column = self._place.get(symbol)
        if column is None:
            return None
        row = min(max(0, (at_ms - self.start_ms) // MINUTE_MS), len(self._close) - 1)
        price = f"{float(self._close[row, column]):.4f}"
        return Mark(price, price, "0.00010000", (at_ms // (8 * HOUR_MS) + 1) * 8 * HOUR_MS)

    def liquidations(self, *, after_ms: int, upto_ms: int) -> list[Forced]:
        return []

    def playback(self) -> Iterator[Played] | None:
        return None


def made_sectors(symbols: int, sectors: int = 30) -> dict[str, tuple[str, ...]]:
    """Return so many symbols beside the benchmark in so many sectors; some names are not ASCII."""
    names = [f"COIN{number:04d}USDT" for number in range(symbols)]
    if symbols > 5:
        names[5] = "我踏马来了USDT"
    count = max(1, min(sectors, symbols // 3))
    return {f"Sector {number + 1:02d}": tuple(names[number::count]) for number in range(count)}
