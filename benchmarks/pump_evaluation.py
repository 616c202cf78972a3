"""Train and evaluate the pump detector on the labelled events: weights, and the tables of docs/evaluation-pump.md.

    python benchmarks/pump_evaluation.py FOLDER            # FOLDER holds events.csv and trades/
    python benchmarks/pump_evaluation.py FOLDER --train    # writes shared/detection/pump_weights.py anew

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
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from shared.detection import pump_weights
from shared.detection.pump import PumpDetector, PumpReading
from shared.detection.pump_trees import LEAF as NO_FEATURE
from shared.detection.pump_trees import Blend, Trees
from shared.market.model import Market, Side, Trade, TradeKind
from shared.settings import PumpSettings

WARMUP_MS, PAUSE_MS = 6 * 3_600_000, 30 * 60_000
CHUNKS = (25, 15, 5)
REGULARISATION = 1.0  # scikit-learn's C
LINEAR = 9  # so many of the numbers, the first ones, are in the logistic half
TREES, DEPTH, LEAF, SHARE = 60, 7, 5, 0.4  # trees, their depth, least rows in a leaf, share of the numbers tried


class Row(msgspec.Struct):
    p: str
    q: str
    T: int
    m: bool


@dataclass(frozen=True, slots=True)
class Event:
    """One labelled event: onset in ms by chunk seconds, judged chunk ends (n,) and their features (n, 22)."""

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


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    sure = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(sure / (1 - sure)))


@dataclass(frozen=True, slots=True)
class Model:
    """What `shared.detection.pump_trees.Blend` is, for many chunks at once."""

    centres: np.ndarray
    scales: np.ndarray
    logistic: LogisticRegression
    forest: ExtraTreesClassifier

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return probabilities (n,)."""
        if not len(features):
            return np.zeros(0)
        linear = self.logistic.predict_proba((features[:, :LINEAR] - self.centres) / self.scales)[:, 1]
        odds = (log_odds(linear) + log_odds(self.forest.predict_proba(features)[:, 1])) / 2
        return np.asarray(1 / (1 + np.exp(-odds)))

    def blend(self) -> Blend:
        """Return the model as the detector walks it."""
        roots: list[int] = []
        nodes: list[tuple[int, float, int, int]] = []
        for one in self.forest.estimators_:
            tree, start = one.tree_, len(nodes)
            roots.append(start)
            for n, feature in enumerate(tree.feature.tolist()):
                if feature < 0:
                    no, yes = tree.value[n][0]
                    nodes.append((NO_FEATURE, float(yes / (no + yes)), 0, 0))
                else:
                    low, high = int(tree.children_left[n]), int(tree.children_right[n])
                    nodes.append((feature, float(tree.threshold[n]), start + low, start + high))
        numbers = (tuple(map(float, row)) for row in (self.centres, self.scales, self.logistic.coef_[0]))
        return Blend(*numbers, float(self.logistic.intercept_[0]), Trees(tuple(roots), tuple(nodes)))


def fit(events: Sequence[Event]) -> Model:
    """Fit both halves; the trees' seed is fixed, so the same events give the same model."""
    features, labels, weights = examples(events)
    linear = features[:, :LINEAR]
    centres, scales = linear.mean(axis=0), linear.std(axis=0)
    logistic = LogisticRegression(C=REGULARISATION, max_iter=1000)
    logistic.fit((linear - centres) / scales, labels, sample_weight=weights)
    forest = ExtraTreesClassifier(TREES, max_depth=DEPTH, min_samples_leaf=LEAF, max_features=SHARE, random_state=1)
    return Model(centres, scales, logistic, forest.fit(features, labels, sample_weight=weights))


def write_weights(model: Model) -> None:
    """Write the committed module anew."""
    blend, path = model.blend(), Path(pump_weights.__file__)
    head, text = (pump_weights.__doc__ or "").strip(), blend.trees.packed()
    lines = [f'"""{head}\n"""\n', f'VERSION = "{pump_weights.VERSION}"']
    for name, values in (("CENTRES", blend.centres), ("SCALES", blend.scales), ("WEIGHTS", blend.weights)):
        lines.append(f"{name} = ({', '.join(f'{v:.4f}' for v in values)})")
    lines += [f"INTERCEPT = {blend.intercept:.4f}", 'TREES = r"""']
    lines += [text[n : n + 120] for n in range(0, len(text), 120)]
    path.write_text("\n".join(lines) + '\n"""\n', encoding="ascii")


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


THRESHOLDS = (0.3, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9)


def nested(events: Sequence[Event], seed: int) -> dict[int, list[Figures]]:
    """Choose the threshold too without the symbols that it is judged on; return each event's figures by chunk length.

    The threshold is the best of the other symbols' own cross-validation, its F1 averaged with its neighbours'.
    """
    groups = [event.symbol for event in events]
    grid = np.linspace(0.1, 0.95, 35)
    answers: dict[int, list[Figures | None]] = {seconds: [None] * len(events) for seconds in CHUNKS}
    for seen, unseen in GroupKFold(5, shuffle=True, random_state=seed).split(groups, groups=groups):
        inner = [events[i] for i in seen]
        scores, model = leave_symbols_out(inner, seed + 100), fit(inner)
        told = {i: model.score(events[i].features) for i in unseen}
        for seconds in CHUNKS:
            f1 = [measure(inner, scores, seconds, float(threshold)).f1 for threshold in grid]
            chosen = float(grid[int(np.argmax(np.convolve(f1, np.ones(3) / 3, "same")))])
            for i in unseen:
                answers[seconds][i] = measure([events[i]], [told[i]], seconds, chosen)
    return {seconds: [one for one in parts if one is not None] for seconds, parts in answers.items()}


def total(parts: Sequence[Figures]) -> Figures:
    return Figures(
        events=sum(part.events for part in parts),
        hits=sum(part.hits for part in parts),
        loose=sum(part.loose for part in parts),
        false_alarms=sum(part.false_alarms for part in parts),
        days=sum(part.days for part in parts),
        delays_s=tuple(delay for part in parts for delay in part.delays_s),
    )


def interval(runs: Sequence[Sequence[Figures]], symbols: Sequence[str], rounds: int = 1000) -> tuple[float, float]:
    """Return 95 % bounds of the mean F1 of runs, by a bootstrap over symbols."""
    rng, names = np.random.default_rng(0), sorted(set(symbols))
    members = {name: [i for i, symbol in enumerate(symbols) if symbol == name] for name in names}
    means = []
    for _ in range(rounds):
        chosen = [i for n in rng.integers(0, len(names), len(names)) for i in members[names[n]]]
        means.append(np.mean([total([parts[i] for i in chosen]).f1 for parts in runs]))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    events = load(arguments.folder)
    model = fit(events)
    if arguments.train:
        write_weights(model)
    runs = [nested(events, seed) for seed in range(arguments.seeds)]
    for seconds in CHUNKS:
        for run in runs:
            print(f"| nested | {seconds} | - | {total(run[seconds]).line()} |")
        low, high = interval([run[seconds] for run in runs], [event.symbol for event in events])
        print(f"F1 at {seconds} s, 95 %: {low:.3f} to {high:.3f}", flush=True)
    for seed in range(arguments.seeds):
        scores = leave_symbols_out(events, seed)
        for seconds in CHUNKS:
            for threshold in THRESHOLDS:
                print(
                    f"| out {seed} | {seconds} | {threshold} | {measure(events, scores, seconds, threshold).line()} |"
                )
    scores = [model.score(event.features) for event in events]
    for seconds in CHUNKS:
        for threshold in THRESHOLDS:
            print(f"| in | {seconds} | {threshold} | {measure(events, scores, seconds, threshold).line()} |")


if __name__ == "__main__":
    main()
