"""Train and evaluate the pump detector on the labelled events: weights, and the tables of docs/evaluation-pump.md.

    python benchmarks/pump_evaluation.py FOLDER            # FOLDER holds events.csv and trades/
    python benchmarks/pump_evaluation.py FOLDER --train    # rewrites nothing: prints the weights to commit

The detector itself computes the features; the model is fitted on them, and judged on symbols that it has not seen.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from shared.detection.pump import FEATURES, PumpDetector, PumpReading
from shared.market.model import Market, Side, Trade, TradeKind
from shared.settings import PumpSettings

WARMUP_MS, PAUSE_MS = 6 * 3_600_000, 30 * 60_000
CHUNKS = (25, 15, 5)
REGULARISATION = 1.0  # scikit-learn's C


class Row(msgspec.Struct):
    p: str
    q: str
    T: int
    m: bool


@dataclass(frozen=True, slots=True)
class Event:
    """One labelled event: onset in ms by chunk seconds, judged chunk ends (n,) and their features (n, 9)."""

    name: str
    symbol: str
    onset_ms: dict[int, int]
    first_ms: int
    last_ms: int
    ends_ms: np.ndarray
    features: np.ndarray


def read_trades(path: Path, symbol: str) -> Iterator[Trade]:
    """Yield a file's aggregate trades in order."""
    decode = msgspec.json.Decoder(Row).decode
    with gzip.open(path) as lines:
        for line in lines:
            row = decode(line)
            side = Side.SELL if row.m else Side.BUY
            price, quantity = float(row.p), float(row.q)
            yield Trade(Market.SPOT, symbol, TradeKind.AGG_TRADE, None, price, quantity, side, row.T, row.T)


def utc_ms(text: str) -> int:
    """Return the epoch milliseconds of a label's time."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def load(folder: Path) -> list[Event]:
    """Run the detector over every labelled event, never firing, and keep every chunk that it would judge."""
    events, trades, started = [], 0, perf_counter()
    silent = PumpSettings(threshold=2.0)
    with (folder / "events.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["labelled"] == "1"]
    for row in rows:
        detector = PumpDetector(silent, Market.SPOT, row["symbol"])
        readings: list[PumpReading] = []
        first = last = 0
        for trade in read_trades(folder / "trades" / row["file"], row["symbol"]):
            first, last, trades = first or trade.event_ms, trade.event_ms, trades + 1
            reading = detector.step(trade)
            if reading is not None and reading.score is not None:
                readings.append(reading)
        onset = {seconds: utc_ms(row[f"onset_{seconds}s"]) for seconds in CHUNKS}
        ends = np.array([r.end_ms for r in readings])
        features = np.array([r.features for r in readings])
        events.append(Event(row["event"], row["symbol"], onset, first, last, ends, features))
    print(f"{len(events)} events, {trades} trades, {perf_counter() - started:.1f} s")
    return events


def examples(events: Sequence[Event], chunks: Sequence[int] = (5, 25)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, labels and weights. Each event's onsets weigh the same, however many chunks they span."""
    features, labels, weights = [], [], []
    for event in events:
        for seconds in chunks:
            onset = event.onset_ms[seconds]
            hit = (event.ends_ms > onset) & (event.ends_ms <= onset + seconds * 1000)
            if not hit.any():
                continue
            features.append(event.features[hit])
            labels += [1] * hit.sum()
            weights += [5 / len(chunks) / hit.sum()] * hit.sum()
        early = min(event.onset_ms.values()) - 60_000
        late = max(onset + seconds * 1000 for seconds, onset in event.onset_ms.items()) + PAUSE_MS
        other = (event.ends_ms > event.first_ms + WARMUP_MS) & ((event.ends_ms <= early) | (event.ends_ms > late))
        features.append(event.features[other])
        labels += [0] * other.sum()
        weights += [1] * other.sum()
    return np.concatenate(features), np.array(labels), np.array(weights, dtype=float)


@dataclass(frozen=True, slots=True)
class Model:
    centres: np.ndarray
    scales: np.ndarray
    weights: np.ndarray
    intercept: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return probabilities (n,)."""
        if not len(features):
            return np.zeros(0)
        scores: np.ndarray = (features - self.centres) / self.scales @ self.weights + self.intercept
        return np.asarray(1 / (1 + np.exp(-scores)))


def fit(events: Sequence[Event]) -> Model:
    """Fit the logistic model on standardised features."""
    features, labels, weights = examples(events)
    centres, scales = features.mean(axis=0), features.std(axis=0)
    model = LogisticRegression(C=REGULARISATION, max_iter=1000)
    model.fit((features - centres) / scales, labels, sample_weight=weights)
    return Model(centres, scales, model.coef_[0], float(model.intercept_[0]))


@dataclass(frozen=True, slots=True)
class Figures:
    """`hits` by the strict reading (60 s before to one chunk after the onset), `loose` within 60 s either way."""

    events: int
    hits: int
    loose: int
    false_alarms: int
    days: float
    delays_s: tuple[float, ...]

    @property
    def f1(self) -> float:
        return 2 * self.hits / max(self.hits + self.false_alarms + self.events, 1)

    def line(self) -> str:
        """Return one row of the table."""
        precision, recall = self.hits / max(self.hits + self.false_alarms, 1), self.hits / self.events
        delay = median(self.delays_s) if self.delays_s else float("nan")
        return (
            f"{precision:.3f} | {recall:.3f} | {self.f1:.3f} | {self.hits} | {self.loose} | {self.false_alarms} |"
            f" {self.false_alarms / self.days:.3f} | {delay:.0f}"
        )


def alerts(event: Event, scores: np.ndarray, threshold: float) -> list[int]:
    """Return the times of the alerts, with the pause after each."""
    times, free = [], event.first_ms + WARMUP_MS
    for end in event.ends_ms[scores >= threshold].tolist():
        if end >= free:
            times.append(end)
            free = end + PAUSE_MS
    return times


def measure(events: Sequence[Event], scores: Sequence[np.ndarray], seconds: int, threshold: float) -> Figures:
    """Judge alerts at the level of events."""
    hits = loose = false = 0
    days, delays = 0.0, []
    for event, score in zip(events, scores, strict=True):
        onset, times = event.onset_ms[seconds], alerts(event, score, threshold)
        good = [t for t in times if onset - 60_000 <= t <= onset + seconds * 1000]
        hits += bool(good)
        loose += any(abs(t - onset) <= 60_000 for t in times)
        false += len(times) - len(good)
        days += (event.last_ms - event.first_ms - WARMUP_MS) / 86_400_000
        delays += [(t - onset) / 1000 for t in good[:1]]
    return Figures(len(events), hits, loose, false, days, tuple(delays))


def leave_symbols_out(events: Sequence[Event], seed: int, folds: int = 5) -> list[np.ndarray]:
    """Return each event's scores by a model that has not seen its symbol."""
    scores: list[np.ndarray] = [np.zeros(0)] * len(events)
    groups = [event.symbol for event in events]
    split = GroupKFold(folds, shuffle=True, random_state=seed).split(groups, groups=groups)
    for seen, unseen in split:
        model = fit([events[i] for i in seen])
        for i in unseen:
            scores[i] = model.score(events[i].features)
    return scores


THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def nested(events: Sequence[Event], seconds: int, seed: int) -> Figures:
    """Choose the threshold too without the symbols that it is judged on."""
    groups = [event.symbol for event in events]
    parts = []
    for seen, unseen in GroupKFold(5, shuffle=True, random_state=seed).split(groups, groups=groups):
        inner, outer = [events[i] for i in seen], [events[i] for i in unseen]
        scores, model = leave_symbols_out(inner, seed + 100), fit(inner)
        grid = np.linspace(0.1, 0.95, 35)
        chosen = max(grid, key=lambda t: measure(inner, scores, seconds, float(t)).f1)
        parts.append(measure(outer, [model.score(event.features) for event in outer], seconds, float(chosen)))
    return Figures(
        events=sum(part.events for part in parts),
        hits=sum(part.hits for part in parts),
        loose=sum(part.loose for part in parts),
        false_alarms=sum(part.false_alarms for part in parts),
        days=sum(part.days for part in parts),
        delays_s=tuple(delay for part in parts for delay in part.delays_s),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    events = load(arguments.folder)
    model = fit(events)
    if arguments.train:
        for name, values in (("CENTRES", model.centres), ("SCALES", model.scales), ("WEIGHTS", model.weights)):
            print(f"{name} = ({', '.join(f'{v:.4f}' for v in values)})")
        print(f"INTERCEPT = {model.intercept:.4f}")
        print(dict(zip(FEATURES, model.weights.round(2).tolist(), strict=True)))
    for seed in range(arguments.seeds):
        scores = leave_symbols_out(events, seed)
        for seconds in CHUNKS:
            for threshold in THRESHOLDS:
                print(
                    f"| out {seed} | {seconds} | {threshold} | {measure(events, scores, seconds, threshold).line()} |"
                )
            print(f"| nested {seed} | {seconds} | - | {nested(events, seconds, seed).line()} |")
    scores = [model.score(event.features) for event in events]
    for seconds in CHUNKS:
        for threshold in THRESHOLDS:
            print(f"| in | {seconds} | {threshold} | {measure(events, scores, seconds, threshold).line()} |")


if __name__ == "__main__":
    main()
