"""Simulated order books: a ladder around the middle of the market, drawn anew each second of market time."""

from __future__ import annotations

import numpy as np

from local.exchange.decimals import text
from local.exchange.effects import Bend
from local.exchange.paths import generator
from local.exchange.source import Ladder
from local.exchange.tape import GENESIS_HOUR, Tape
from shared.clock import HOUR_MS

BOOK_STEP_MS = 1000
UPDATES_PER_STEP = 7  # update ids that pass in one step
_GAP = 1.2e-5  # mean distance of two levels, share of the price
_SIZE_SIGMA = 0.45  # of the logarithm of a level's notional: |obi| of five levels mostly stays below 0.3


def ladder(seed: int, tape: Tape, levels: int, now_ms: int) -> Ladder:
    """Return the best `levels` of the book as it stood at the last whole step before now."""
    step = now_ms // BOOK_STEP_MS
    at_ms = step * BOOK_STEP_MS
    instrument, coin = tape.symbol.instrument, tape.symbol.coin
    rng = generator(seed, tape.symbol.key, "book", step)
    tick = 10.0**-instrument.tick_decimals
    mid = float(tape.mid(np.array([at_ms]))[0])
    half = tape.half_spread(mid)
    skew = tape.effects.at(Bend.BOOK, at_ms, 0.0)
    lean = 0.15 * float(rng.standard_normal())  # bids and asks are never quite even
    sides = []
    for sign in (-1, 1):
        gaps = rng.geometric(min(1.0, tick / (mid * _GAP)), levels - 1)
        best = np.floor((mid - half) / tick) if sign < 0 else np.ceil((mid + half) / tick)
        ticks = best + sign * np.concatenate([[0], np.cumsum(gaps)])
        depth = 1 + 0.15 * np.arange(levels) ** 0.7  # books are thicker away from the price
        notional = coin.trade_quote * 6 * depth * np.exp(_SIZE_SIGMA * rng.standard_normal(levels) - sign * lean)
        if sign < 0 and skew > 0:
            notional *= skew
        if sign > 0 and skew < 0:
            notional *= -skew
        kept = ticks > 0
        steps = np.maximum(1, np.rint(notional[kept] / (ticks[kept] * tick) * 10.0**instrument.step_decimals))
        sides.append(
            tuple(
                (
                    text(int(t), instrument.tick_decimals, tape.padded),
                    text(int(q), instrument.step_decimals, tape.padded),
                )
                for t, q in zip(ticks[kept], steps, strict=True)
            )
        )
    return Ladder(update_id(step), sides[0], sides[1], at_ms)


def update_id(step: int) -> int:
    """Return the last update id of a step of book time."""
    return (step - GENESIS_HOUR * HOUR_MS // BOOK_STEP_MS) * UPDATES_PER_STEP
