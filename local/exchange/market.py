"""The simulated market: deterministic from its seed, computed only where somebody looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from local.exchange import books
from local.exchange.decimals import text
from local.exchange.derivatives import Derivatives
from local.exchange.effects import Effects
from local.exchange.paths import Path
from local.exchange.scenarios import Planted, Truth
from local.exchange.source import Candle, Forced, Instrument, Ladder, Mark, Played, Print
from local.exchange.tape import AGGREGATE_OFFSET, GENESIS_HOUR, Tape
from local.exchange.truth import measure
from local.exchange.universe import BENCHMARK, COINS, SimulatedSymbol, default_symbols
from shared.clock import HOUR_MS, MINUTE_MS
from shared.market.model import Market


class SimulatedMarket:
    """A MarketSource without end in either direction (from 2020 on).

    The same seed and plan give the same market, whatever is asked, in whatever order. `start_ms` only anchors the
    plan: there is as much history before it as anybody asks for.
    """

    def __init__(
        self,
        seed: int,
        start_ms: int,
        *,
        plan: Iterable[Planted] = (),
        symbols: Iterable[SimulatedSymbol] | None = None,
    ) -> None:
        self.seed, self.start_ms = seed, start_ms
        self.plan = tuple(plan)
        effects = [effect for planted in self.plan for effect in planted.effects]
        paths: dict[str, Path] = {}
        self._tapes: dict[tuple[Market, str], Tape] = {}
        for symbol in default_symbols() if symbols is None else symbols:
            instrument = symbol.instrument
            own = paths.setdefault(instrument.base, Path(seed, instrument.base, symbol.coin.sigma))
            benchmark = None
            if instrument.symbol != BENCHMARK:
                benchmark = paths.setdefault("BTC", Path(seed, "BTC", COINS["BTC"].sigma))
            bends = Effects(effects, instrument.market.value, instrument.symbol)
            self._tapes[instrument.market, instrument.symbol] = Tape(seed, symbol, own, benchmark, bends)
        self._derivatives = {
            symbol: Derivatives(seed, tape) for (market, symbol), tape in self._tapes.items() if market is Market.USDM
        }
        self._ladder = lru_cache(maxsize=512)(self._build_ladder)

    def instruments(self, market: Market) -> Sequence[Instrument]:
        return [tape.symbol.instrument for (of, _), tape in self._tapes.items() if of is market]

    def candles(
        self, market: Market, symbol: str, *, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
    ) -> list[Candle]:
        tape = self._tapes.get((market, symbol))
        if tape is None or limit < 1:
            return []
        first_ms = GENESIS_HOUR * HOUR_MS + HOUR_MS
        last = min(now_ms if end_ms is None else end_ms, now_ms) // MINUTE_MS
        if start_ms is None:
            first = max(last - limit + 1, first_ms // MINUTE_MS)
        else:
            first = -(-max(start_ms, first_ms) // MINUTE_MS)
            last = min(last, first + limit - 1)
        running = now_ms // MINUTE_MS
        out: list[Candle] = []
        for hour in range(first // 60, last // 60 + 1):
            a, b = max(first, hour * 60), min(last, hour * 60 + 59, running - 1)
            if a <= b:
                out += tape.candle_hour(hour)[a - hour * 60 : b - hour * 60 + 1]
        if first <= running <= last:
            out.append(tape.running_candle(now_ms))
        return out

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
        tape = self._tapes.get((market, symbol))
        if tape is None or limit < 1:
            return []
        last = tape.newest_id(now_ms if end_ms is None else max(GENESIS_HOUR * HOUR_MS, min(now_ms, end_ms)))
        if from_id is not None:
            first = from_id + (AGGREGATE_OFFSET if aggregate else 0)
        elif start_ms is not None:
            first = tape.first_id_from(start_ms) if start_ms <= now_ms else last + 1
        else:
            first = last - limit + 1
        return tape.prints(max(1, first), min(last, max(1, first) + limit - 1), aggregate=aggregate)

    def ladder(self, market: Market, symbol: str, *, levels: int, now_ms: int) -> Ladder | None:
        if (market, symbol) not in self._tapes:
            return None
        return self._ladder(market, symbol, levels, now_ms // books.BOOK_STEP_MS)

    def open_interest(self, symbol: str, at_ms: int) -> str | None:
        found = self._derivatives.get(symbol)
        return None if found is None else found.open_interest(at_ms)

    def mark(self, symbol: str, at_ms: int) -> Mark | None:
        found = self._derivatives.get(symbol)
        return None if found is None else found.mark(at_ms)

    def liquidations(self, *, after_ms: int, upto_ms: int) -> list[Forced]:
        found = [f for each in self._derivatives.values() for f in each.liquidations(after_ms, upto_ms)]
        return sorted(found, key=lambda forced: (forced.time_ms, forced.symbol))

    def playback(self) -> Iterator[Played] | None:
        return None

    def mid(self, market: Market, symbol: str, at_ms: int) -> str:
        """Return the middle of the market as text, on the tick grid."""
        tape = self._tapes[market, symbol]
        decimals = tape.symbol.instrument.tick_decimals
        return text(round(float(tape.mid(np.array([at_ms]))[0]) * 10**decimals), decimals)

    def truth(self) -> list[Truth]:
        """Return what was planted, in order of time, with the numbers that the market really shows there."""
        return sorted((measure(self, planted) for planted in self.plan), key=lambda t: (t.start_ms, t.kind, t.symbol))

    def _build_ladder(self, market: Market, symbol: str, levels: int, step: int) -> Ladder:
        return books.ladder(self.seed, self._tapes[market, symbol], levels, step * books.BOOK_STEP_MS)
