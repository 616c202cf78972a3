"""The null market's order books beside recorded ones: how large the imbalance of five levels is, and how fast it goes.

    python -m benchmarks.null_books ../shared/data/ws/spot_BTCUSDT_20240808T2354Z.frames.jsonl.gz [FILE ...]

Recorded books are rebuilt from the snapshot that the recorder stored and the differences after it; the figures are of
the book as it stood every 0.1 s. The null's are of a long run of the same law in the same steps. Below: how often the
rule fires on the null, a sample a minute, by the slow lean that the recordings are too short to tell.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from local.evaluation.null_books import LEVELS, SLOW_SIGMA, make_sides
from local.recordings import Frame, discover, read
from shared.detection.order_book import OrderBookReading, OrderBookRule
from shared.exchange.binance.events import BookSnapshot, DepthDiff
from shared.exchange.binance.stream import StreamParser
from shared.market.model import BookLevel, Market
from shared.settings import OrderBookSettings
from shared.times import MINUTE_MS

Floats = npt.NDArray[np.float64]

STEP_S = 0.1
LAGS_S = (0.5, 1.0, 2.0, 5.0, 60.0)
NULL_S = 6 * 3600.0
SLOW_SIGMAS = (0.0, 0.4, 0.8)


@dataclass(slots=True)
class Side:
    """One side of a book: quantities by price. `sign` is -1 where the highest price is the best."""

    sign: int
    quantities: dict[float, float]

    def apply(self, levels: Sequence[BookLevel]) -> None:
        for level in levels:
            if level.quantity:
                self.quantities[level.price] = level.quantity
            else:
                self.quantities.pop(level.price, None)

    def notionals(self) -> list[float]:
        best = heapq.nsmallest(LEVELS, self.quantities, key=lambda price: self.sign * price)
        return [price * self.quantities[price] for price in best]


def recorded_sides(path: Path) -> tuple[Floats, Floats]:
    """Return the notionals of bids and asks every 0.1 s, shape (n, 5) each, from the snapshot on."""
    recording = discover([path])[0]
    parser = StreamParser(recording.market, raw_symbol=recording.symbol)
    bids, asks = Side(-1, {}), Side(1, {})
    known, early = False, list[DepthDiff]()
    times: list[int] = []
    rows: list[list[float]] = []
    for _, row in read(recording):
        if not isinstance(row, Frame):
            continue
        for event in parser.receive(row.data, row.recv_ms or 0):
            if isinstance(event, BookSnapshot) and not known:
                known = True
                # All that came before it are taken again: the newest of them may be newer than the snapshot.
                bids.apply(event.book.bids + tuple(level for one in early for level in one.bids))
                asks.apply(event.book.asks + tuple(level for one in early for level in one.asks))
            elif isinstance(event, DepthDiff) and not known:
                early.append(event)
            elif isinstance(event, DepthDiff):
                bids.apply(event.bids)
                asks.apply(event.asks)
                times.append(event.event_ms)
                rows.append(bids.notionals() + asks.notionals())
    grid = np.arange(times[0], times[-1], round(STEP_S * 1000))
    sides = np.array(rows)[np.searchsorted(times, grid, side="right") - 1]
    return sides[:, :LEVELS], sides[:, LEVELS:]


def figures(bids: Floats, asks: Floats) -> dict[str, str]:
    """Return what is compared, by name."""
    bid, ask = bids.sum(axis=1), asks.sum(axis=1)
    obi, ratio = (bid - ask) / (bid + ask), np.log(bid / ask)
    size = abs(obi)
    minute = round(60 / STEP_S)
    beyond = np.where(size >= 0.6, np.sign(obi), 0)
    three = np.stack([beyond[: -2 * minute], beyond[minute:-minute], beyond[2 * minute :]])
    of_minutes = obi[: len(obi) // minute * minute].reshape(-1, minute).mean(axis=1)
    best = np.concatenate([bids[:, 0] / bid, asks[:, 0] / ask])
    return {
        "seconds": f"{len(obi) * STEP_S:,.0f}",
        "|obi| >= 0.2, 0.4, 0.6, 0.8, 0.95": " ".join(f"{(size >= x).mean():.2f}" for x in (0.2, 0.4, 0.6, 0.8, 0.95)),
        "log(bid / ask): deviation": f"{ratio.std():.2f}",
        "log of a side: deviation": f"{np.log(bid).std():.2f} {np.log(ask).std():.2f}",
        "log bid, log ask: correlation": f"{np.corrcoef(np.log(bid), np.log(ask))[0, 1]:.2f}",
        "a side in thousands: median": f"{np.median(bid) / 1e3:.0f} {np.median(ask) / 1e3:.0f}",
        "best level's share: median": f"{np.median(best):.2f}",
        f"autocorrelation after {', '.join(f'{lag:g}' for lag in LAGS_S)} s": " ".join(
            f"{np.corrcoef(obi[: -round(lag / STEP_S)], obi[round(lag / STEP_S) :])[0, 1]:.2f}" for lag in LAGS_S
        ),
        "means of minutes: deviation": f"{of_minutes.std(ddof=1):.2f} of {len(of_minutes)}",
        "three a minute apart beyond 0.6, one side": f"{(abs(three.sum(axis=0)) == 3).mean():.3f}",
    }


def signals_a_day(slow_sigma: float) -> float:
    """Return how often the rule fires on null books of 60 days with such a slow lean."""
    bids, asks = (side.sum(axis=1) for side in make_sides(np.random.default_rng(3), 60 * 1440, slow_sigma=slow_sigma))
    rule, fired = OrderBookRule(OrderBookSettings()), 0
    for minute, obi in enumerate(((bids - asks) / (bids + asks)).tolist()):
        reading = OrderBookReading(Market.SPOT, "BTCUSDT", minute * MINUTE_MS, obi, 1.0, 1.0, LEVELS, "ok")
        fired += rule.step(reading) is not None
    return fired / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="frames with a snapshot and the differences after it")
    files = parser.parse_args().files
    columns = {path.name.split("_20")[0]: figures(*recorded_sides(path)) for path in files}
    columns["null"] = figures(*make_sides(np.random.default_rng(1), round(NULL_S / STEP_S), STEP_S))
    print(f"{'':<44}" + "".join(f"{name:>30}" for name in columns))
    for name in columns["null"]:
        print(f"{name:<44}" + "".join(f"{column[name]:>30}" for column in columns.values()))
    told = ", ".join(f"{slow:g}: {signals_a_day(slow):.0f}" for slow in SLOW_SIGMAS)
    print(f"signals a day by the deviation of the slow lean: {told} (the null market has {SLOW_SIGMA:g})")


if __name__ == "__main__":
    main()
