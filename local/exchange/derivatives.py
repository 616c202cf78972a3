"""What only futures have: open interest, mark price and funding, liquidations."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from local.exchange.decimals import text
from local.exchange.effects import Bend
from local.exchange.paths import Path, generator
from local.exchange.source import Forced, Mark
from local.exchange.tape import Tape
from shared.clock import HOUR_MS

_FUNDING_MS = 8 * HOUR_MS
_INTEREST_SIGMA = 0.0003  # per minute: about 0.25 % an hour
_LIQUIDATIONS_PER_HOUR = 4.0


class Derivatives:
    """The futures side of one simulated symbol."""

    def __init__(self, seed: int, tape: Tape) -> None:
        self._seed, self._tape = seed, tape
        self._interest = Path(seed, f"{tape.symbol.key}:interest", _INTEREST_SIGMA)
        self._hour = lru_cache(maxsize=64)(self._build)

    def open_interest(self, at_ms: int) -> str:
        """Return the open contracts in coins."""
        coin, instrument = self._tape.symbol.coin, self._tape.symbol.instrument
        times = np.array([at_ms])
        moved = self._interest.at(times) + self._tape.effects.shift(Bend.INTEREST, times)
        return text(round(coin.contracts * float(np.exp(moved[0])) * 10**instrument.step_decimals),
                    instrument.step_decimals)  # fmt: skip

    def mark(self, at_ms: int) -> Mark:
        decimals = self._tape.symbol.instrument.tick_decimals + 2
        mid = float(self._tape.mid(np.array([at_ms]))[0])
        interval = at_ms // _FUNDING_MS
        usual = 0.0001 * (1 + 0.3 * float(generator(self._seed, self._tape.symbol.key, "funding", interval).normal()))
        rate = self._tape.effects.at(Bend.FUNDING, at_ms, usual)
        sign = "-" if rate < 0 else ""
        return Mark(
            text(round(mid * 10**decimals), decimals),
            text(round(mid * 0.9996 * 10**decimals), decimals),
            sign + text(abs(round(rate * 1e8)), 8),
            (interval + 1) * _FUNDING_MS,
        )

    def liquidations(self, after_ms: int, upto_ms: int) -> list[Forced]:
        """Return the forced orders in (after_ms, upto_ms], ascending."""
        hours = range(after_ms // HOUR_MS, upto_ms // HOUR_MS + 1)
        return [f for hour in hours for f in self._hour(hour) if after_ms < f.time_ms <= upto_ms]

    def _build(self, hour: int) -> tuple[Forced, ...]:
        symbol, start = self._tape.symbol, hour * HOUR_MS
        rng = generator(self._seed, symbol.key, "forced", hour)
        count = int(rng.poisson(_LIQUIDATIONS_PER_HOUR))
        orders = [(int(start + rng.integers(0, HOUR_MS)), bool(rng.random() < 0.5), 5.0) for _ in range(count)]
        for effect in self._tape.effects.within(Bend.LIQUIDATIONS, start, start + HOUR_MS):
            number = int(abs(effect.size))
            for i in range(number):
                at = effect.start_ms + (2 * i + 1) * (effect.end_ms - effect.start_ms) // (2 * number)
                if start <= at < start + HOUR_MS:
                    orders.append((at, effect.size > 0, 60.0))
        orders.sort()
        out = []
        for at, shorts, weight in orders:
            mid = float(self._tape.mid(np.array([at]))[0])
            coins = symbol.coin.trade_quote * weight * float(np.exp(0.8 * rng.standard_normal())) / mid
            instrument = symbol.instrument
            out.append(
                Forced(
                    instrument.symbol,
                    "BUY" if shorts else "SELL",
                    text(round(mid * 10**instrument.tick_decimals), instrument.tick_decimals),
                    text(max(1, round(coins * 10**instrument.step_decimals)), instrument.step_decimals),
                    at,
                )
            )
        return tuple(out)
