"""Recognise the first seconds of a pump from one symbol's trades.

Trades are summed in 5-second chunks. A chunk is judged when it closes: 22 numbers (`pump_past.py`) say how unlike the
hours before it the last 5, 25, 60 and 300 seconds of taker buying are, and a model (`pump_trees.py`, its numbers in
`pump_weights.py`) turns them into a probability. Nothing in them knows the time of day or the size of the coin.
Figures: `docs/evaluation-pump.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from functools import cache
from math import isfinite, log
from typing import Any

from shared.detection import pump_weights
from shared.detection.pump_past import CHUNK_MS, FEATURES, HOUR, Chunk, Past
from shared.detection.pump_trees import Blend, Trees
from shared.detection.reading import Detector, Direction, Signal, Status
from shared.market.model import Market, Side, Trade
from shared.settings import PumpSettings

__all__ = ["CHUNK_MS", "FEATURES", "PumpDetector", "PumpReading"]

_LEAST_RUSH = 3  # distinct buying milliseconds below which a chunk is not judged
_LEAST_RISE = 0.002
_PLAIN = ("last_buy_ms", "fills", "first_price", "order", "closed", "quiet_until_ms")


@dataclass(frozen=True, slots=True)
class PumpReading:
    """A chunk [start_ms, end_ms) judged at its end. `score` is the model's probability; None: warming or unscorable."""

    symbol: str
    start_ms: int
    end_ms: int
    price: float
    status: Status
    score: float | None
    features: tuple[float, ...]
    fired: bool = False


@cache
def model() -> Blend:
    """Return the committed model, unpacked once for all symbols."""
    w = pump_weights
    return Blend(w.CENTRES, w.SCALES, w.WEIGHTS, w.INTERCEPT, Trees.unpacked(w.TREES))


@dataclass(slots=True)
class PumpDetector:
    """One symbol's state. Feed it in arrival order.

    A trade of an earlier chunk than the newest is counted in `late` and left out; a price or quantity that is not
    finite and positive is counted in `refused`.
    """

    settings: PumpSettings
    market: Market
    symbol: str
    late: int = 0
    refused: int = 0
    past: Past = field(init=False)
    _now: Chunk | None = None
    _last_buy_ms: int = -1
    _fills: int = 0  # of the newest buying millisecond
    _first_price: float = 0.0  # of its first fill
    _order: float = 0.0  # its notional
    _closed: int = -1  # index of the newest closed chunk
    _quiet_until_ms: int = 0

    def __post_init__(self) -> None:
        self.past = Past(self.settings)

    def step(self, trade: Trade) -> PumpReading | None:
        """Take one trade; return the judgement of the chunk that it closed, where there was one worth judging."""
        notional = trade.price * trade.quantity
        if not (trade.price > 0 and trade.quantity > 0 and isfinite(notional)):
            self.refused += 1
            return None
        index = trade.event_ms // CHUNK_MS
        chunk, reading = self._now, None
        if index <= self._closed or (chunk is not None and index < chunk.index):
            self.late += 1
            return None
        if chunk is None or index > chunk.index:
            reading = self._close()
            chunk = self._now = Chunk(index, trade.price, trade.price, trade.price)
        self.add(chunk, trade.price, notional, trade.side is Side.BUY, trade.event_ms)
        return reading

    def add(self, chunk: Chunk, price: float, notional: float, buying: bool, event_ms: int) -> None:
        """Take a trade that lies in the open chunk and is known to be sound: the part of `step` for nearly all trades.

        The streamer's batch loop calls it, and its C form does the same (`native/feed.h`).
        """
        chunk.close = price
        if price > chunk.high:
            chunk.high = price
        chunk.trades += 1
        if not buying:
            chunk.sell += notional
            return
        chunk.buy += notional
        if event_ms != self._last_buy_ms:
            self._last_buy_ms, self._fills, self._order = event_ms, 1, notional
            self._first_price = price
            chunk.buyers += 1
        else:
            self._fills += 1
            self._order += notional
            if self._fills == 2:
                chunk.sweeps += 1
            if price > self._first_price:
                # What this fill adds to the way that its order has eaten; the highest so far counts.
                chunk.eaten += log(price) - log(self._first_price)
                self._first_price = price
        if self._fills > chunk.most_fills:
            chunk.most_fills = self._fills
        if self._order > chunk.largest:
            chunk.largest = self._order

    @property
    def open_ms(self) -> tuple[int, int] | None:
        """The open chunk's [start, end): a trade in it is one for `add`. None: no chunk is open."""
        now = self._now
        return None if now is None else (now.index * CHUNK_MS, (now.index + 1) * CHUNK_MS)

    def lend(self) -> tuple[float, ...]:
        """Return what `add` changes, for the streamer's loop in C to go on with while a chunk is open."""
        chunk = self._now
        if chunk is None:
            raise ValueError("no chunk is open")
        return (
            chunk.trades, chunk.buyers, chunk.sweeps, chunk.most_fills, self._last_buy_ms, self._fills,
            chunk.high, chunk.close, chunk.buy, chunk.sell, chunk.largest, chunk.eaten, self._first_price, self._order,
        )  # fmt: skip

    def take_back(self, lent: tuple[Any, ...]) -> None:
        """Go on with what that loop made of it."""
        chunk = self._now
        if chunk is None:
            raise ValueError("no chunk is open")
        (
            chunk.trades, chunk.buyers, chunk.sweeps, chunk.most_fills, self._last_buy_ms, self._fills,
            chunk.high, chunk.close, chunk.buy, chunk.sell, chunk.largest, chunk.eaten, self._first_price, self._order,
        ) = lent  # fmt: skip

    def close(self, now_ms: int) -> PumpReading | None:
        """Judge the open chunk if it has ended by `now_ms` (exchange time), without waiting for the next trade."""
        if self._now is None or now_ms < (self._now.index + 1) * CHUNK_MS:
            return None
        return self._close()

    def signal(self, reading: PumpReading) -> Signal | None:
        """Return the stored fact of a reading that fired."""
        if not reading.fired or reading.score is None:
            return None
        values = dict(zip(FEATURES, (round(x, 4) for x in reading.features), strict=True))
        return Signal(
            detector=Detector.PUMP,
            market=self.market,
            symbol=self.symbol,
            event_ms=reading.start_ms,
            known_ms=reading.end_ms,
            values={"score": round(reading.score, 4), "price": reading.price, **values},
            thresholds={"score": self.settings.threshold},
            direction=Direction.UP,
            rule_version=pump_weights.VERSION,
            strength=max(1.0, reading.score / self.settings.threshold),
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the state, JSON-ready, so that a restart need not warm up again."""
        return {
            "now": None if self._now is None else astuple(self._now),
            "past": self.past.snapshot(),
            **{name: getattr(self, f"_{name}") for name in _PLAIN},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot.

        Raises:
            KeyError, TypeError: not a snapshot of this version.
        """
        now = None if state["now"] is None else Chunk(*state["now"])
        past, plain = Past.restored(self.settings, state["past"]), {name: state[name] for name in _PLAIN}
        self._now, self.past = now, past
        for name, value in plain.items():
            setattr(self, f"_{name}", value)

    def _close(self) -> PumpReading | None:
        chunk, self._now = self._now, None
        if chunk is None:
            return None
        self._closed = chunk.index
        self.past.add(chunk)
        rise = chunk.high / chunk.open + max(chunk.close / self.past.before, 1) - 2
        if chunk.buyers < _LEAST_RUSH or rise <= _LEAST_RISE or (chunk.index + 1) * CHUNK_MS < self._quiet_until_ms:
            return None
        return self._judge(chunk)

    def _judge(self, chunk: Chunk) -> PumpReading | None:
        start_ms, end_ms = chunk.index * CHUNK_MS, (chunk.index + 1) * CHUNK_MS
        first = self.past.first if self.past.first is not None else chunk.index
        if chunk.index - first < self.settings.warmup_hours * HOUR:
            return PumpReading(self.symbol, start_ms, end_ms, chunk.close, Status.WARMING, None, ())
        features = self.past.features(chunk)
        if features is None:
            return None
        if not all(map(isfinite, features)):  # absurd but finite prices or quantities overflow the squares
            return PumpReading(self.symbol, start_ms, end_ms, chunk.close, Status.UNSCORABLE, None, features)
        score = model().score(features)
        fired = score >= self.settings.threshold
        if fired:
            self._quiet_until_ms = end_ms + round(self.settings.pause_minutes * 60_000)
        status = Status.ANOMALY if fired else Status.NORMAL
        return PumpReading(self.symbol, start_ms, end_ms, chunk.close, status, score, features, fired)
