"""What a plain causal rule finds of the labelled pumps: the yardstick of docs/evaluation-pump.md.

    python -m benchmarks.pump_plain FOLDER            # FOLDER holds events.csv and trades/

The score of a chunk is the geometric mean of two z-scores (distinct buying milliseconds, taker-buy notional; against
the chunks of the 12 h before, silent ones among them) times its rise (log of its high over its first price); 0 where
one of the three is not positive, or with fewer than 3 buying milliseconds. It is decided when the chunk ends; each row
cuts time into chunks of its own length. The threshold is the best one for the very events that it is judged on, so the
figures flatter the rule. Half a minute.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.pump_evaluation import CHUNKS, Event, Figures, measure, read_trades, utc_ms
from local.terminal import Progress
from shared.market.model import Side, Trade

Floats = npt.NDArray[np.float64]

PAST_MS = 12 * 3_600_000
FEWEST_BUYERS = 3  # as the detector itself asks for
THRESHOLDS = 1000  # tried between the lowest and the highest that matters


@dataclass(frozen=True, slots=True, eq=False)
class Chunks:
    """Consecutive chunks (n,), silent ones too: `ends_ms`, distinct buying milliseconds, taker-buy notional, and
    the rise: the log of the chunk's high over its first price; 0 of a silent one.
    """

    ends_ms: npt.NDArray[np.int64]
    buyers: Floats
    bought: Floats
    rises: Floats


def chunks_of(trades: Iterable[Trade], chunk_ms: int) -> Chunks:
    """Sum trades, in the order of their times, in chunks aligned to the epoch.

    Raises:
        ValueError: there are no trades.
    """
    rows = [(t.event_ms, t.price, t.quantity * t.price, t.side is Side.BUY) for t in trades]
    if not rows:
        raise ValueError("no trades")
    times = np.array([row[0] for row in rows], dtype=np.int64)
    prices, notional, buys = (np.array([row[n] for row in rows]) for n in (1, 2, 3))
    first = int(times[0]) // chunk_ms
    number = times // chunk_ms - first
    count = int(number[-1]) + 1
    buying = np.unique(times[buys])
    begins, starts = np.unique(number, return_index=True)
    rises = np.zeros(count)
    rises[begins] = np.log(np.maximum.reduceat(prices, starts) / prices[starts])
    return Chunks(
        ends_ms=(first + 1 + np.arange(count)) * chunk_ms,
        buyers=np.bincount(buying // chunk_ms - first, minlength=count).astype(np.float64),
        bought=np.bincount(number[buys], notional[buys], count),
        rises=rises,
    )


def trailing_z(values: Floats, span: int) -> Floats:
    """Return each value's z-score among the `span` before it, or as many as there are; 0 where these do not vary."""
    before = np.arange(len(values))
    low = np.maximum(before - span, 0)
    count = np.maximum(before - low, 1)
    sums, squares = (np.concatenate([[0.0], np.cumsum(part)]) for part in (values, values * values))
    mean = (sums[before] - sums[low]) / count
    variance = (squares[before] - squares[low]) / count - mean * mean
    varies = variance > 1e-9 * np.maximum(mean * mean, 1e-12)  # what rounding leaves of equal values is no scale
    return np.where(varies, (values - mean) / np.sqrt(np.where(varies, variance, 1.0)), 0.0)


def plain_scores(chunks: Chunks, chunk_ms: int) -> Floats:
    """Return the score (n,) of each chunk."""
    span = PAST_MS // chunk_ms
    buyers, bought = (np.maximum(trailing_z(part, span), 0.0) for part in (chunks.buyers, chunks.bought))
    return np.where(chunks.buyers >= FEWEST_BUYERS, np.sqrt(buyers * bought) * chunks.rises, 0.0)


def best(events: Sequence[Event], scores: Sequence[Floats], seconds: int) -> tuple[float, Figures]:
    """Return the threshold with the largest F1 on these events, and its figures."""
    every = np.concatenate([one[one > 0] for one in scores])
    # A threshold that a tenth of the chunks with a score reach gives far more alarms than there are events.
    grid = np.geomspace(np.quantile(every, 0.9), every.max(), THRESHOLDS)
    found = [(float(threshold), measure(events, scores, seconds, float(threshold))) for threshold in grid]
    return max(found, key=lambda one: one[1].f1)


def load(folder: Path, progress: Progress) -> dict[int, tuple[list[Event], list[Floats]]]:
    """Return the labelled events with the chunks that have a score, by chunk length."""
    loaded: dict[int, tuple[list[Event], list[Floats]]] = {seconds: ([], []) for seconds in CHUNKS}
    with (folder / "events.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["labelled"] == "1"]
    for number, row in enumerate(rows):
        trades = list(read_trades(folder / "trades" / row["file"], row["symbol"]))
        onset = {seconds: utc_ms(row[f"onset_{seconds}s"]) for seconds in CHUNKS}
        span = trades[0].event_ms, trades[-1].event_ms
        for seconds, (events, scores) in loaded.items():
            chunks = chunks_of(trades, seconds * 1000)
            score = plain_scores(chunks, seconds * 1000)
            some = score > 0
            events.append(Event(row["event"], row["symbol"], onset, *span, chunks.ends_ms[some], np.empty((0, 0))))
            scores.append(score[some])
        progress(number + 1, len(rows), row["event"])
    return loaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    progress = Progress("plain rule")
    loaded = load(folder, progress)
    progress.close()
    print(
        "| chunk | threshold | precision | recall | F1 | hits | loose | false | false / symbol-day | median delay, s |"
    )
    for seconds, (events, scores) in loaded.items():
        threshold, figures = best(events, scores, seconds)
        print(f"| {seconds} s | {threshold:.3f} | {figures.line()} |")


if __name__ == "__main__":
    main()
