"""What the pump rule remembers of one symbol, and the numbers that it draws from it.

Trades are summed in chunks of 5 s. Chunks join the history a minute late, so that a burst is not measured against its
own start; the history is a few sums and maxima an hour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, field
from math import log, log1p, sqrt
from typing import Any

from shared.settings import PumpSettings

CHUNK_MS = 5_000
HOUR = 720  # chunks
_SHORT, _MINUTE, _LONG = 5, 12, 60  # chunks in 25, 60 and 300 s
_DELAY = _MINUTE  # chunks before a chunk joins the history
_SHARE = 1e-3  # of the mean chunk: what is added to both sides of a ratio so that an empty past divides nothing
_TINY = 1e-300  # keeps what underflows from dividing by 0

FEATURES = (
    "z_buy", "lz_trades", "sweeps", "buyers_25s", "rise_60s", "buy_300s", "buyers_300s", "buy_record",
    "buyers_record", "largest_share", "fills", "levels", "rise_high", "fallen", "order_size", "before_300s",
    "trades_record", "chunk_record", "rise_25s", "buy_share_25s", "sweeps_25s", "trades_60s",
)  # fmt: skip


@dataclass(slots=True)
class Chunk:
    """Five seconds with trades. Notionals are in quote currency; fills of one order share their millisecond."""

    index: int
    open: float
    high: float
    close: float
    buy: float = 0.0  # notional of taker buys
    sell: float = 0.0
    buyers: int = 0  # distinct milliseconds with a taker buy
    sweeps: int = 0  # of those, the ones with several fills: an order that ate through levels
    trades: int = 0
    largest: float = 0.0  # notional of one buying millisecond
    most_fills: int = 0
    eaten: float = 0.0  # log price between first and highest fill, summed over the buying milliseconds
    buy_25s: float = 0.0
    buyers_25s: int = 0


@dataclass(slots=True)
class Hour:
    """What one hour of learnt chunks leaves behind."""

    index: int
    buy: float = 0.0
    buy_squares: float = 0.0
    buyers: int = 0
    trades: int = 0
    traded: int = 0  # chunks with trades
    log_trades: float = 0.0
    log_trades_squares: float = 0.0
    most_buy: float = 0.0  # in 25 s
    most_buyers: int = 0  # in 25 s
    most_chunk: float = 0.0  # buy notional of one chunk
    most_trades: int = 0  # of one chunk

    def learn(self, chunk: Chunk) -> None:
        self.buy += chunk.buy
        self.buy_squares += chunk.buy * chunk.buy
        self.buyers += chunk.buyers
        self.trades += chunk.trades
        logarithm = log(chunk.trades)
        self.traded += 1
        self.log_trades += logarithm
        self.log_trades_squares += logarithm * logarithm
        self.most_buy = max(self.most_buy, chunk.buy_25s)
        self.most_buyers = max(self.most_buyers, chunk.buyers_25s)
        self.most_chunk = max(self.most_chunk, chunk.buy)
        self.most_trades = max(self.most_trades, chunk.trades)


@dataclass(slots=True)
class Past:
    """The closed chunks of the last six minutes and 24 hourly sums, about 10 KB on a busy market."""

    settings: PumpSettings
    recent: deque[Chunk] = field(default_factory=deque)  # 300 s and the minute of delay
    waiting: deque[Chunk] = field(default_factory=deque)  # not yet learnt
    hours: deque[Hour] = field(default_factory=deque)
    first: int | None = None  # index of the first chunk
    last_close: float = 0.0  # newest close older than `recent`
    before: float = 0.0  # close before the newest chunk

    def add(self, chunk: Chunk) -> None:
        """Take a closed chunk, newer than all before it."""
        if self.first is None:
            self.first = chunk.index
        recent, waiting = self.recent, self.waiting
        while recent and recent[0].index <= chunk.index - _LONG - _DELAY:
            self.last_close = recent.popleft().close
        while waiting and waiting[0].index <= chunk.index - _DELAY:
            self._learn(waiting.popleft())
        self.before = recent[-1].close if recent else self.last_close or chunk.open
        recent.append(chunk)
        oldest = chunk.index - _SHORT
        for other in reversed(recent):
            if other.index <= oldest:
                break
            chunk.buy_25s += other.buy
            chunk.buyers_25s += other.buyers
        waiting.append(chunk)

    def features(self, chunk: Chunk) -> tuple[float, ...] | None:
        """Return FEATURES of the newest chunk; None where its buying is within a standard deviation of the mean.

        Means are over `mean_hours`, logarithms and records over `history_hours`.
        """
        hour = chunk.index // HOUR
        hours = [one for one in self.hours if one.index >= hour - self.settings.history_hours]
        near = [one for one in hours if one.index >= hour - self.settings.mean_hours]
        first = self.first if self.first is not None else chunk.index
        known = _known(chunk, first, hour - self.settings.mean_hours)
        mean = sum(h.buy for h in near) / known
        spread = sqrt(max(sum(h.buy_squares for h in near) / known - mean * mean, 0.0))
        if mean <= 0 or chunk.buy <= mean + spread:
            return None
        crowd = sum(h.buyers for h in near) / known
        rate = sum(h.trades for h in near) / known
        day = sum(h.trades for h in hours) / _known(chunk, first, hour - self.settings.history_hours)
        little = 25 * mean * _SHARE + _TINY
        close, high = log(chunk.close), log(chunk.high)
        quiet = sum(c.trades for c in self.recent if c.index <= chunk.index - _DELAY)
        return (
            log1p((chunk.buy - mean) / max(spread, mean * _SHARE, _TINY)),
            _log_z(chunk.trades, hours),
            log1p(chunk.sweeps),
            log((chunk.buyers_25s + 0.5) / (crowd * _SHORT + 0.5)),
            close - log(self._price_before(chunk.index - _MINUTE)),
            log((self._sum(chunk, _LONG, _buy) + little) / (mean * _LONG + little)),
            log((self._sum(chunk, _LONG, _buyers) + 0.5) / (crowd * _LONG + 0.5)),
            log((chunk.buy_25s + little) / (max((h.most_buy for h in hours), default=0.0) + little)),
            log((chunk.buyers_25s + 0.5) / (max((h.most_buyers for h in hours), default=0) + 0.5)),
            chunk.largest / chunk.buy,
            log(chunk.most_fills),
            log1p(100 * chunk.eaten),
            high - log(self.before),
            high - close,
            log(chunk.buy) - log(chunk.buyers) - log(mean) + log(crowd),
            log((quiet + 0.5) / (day * _LONG + 0.5)),
            log((chunk.trades + 0.5) / (max((h.most_trades for h in hours), default=0) + 0.5)),
            log((chunk.buy + little) / (max((h.most_chunk for h in hours), default=0.0) + little)),
            close - log(self._price_before(chunk.index - _SHORT)),
            chunk.buy_25s / (chunk.buy_25s + self._sum(chunk, _SHORT, _sell)),
            log1p(self._sum(chunk, _SHORT, _sweeps)),
            log((self._sum(chunk, _MINUTE, _trades) + 0.5) / (rate * _MINUTE + 0.5)),
        )

    def snapshot(self) -> dict[str, Any]:
        return {
            "version": 2,
            "recent": [astuple(chunk) for chunk in self.recent],
            "waiting": [astuple(chunk) for chunk in self.waiting],
            "hours": [astuple(hour) for hour in self.hours],
            "first": self.first,
            "last_close": self.last_close,
        }

    @classmethod
    def restored(cls, settings: PumpSettings, state: Mapping[str, Any]) -> Past:
        """Continue from a snapshot.

        Raises:
            KeyError, TypeError: not a snapshot of this version.
        """
        if state["version"] != 2:
            raise KeyError("version")
        recent, waiting = (deque(Chunk(*row) for row in state[name]) for name in ("recent", "waiting"))
        return cls(
            settings, recent, waiting, deque(Hour(*row) for row in state["hours"]), state["first"], state["last_close"]
        )

    def _sum(self, chunk: Chunk, span: int, what: Callable[[Chunk], float]) -> float:
        """Sum over the `span` chunks that end with `chunk`."""
        total = 0.0
        for other in reversed(self.recent):
            if other.index <= chunk.index - span:
                break
            total += what(other)
        return total

    def _price_before(self, index: int) -> float:
        """Return the newest price of the chunks up to `index`; the oldest known one where there is none."""
        price = self.last_close or self.recent[0].open
        for chunk in self.recent:
            if chunk.index > index:
                break
            price = chunk.close
        return price

    def _learn(self, chunk: Chunk) -> None:
        hour = chunk.index // HOUR
        if not self.hours or self.hours[-1].index != hour:
            self.hours.append(Hour(hour))
            while self.hours[0].index < hour - self.settings.history_hours:
                self.hours.popleft()
        self.hours[-1].learn(chunk)


def _buy(chunk: Chunk) -> float:
    return chunk.buy


def _sell(chunk: Chunk) -> float:
    return chunk.sell


def _buyers(chunk: Chunk) -> float:
    return chunk.buyers


def _sweeps(chunk: Chunk) -> float:
    return chunk.sweeps


def _trades(chunk: Chunk) -> float:
    return chunk.trades


def _known(chunk: Chunk, first: int, oldest_hour: int) -> int:
    """Return how many chunks, empty ones too, have been learnt since `oldest_hour`."""
    return max(chunk.index - _DELAY - max(first, oldest_hour * HOUR) + 1, 1)


def _log_z(trades: int, hours: Iterable[Hour]) -> float:
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
