"""Recognise the first seconds of a pump from one symbol's trades.

Trades are summed in 5-second chunks. A chunk is judged when it closes: nine numbers say how unlike the hours before it
the last 5, 25, 60 and 300 seconds of taker buying are, and a logistic model (`pump_weights.py`) turns them into a
probability. Nothing in them knows the time of day or the size of the coin. Figures: `docs/evaluation-pump.md`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from math import exp, isfinite, log, sqrt
from typing import Any

from shared.detection import pump_weights
from shared.detection.reading import Detector, Direction, Signal, Status
from shared.market.model import Market, Side, Trade
from shared.settings import PumpSettings

CHUNK_MS = 5_000
_HOUR = 720  # chunks
_SHORT, _MINUTE, _LONG = 5, 12, 60  # chunks in 25, 60 and 300 s
_DELAY = _MINUTE  # chunks before a chunk joins the history, so that a burst is not measured against its own start
_SHARE = 1e-3  # of the mean chunk: what is added to both sides of a ratio so that an empty past divides nothing
_LEAST_RUSH = 3  # distinct buying milliseconds below which a chunk is not judged
_LEAST_RISE = 0.002
_PLAIN = ("last_buy_ms", "fills", "first", "closed", "quiet_until_ms", "last_close")

FEATURES = (
    "z_buy", "lz_trades", "sweeps", "buyers_25s", "rise_60s", "buy_300s", "buyers_300s",
    "buy_record", "buyers_record",
)  # fmt: skip


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


@dataclass(slots=True)
class _Chunk:
    index: int
    open: float
    high: float
    close: float
    buy: float = 0.0  # quote notional of taker buys
    buyers: int = 0  # distinct milliseconds with a taker buy: fills of one order share theirs
    sweeps: int = 0  # of those, the ones with several fills: an order that ate through levels
    trades: int = 0
    buy_25s: float = 0.0
    buyers_25s: int = 0


@dataclass(slots=True)
class _Hour:
    """What one hour of learnt chunks leaves behind: a few sums and maxima."""

    index: int
    buy: float = 0.0
    buy_squares: float = 0.0
    buyers: int = 0
    traded: int = 0  # chunks with trades
    log_trades: float = 0.0
    log_trades_squares: float = 0.0
    most_buy: float = 0.0
    most_buyers: int = 0

    def learn(self, chunk: _Chunk) -> None:
        self.buy += chunk.buy
        self.buy_squares += chunk.buy * chunk.buy
        self.buyers += chunk.buyers
        logarithm = log(chunk.trades)
        self.traded += 1
        self.log_trades += logarithm
        self.log_trades_squares += logarithm * logarithm
        self.most_buy = max(self.most_buy, chunk.buy_25s)
        self.most_buyers = max(self.most_buyers, chunk.buyers_25s)


@dataclass(slots=True)
class PumpDetector:
    """One symbol's state: the last five minutes of chunks and 24 hourly sums, about 10 KB on a busy market.

    Feed it in arrival order. A trade of an earlier chunk than the newest is counted in `late` and left out; a price
    or quantity that is not finite and positive is counted in `refused`.
    """

    settings: PumpSettings
    market: Market
    symbol: str
    late: int = 0
    refused: int = 0
    _now: _Chunk | None = None
    _last_buy_ms: int = -1
    _fills: int = 0  # of the newest buying millisecond
    _recent: deque[_Chunk] = field(default_factory=deque)  # closed chunks of the last 300 s
    _waiting: deque[_Chunk] = field(default_factory=deque)  # closed, not yet learnt
    _hours: deque[_Hour] = field(default_factory=deque)
    _first: int | None = None  # index of the first chunk
    _closed: int = -1  # index of the newest closed chunk
    _quiet_until_ms: int = 0
    _last_close: float = 0.0  # newest close older than `_recent`

    def step(self, trade: Trade) -> PumpReading | None:
        """Take one trade; return the judgement of the chunk that it closed, where there was one worth judging."""
        if not (trade.price > 0 and trade.quantity > 0 and isfinite(trade.price * trade.quantity)):
            self.refused += 1
            return None
        index = trade.event_ms // CHUNK_MS
        chunk, reading = self._now, None
        if index <= self._closed or (chunk is not None and index < chunk.index):
            self.late += 1
            return None
        if chunk is None or index > chunk.index:
            reading = self._close()
            chunk = self._now = _Chunk(index, trade.price, trade.price, trade.price)
            if self._first is None:
                self._first = index
        chunk.close = trade.price
        if trade.price > chunk.high:
            chunk.high = trade.price
        chunk.trades += 1
        if trade.side is Side.BUY:
            chunk.buy += trade.price * trade.quantity
            if trade.event_ms != self._last_buy_ms:
                self._last_buy_ms, self._fills = trade.event_ms, 1
                chunk.buyers += 1
            else:
                self._fills += 1
                if self._fills == 2:
                    chunk.sweeps += 1
        return reading

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
            "recent": [astuple(chunk) for chunk in self._recent],
            "waiting": [astuple(chunk) for chunk in self._waiting],
            "hours": [astuple(hour) for hour in self._hours],
            **{name: getattr(self, f"_{name}") for name in _PLAIN},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot.

        Raises:
            KeyError, TypeError: not a snapshot of this version.
        """
        now = None if state["now"] is None else _Chunk(*state["now"])
        recent, waiting = (deque(_Chunk(*row) for row in state[name]) for name in ("recent", "waiting"))
        hours, plain = deque(_Hour(*row) for row in state["hours"]), {name: state[name] for name in _PLAIN}
        self._now, self._recent, self._waiting, self._hours = now, recent, waiting, hours
        for name, value in plain.items():
            setattr(self, f"_{name}", value)

    def _close(self) -> PumpReading | None:
        chunk, self._now = self._now, None
        if chunk is None:
            return None
        self._closed = chunk.index
        recent, waiting = self._recent, self._waiting
        while recent and recent[0].index <= chunk.index - _LONG:
            self._last_close = recent.popleft().close
        while waiting and waiting[0].index <= chunk.index - _DELAY:
            self._learn(waiting.popleft())
        before = recent[-1].close if recent else self._last_close or chunk.open
        recent.append(chunk)
        self._measure(chunk)
        reading = None
        worth = chunk.buyers >= _LEAST_RUSH and chunk.high / chunk.open + max(chunk.close / before, 1) - 2 > _LEAST_RISE
        if worth and (chunk.index + 1) * CHUNK_MS >= self._quiet_until_ms:
            reading = self._judge(chunk)
        waiting.append(chunk)
        return reading

    def _price_before(self, index: int) -> float:
        """Return the newest price of the chunks up to `index`; the oldest known one where there is none."""
        price = self._last_close or self._recent[0].open
        for chunk in self._recent:
            if chunk.index > index:
                break
            price = chunk.close
        return price

    def _measure(self, chunk: _Chunk) -> None:
        for other in reversed(self._recent):
            if other.index <= chunk.index - _SHORT:
                break
            chunk.buy_25s += other.buy
            chunk.buyers_25s += other.buyers

    def _learn(self, chunk: _Chunk) -> None:
        hour = chunk.index // _HOUR
        if not self._hours or self._hours[-1].index != hour:
            self._hours.append(_Hour(hour))
            while self._hours[0].index < hour - self.settings.history_hours:
                self._hours.popleft()
        self._hours[-1].learn(chunk)

    def _judge(self, chunk: _Chunk) -> PumpReading | None:
        start_ms, end_ms = chunk.index * CHUNK_MS, (chunk.index + 1) * CHUNK_MS
        first = self._first if self._first is not None else chunk.index
        if chunk.index - first < self.settings.warmup_hours * _HOUR:
            return PumpReading(self.symbol, start_ms, end_ms, chunk.close, Status.WARMING, None, ())
        recent_hour = chunk.index // _HOUR - self.settings.mean_hours
        known = max(chunk.index - _DELAY - max(first, recent_hour * _HOUR) + 1, 1)  # chunks, empty ones too
        features = self._features(chunk, [h for h in self._hours if h.index >= recent_hour], known)
        if features is None:
            return None
        sum_ = pump_weights.INTERCEPT
        for x, centre, scale, weight in zip(
            features, pump_weights.CENTRES, pump_weights.SCALES, pump_weights.WEIGHTS, strict=True
        ):
            sum_ += weight * (x - centre) / scale
        if not isfinite(sum_):  # absurd but finite prices or quantities overflow the squares
            return PumpReading(self.symbol, start_ms, end_ms, chunk.close, Status.UNSCORABLE, None, features)
        score = 1 / (1 + exp(-min(max(sum_, -50.0), 50.0)))
        fired = score >= self.settings.threshold
        if fired:
            self._quiet_until_ms = end_ms + round(self.settings.pause_minutes * 60_000)
        status = Status.ANOMALY if fired else Status.NORMAL
        return PumpReading(self.symbol, start_ms, end_ms, chunk.close, status, score, features, fired)

    def _features(self, chunk: _Chunk, near: list[_Hour], known: int) -> tuple[float, ...] | None:
        """Return FEATURES: means over the `known` chunks of the hours `near`, logarithms and records over all hours."""
        oldest = chunk.index // _HOUR - self.settings.history_hours
        hours = [hour for hour in self._hours if hour.index >= oldest]
        mean = sum(h.buy for h in near) / known
        spread = sqrt(max(sum(h.buy_squares for h in near) / known - mean * mean, 0.0))
        if mean <= 0 or chunk.buy <= mean + spread:
            return None
        crowd = sum(h.buyers for h in near) / known
        buy_300s = sum(c.buy for c in self._recent)
        buyers_300s = sum(c.buyers for c in self._recent)
        little = 25 * mean * _SHARE
        return (
            log(1 + (chunk.buy - mean) / max(spread, mean * _SHARE)),
            _log_z(chunk.trades, hours),
            log(1 + chunk.sweeps),
            log((chunk.buyers_25s + 0.5) / (crowd * _SHORT + 0.5)),
            log(chunk.close) - log(self._price_before(chunk.index - _MINUTE)),
            log((buy_300s + little) / (mean * _LONG + little)),
            log((buyers_300s + 0.5) / (crowd * _LONG + 0.5)),
            log((chunk.buy_25s + little) / (max((h.most_buy for h in hours), default=0.0) + little)),
            log((chunk.buyers_25s + 0.5) / (max((h.most_buyers for h in hours), default=0) + 0.5)),
        )


def _log_z(trades: int, hours: Iterable[_Hour]) -> float:
    """Standard score of log(trades) among the chunks that had any; the plain mean hides how heavy their tail is.

    The 0.1 in the variance stands in for the spread that a nearly constant history does not show.
    """
    known = log_sum = squares = 0.0
    for hour in hours:
        known += hour.traded
        log_sum += hour.log_trades
        squares += hour.log_trades_squares
    if not known:
        return 0.0
    mean = log_sum / known
    return (log(trades) - mean) / sqrt(max(squares / known - mean * mean, 0.0) + 0.1)
