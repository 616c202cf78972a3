"""A market without events, from a seed: heavy tails, clustered volatility, a daily and an hourly rhythm, and no news.

What a detector says about it is a false alarm by construction. Per minute, in logarithms:
- activity = daily wave + the clock's bursts at :00, :15, :30, :45 + a slow and a fast autoregression;
- volatility follows activity half-way and has an autoregression of its own;
- returns are Student's t with 4 degrees of freedom times the volatility, plus beta times the benchmark's;
- trades arrive as Poisson numbers of the activity, their sizes are log-normal (sigma 1.2);
- the takers' share wanders around one half.

It is written in the forms that recordings have, so that it is read as they are. The spot symbols' books are a law of
their own (`null_books`).
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from local.evaluation.null_books import write_books
from local.evaluation.wandering import wander
from shared.times import DAY_MS, HOUR_MS, MINUTE_MS

Floats = npt.NDArray[np.float64]

START_MS = 1_767_225_600_000  # 2026-01-01
SIZE_SIGMA = 1.2

# What the first run of a deployment fetches (`shared.jobs.backfill`, `streamer.warmup_hours`).
PAST_SPOT_HOURS, PAST_FUTURES_HOURS, PAST_TRADES_HOURS = 168, 17, 5


@dataclass(frozen=True, slots=True)
class NullSymbol:
    """`per_minute` trades on average; `beta` 0 marks the benchmark itself; `spread` between taker sides, a share."""

    symbol: str
    price: float
    per_minute: float = 12.0
    beta: float = 0.0
    sigma: float = 0.0005  # of the symbol's own return over a minute
    spread: float = 5e-5


SPOT = (NullSymbol("BTCUSDT", 64_000.0), NullSymbol("ETHUSDT", 3_100.0, beta=1.1))
FUTURES = (
    NullSymbol("BTCUSDT", 64_000.0, 120.0),
    NullSymbol("ZECUSDT", 48.5, 25.0, 0.8, 0.0007),
    NullSymbol("DASHUSDT", 31.2, 20.0, 0.7, 0.0007),
    NullSymbol("XMRUSDT", 162.0, 20.0, 0.6, 0.0006),
)
# The pump rule looks at nothing on the two above: they never rise 0.2 % within 5 s. This is a livelier one of the 104
# recorded coins: ONGBTC before its pump has 4.5 trades a minute, 0.3 % a minute, and 0.25 to 0.4 % between the sides.
THIN = NullSymbol("THINUSDT", 50.0, 5.0, sigma=0.003, spread=0.004)


def futures_of(symbols: Sequence[str]) -> tuple[NullSymbol, ...]:
    """Return the null market's futures of these names, the benchmark first; a name unknown here is like any coin."""
    known = {one.symbol: one for one in FUTURES}
    coins = (known.get(name, NullSymbol(name, 10.0, 20.0, 0.8, 0.0007)) for name in symbols[1:])
    return (replace(FUTURES[0], symbol=symbols[0]), *coins)


@dataclass(frozen=True, slots=True, eq=False)
class Minutes:
    """One symbol's minutes, arrays (n,): mean trades, log return, share of the takers that buy."""

    symbol: NullSymbol
    start_ms: int
    activity: Floats
    returns: Floats
    buyers: Floats


def make_minutes(symbols: tuple[NullSymbol, ...], days: float, seed: int, start_ms: int = START_MS) -> list[Minutes]:
    """Return the minutes of all symbols; the first one is the benchmark of the others."""
    n = round(days * DAY_MS / MINUTE_MS)
    made: list[Minutes] = []
    for number, symbol in enumerate(symbols):
        rng = np.random.default_rng([seed, number])
        minute = start_ms // MINUTE_MS + np.arange(n)
        slow = wander(rng, n, 0.995, 0.35)
        level = 0.4 * np.sin(2 * np.pi * minute / 1440) + _clock(minute) + slow + wander(rng, n, 0.7, 0.35)
        activity = symbol.per_minute * np.exp(level - 0.15)
        volatility = symbol.sigma * np.exp(0.5 * level + wander(rng, n, 0.98, 0.3))
        own = volatility * rng.standard_t(4, n) / np.sqrt(2.0)
        returns = own + symbol.beta * made[0].returns if number else own
        buyers = np.clip(0.5 + wander(rng, n, 0.97, 0.075), 0.05, 0.95)
        made.append(Minutes(symbol, start_ms, activity, returns, buyers))
    return made


def write_bars(minutes: Minutes, folder: Path, market: str, seed: int) -> Path:
    """Write one symbol's 1-minute klines; the trades are summed up in law, not one by one."""
    symbol, n = minutes.symbol, len(minutes.returns)
    rng = np.random.default_rng([seed, 7, *symbol.symbol.encode()])
    trades = rng.poisson(minutes.activity)
    # The sum of k log-normal sizes: exact mean and variance, a gamma's shape.
    spread = np.exp(SIZE_SIGMA**2) - 1.0
    volume = np.where(trades > 0, rng.gamma(np.maximum(trades, 1) / spread, spread), 0.0) * 300.0 / symbol.price
    taker = volume * rng.beta(1 + trades * minutes.buyers / 3, 1 + trades * (1 - minutes.buyers) / 3)
    close = symbol.price * np.exp(np.cumsum(minutes.returns))
    opened = np.concatenate([[symbol.price], close[:-1]])
    wick = np.abs(minutes.returns) * rng.random(n) * 0.5
    high, low = np.maximum(opened, close) * (1 + wick), np.minimum(opened, close) * (1 - wick)
    path = folder / f"{market}_{symbol.symbol}_1m_null.csv.gz"
    columns = (opened, high, low, close, volume, volume * close, trades, taker)
    with gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as out:
        out.write(b"open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume\n")
        for i, (o, h, lo, c, v, quote, count, buy) in enumerate(zip(*(x.tolist() for x in columns), strict=True)):
            at = minutes.start_ms + i * MINUTE_MS
            out.write(
                f"{at},{o:.8f},{h:.8f},{lo:.8f},{c:.8f},{v:.8f},{at + 59_999},{quote:.8f},{count},{buy:.8f}\n".encode()
            )
    return path


def write_trades(minutes: Minutes, folder: Path, seed: int) -> Path:
    """Write one symbol's spot trades as an archive of data.binance.vision holds them, as plain CSV."""
    symbol = minutes.symbol
    rng = np.random.default_rng([seed, 8, *symbol.symbol.encode()])
    counts = rng.poisson(minutes.activity)
    total = int(counts.sum())
    minute = np.repeat(np.arange(len(counts)), counts)
    times = np.sort(minutes.start_ms + minute * MINUTE_MS + rng.integers(0, MINUTE_MS, total), kind="stable")
    level = symbol.price * np.exp(np.cumsum(minutes.returns))
    before = np.concatenate([[symbol.price], level[:-1]])
    part = (times - minutes.start_ms) % MINUTE_MS / MINUTE_MS
    sells = rng.random(total) >= minutes.buyers[minute]
    spread = np.where(sells, -1, 1) * symbol.spread * rng.random(total)
    prices = np.maximum(1, np.rint((before[minute] + part * (level - before)[minute]) * (1 + spread) * 100))
    scale = 300.0 / symbol.price * 1e5
    sizes = np.maximum(1, np.rint(rng.lognormal(-(SIZE_SIGMA**2) / 2, SIZE_SIGMA, total) * scale))
    path = folder / f"{symbol.symbol}-trades-2026-01.csv"
    words = ("False", "True")
    columns = (times, prices.astype(np.int64), sizes.astype(np.int64), sells.astype(np.int64))
    with path.open("w", encoding="ascii") as out:
        for n, (at, price, size, sold) in enumerate(zip(*(x.tolist() for x in columns), strict=True)):
            out.write(
                f"{n + 1},{price // 100}.{price % 100:02d}000000,{size // 100_000}.{size % 100_000:05d}000,"
                f"{price * size / 1e7:.8f},{at},{words[sold]},True\n"
            )
    return path


def write_market(
    folder: Path,
    *,
    days: float,
    seed: int,
    trades: bool = True,
    bars: bool = True,
    books: bool = True,
    past: bool = False,
    futures: tuple[NullSymbol, ...] = FUTURES,
    thin: bool = False,
) -> list[Path]:
    """Write the two spot symbols' trades, bars and books and the sectors' futures bars: the default deployment.

    With `thin` there are the trades of a thin coin too, for the pump rule. With `past` each file begins before
    `START_MS`, as far back as a deployment fetches on its first run; of books no past can be fetched.
    """
    paths = []
    spot = _with_past(SPOT, days, seed, past)
    folder.mkdir(parents=True, exist_ok=True)
    if trades:
        watched = [*spot, *(_with_past((THIN,), days, seed + 2, past) if thin else ())]
        paths += [write_trades(_since(minutes, PAST_TRADES_HOURS), folder, seed) for minutes in watched]
    if bars:
        paths += [write_bars(minutes, folder, "spot", seed) for minutes in spot]
        others = _with_past(futures, days, seed + 1, past)
        paths += [write_bars(_since(minutes, PAST_FUTURES_HOURS), folder, "usdm", seed + 1) for minutes in others]
    if books:
        paths += [
            write_books(one.symbol.symbol, opens(one)[-round(days * 1440) :], START_MS, folder, seed) for one in spot
        ]
    return paths


def opens(minutes: Minutes) -> Floats:
    """Return the price at the start of each minute, shape (n,)."""
    closes = minutes.symbol.price * np.exp(np.cumsum(minutes.returns))
    return np.concatenate([[minutes.symbol.price], closes[:-1]])


def _with_past(symbols: tuple[NullSymbol, ...], days: float, seed: int, past: bool) -> list[Minutes]:
    before = PAST_SPOT_HOURS if past else 0
    return make_minutes(symbols, days + before / 24, seed, START_MS - before * HOUR_MS)


def _since(minutes: Minutes, hours: int) -> Minutes:
    """Leave out what lies more than so many hours before the start."""
    skip = max(0, (START_MS - hours * HOUR_MS - minutes.start_ms) // MINUTE_MS)
    start_ms = minutes.start_ms + skip * MINUTE_MS
    return replace(
        minutes, start_ms=start_ms, activity=minutes.activity[skip:], returns=minutes.returns[skip:],
        buyers=minutes.buyers[skip:],
    )  # fmt: skip


def _clock(minute: npt.NDArray[np.int64]) -> Floats:
    """Return the bursts that are the clock, not news: log factors by minute of the hour."""
    bumps = np.zeros(60)
    bumps[[0, 15, 30, 45]] = [0.8, 0.45, 0.6, 0.45]
    bumps[[1, 16, 31, 46]] = [0.35, 0.15, 0.2, 0.15]
    return bumps[minute % 60]
