"""Order books without events, from a seed: the best five levels of each side, once a minute as the live job samples.

In logarithms, and as notional: each level of a side is normal about its own mean; a lean that all levels share, half
of it on each side, is a quick autoregression (it forgets within seconds, so samples a minute apart are new) plus a slow
one.

What the recorded books could tell, BTCUSDT spot (650 s) and ETHUSDT futures (344 s), rebuilt from their differences
(`python -m benchmarks.null_books FOLDER` prints both beside these): how large the imbalance is and how fast it is
forgotten, how much a side holds, how the sides oppose each other, the best level's share. What they could not: hours.
The slow lean is an assumption: the minutes' means differ a little more than the quick part makes them, within the
error of so few.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

from local.evaluation.wandering import wander
from shared.times import MINUTE_MS, iso_utc

Floats = npt.NDArray[np.float64]

LEVELS = 5
BEST, BEST_SIGMA = 10.7, 0.6  # log notional, in the quote currency, without the lean
DEEPER, DEEPER_SIGMA = 6.0, 2.4
QUICK_SIGMA, QUICK_S = 1.7, 1.2  # of the log of bids over asks; the time in which it is forgotten to 1/e
SLOW_SIGMA, SLOW_S = 0.4, 1800.0


def make_sides(
    rng: np.random.Generator, n: int, step_s: float = 60.0, slow_sigma: float = SLOW_SIGMA
) -> tuple[Floats, Floats]:
    """Return the notionals of bids and asks of n samples, shape (n, 5) each, the best level first."""
    quick = wander(rng, n, float(np.exp(-step_s / QUICK_S)), QUICK_SIGMA)
    lean = quick + wander(rng, n, float(np.exp(-step_s / SLOW_S)), slow_sigma)
    mean = np.array([BEST] + [DEEPER] * (LEVELS - 1))
    sigma = np.array([BEST_SIGMA] + [DEEPER_SIGMA] * (LEVELS - 1))
    own = mean + sigma * rng.standard_normal((2, n, LEVELS))
    return np.exp(own[0] + lean[:, None] / 2), np.exp(own[1] - lean[:, None] / 2)


def write_books(symbol: str, middles: Floats, start_ms: int, folder: Path, seed: int) -> Path:
    """Write a book a minute as its partial depth stream sends it; `middles` are the prices at the minutes' starts."""
    rng = np.random.default_rng([seed, 9, *symbol.encode()])
    n = len(middles)
    sides = make_sides(rng, n)
    # In hundredths, as both symbols trade: the best prices one apart, each deeper level a little further.
    best = np.maximum(1, np.floor(middles * 100).astype(np.int64))
    gaps = np.cumsum(1 + rng.poisson(middles[None, :, None] * 1e-3, (2, n, LEVELS - 1)), axis=2)
    deeper = np.concatenate([np.zeros((2, n, 1), dtype=np.int64), gaps], axis=2)
    prices = np.maximum(1, best[:, None] - deeper[0]), best[:, None] + 1 + deeper[1]
    units = [
        np.maximum(1, np.rint(side / price * 1e7)).astype(np.int64) for side, price in zip(sides, prices, strict=True)
    ]
    stamp = iso_utc(start_ms)[:16].replace("-", "").replace(":", "")
    path = folder / f"spot_{symbol}_{stamp}Z.frames.jsonl.gz"
    stream = f"{symbol.lower()}@depth{LEVELS}"
    with gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as out:
        for i in range(n):
            bids, asks = (_rows(price[i].tolist(), unit[i].tolist()) for price, unit in zip(prices, units, strict=True))
            recv_ns = (start_ms + i * MINUTE_MS) * 1_000_000
            book = f'{{"lastUpdateId":{i + 1},"bids":[{bids}],"asks":[{asks}]}}'
            out.write(f'{{"recv_ns":{recv_ns},"frame":{{"stream":"{stream}","data":{book}}}}}\n'.encode())
    return path


def _rows(prices: list[int], units: list[int]) -> str:
    return ",".join(
        f'["{price // 100}.{price % 100:02d}000000","{unit // 100_000}.{unit % 100_000:05d}000"]'
        for price, unit in zip(prices, units, strict=True)
    )
