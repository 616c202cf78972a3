"""What the streamer's mind weighs with a whole market in it, whether it grows, and what its forests cost the trades.

    python -m benchmarks.streamer_memory [--symbols 500] [--days 2] [--rounds 20]

Simulated days run through the session as fast as they can (time is an argument): two trades of each symbol in three
windows, more on the busiest fifty, the settings' own windows and forests. The first fit of each symbol is a real one; a
refit gets a copy of the model, which weighs the same. Half a day fills every memory; then resident size is printed day
by day. Closed windows gather, and snapshots and memories are packed by the worker, as for storage; nothing is stored.

Printed too: processor time for judging all symbols' windows that close together, and the longest that one collection
of garbage and one tick held up the trades.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from local.terminal import Progress
from shared.clock import DAY_MS
from shared.detection.forest import FlatForest, score_many
from shared.market.model import Market
from shared.settings import Settings
from shared.storage.blobs import squeeze
from streamer import fitting
from streamer.actions import Action, FitModel, StoreWindows
from streamer.gathering import Gathering
from streamer.session import Session
from streamer.worker import Job, Worker

START_MS = 1_767_225_600_000  # 2026-01-01
WARM_UP_DAYS = 0.5
FLUSH_S = 60.0  # `streamer.flush_seconds` as a whole market wants it
LIMIT_MB, LIMIT_GROWTH_MB, LIMIT_SCORING_MS = 350, 5, 100


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


class Feed:
    """Messages of one window after the other, ids without gaps."""

    def __init__(self, names: list[str], window_ms: int) -> None:
        self._names, self._window_ms, self._rng = names, window_ms, random.Random(3)
        self._ids = dict.fromkeys(names, 1_000_000)
        self.now_ms = START_MS

    def window(self) -> list[bytes]:
        rng, made = self._rng, []
        rows: list[tuple[int, str]] = []
        for number, name in enumerate(self._names):
            for _ in range(rng.choice((0, 1, 1)) if number >= 50 else 1 + number % 5):
                rows.append((self.now_ms + rng.randrange(self._window_ms), name))
        rows.sort()
        for at_ms, name in rows:
            self._ids[name] += 1
            made.append(
                (
                    f'{{"stream":"{name.lower()}@trade","data":{{"e":"trade","E":{at_ms},"s":"{name}",'
                    f'"t":{self._ids[name]},"p":"{100 + rng.random():.8f}","q":"{rng.lognormvariate(0, 1.2):.8f}",'
                    f'"T":{at_ms},"m":true,"M":true}}}}'
                ).encode()
            )
        self.now_ms += self._window_ms
        return made


class Streamer:
    """The session, with what the service does around it."""

    def __init__(self, settings: Settings, names: list[str]) -> None:
        self.session = Session(settings, Market.SPOT, names, together=True)
        self.worker = Worker("benchmark")
        self.worker.start()
        self.gathering = Gathering(FLUSH_S)
        self.now_s = 0.0
        self.counts: Counter[str] = Counter()
        self.longest_tick_ms = 0.0

    def take(self, batch: list[bytes], recv_ms: int) -> None:
        self.now_s = recv_ms / 1000
        for at in range(0, len(batch), 200):
            self.do(self.session.receive_many(batch[at : at + 200], recv_ms))
        began = time.thread_time()
        actions = self.session.tick()
        self.longest_tick_ms = max(self.longest_tick_ms, 1e3 * (time.thread_time() - began))
        self.do(actions)
        self.keep(self.session.take_memories())
        while self.worker.pending > 1_000:
            time.sleep(0.01)  # a day in minutes is more than one thread packs

    def do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self.counts[type(action).__name__] += 1
            if isinstance(action, StoreWindows):
                self.gathering.add(action.verdicts, self.now_s)
            elif isinstance(action, FitModel):
                self.fit(action)
        if self.gathering.due(self.now_s):
            self.keep(self.session.take_dirty({verdict.window.symbol for verdict in self.gathering.take()}))

    def fit(self, action: FitModel) -> None:
        anomaly = self.session.states[action.symbol].anomaly
        before = anomaly.model if anomaly is not None else None
        model = copied(before) if before is not None else action.request.fit()
        self.session.install(action.symbol, model, action.request)

    def keep(self, snapshots: Mapping[str, Any]) -> None:
        for snapshot in snapshots.values():
            self.worker.offer(Job("snapshot", partial(squeeze, snapshot)))


def copied(model: FlatForest) -> FlatForest:
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    return FlatForest(**{name: one.copy() if isinstance(one, np.ndarray) else one for name, one in values.items()})


class Pauses:
    """The longest collection of garbage."""

    def __init__(self) -> None:
        self.longest_ms, self._began = 0.0, 0.0
        gc.callbacks.append(self)

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.longest_ms = max(self.longest_ms, 1e3 * (time.thread_time() - self._began))


def scoring_ms(session: Session, rounds: int) -> float:
    """Return the median processor time for one window of every symbol, each by its own forest."""
    anomalies = [state.anomaly for state in session.states.values() if state.anomaly is not None]
    models = [anomaly.model for anomaly in anomalies if anomaly.model is not None]
    rows = np.abs(np.random.default_rng(1).normal(size=(len(models), 5)))
    times = []
    for _ in range(rounds):
        began = time.process_time()
        score_many(models, rows)
        times.append(1e3 * (time.process_time() - began))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    settings = Settings()
    window_ms = settings.window_anomaly.window_seconds * 1000
    names = [f"COIN{number:03d}USDT" for number in range(options.symbols)]
    streamer, feed, pauses = Streamer(settings, names), Feed(names, window_ms), Pauses()
    fitting.load()
    progress, began_s = Progress("simulated days"), time.monotonic()
    marks = [round((WARM_UP_DAYS + day) * DAY_MS / window_ms) for day in range(options.days + 1)]
    sizes: list[float] = []
    for number in range(1, marks[-1] + 1):
        streamer.take(feed.window(), feed.now_ms)
        if number % 20 == 0:
            progress(number, marks[-1], f"{resident_mb():.0f} MB")
        if number == marks[0]:
            assert streamer.session.models == options.symbols, "every symbol has its forest by now"
            pauses.longest_ms = streamer.longest_tick_ms = 0.0  # what comes now is everyday life
        if number in marks:
            sizes.append(resident_mb())
    progress.close()
    session = streamer.session
    print(f"{options.symbols} symbols, {session.trades:,} trades, {session.windows:,} windows, {dict(streamer.counts)}")
    print(f"resident after {WARM_UP_DAYS} days, all memories full{sizes[0]:>21.1f} MB   (limit {LIMIT_MB})")
    for day, (before, after) in enumerate(pairwise(sizes), 1):
        print(f"growth in day {day}{after - before:>44.1f} MB   (limit {LIMIT_GROWTH_MB})")
    scoring = scoring_ms(session, options.rounds)
    print(f"one window of each scored by its forest{scoring:>21.1f} ms   (limit {LIMIT_SCORING_MS})")
    print(f"longest tick, all windows judged{streamer.longest_tick_ms:>28.1f} ms")
    print(f"longest collection of garbage{pauses.longest_ms:>31.1f} ms")
    print(f"{time.monotonic() - began_s:.0f} s; {session.loop} loop")


if __name__ == "__main__":
    main()
