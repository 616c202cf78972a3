"""What the pump rule costs on thin coins, where nearly every trade opens a chunk of its own.

    python -m benchmarks.pump_cost FOLDER [--rounds N]

FOLDER holds recorded trades (`pump/trades` of the recorded data). CPU time of one core, medians, trades already parsed;
beside it the trade-spike rule on the same trades. A symbol's state is what tracemalloc counts.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from local.recordings import discover, read_trades
from local.terminal import Progress
from shared.detection.pump import PumpDetector, model
from shared.detection.trade_spike import TradeSpikeDetector
from shared.market.model import Market, Trade
from shared.settings import PumpSettings, TradeSpikeSettings

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds a trade and a judged chunk; judged chunks a symbol and day; bytes of a symbol's state."""

    spike_us: float
    pump_us: float
    judged_us: float
    judged_a_day: float
    state_bytes: float


def measure(files: Sequence[Sequence[Trade]], rounds: int, progress: Callable[[int, int], object]) -> Costs:
    """Walk each file's trades through rules of its own."""
    trades = sum(map(len, files))
    days = sum(file[-1].event_ms - file[0].event_ms for file in files) / DAY_MS
    spikes, pumps = [], []
    for number in range(rounds):
        spikes.append(_walk(files, lambda: TradeSpikeDetector(TradeSpikeSettings(), Market.SPOT, "X")))
        pumps.append(_walk(files, _pump))
        progress(number + 1, rounds)
    seen = [features for file in files for features in _judged(file)]
    blend, began = model(), time.process_time()
    for features in seen:
        blend.score(features)
    judged_us = (time.process_time() - began) / max(1, len(seen)) * 1e6
    state = sum(map(_state_bytes, files)) / len(files)
    return Costs(
        median(spikes) / trades * 1e6, median(pumps) / trades * 1e6, judged_us, len(seen) / max(days, 1e-9), state
    )


def _pump() -> PumpDetector:
    return PumpDetector(PumpSettings(enabled=True), Market.SPOT, "X")


def _walk(files: Sequence[Sequence[Trade]], make: Callable[[], Any]) -> float:
    began = time.process_time()
    for file in files:
        step = make().step
        for trade in file:
            step(trade)
    return time.process_time() - began


def _judged(file: Sequence[Trade]) -> list[tuple[float, ...]]:
    rule = _pump()
    readings = (rule.step(trade) for trade in file)
    return [reading.features for reading in readings if reading is not None and reading.score is not None]


def _state_bytes(file: Sequence[Trade]) -> int:
    model()  # shared by all symbols, so it is not part of one's state
    tracemalloc.start()
    try:
        rule = _pump()
        for trade in file:
            rule.step(trade)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = ([row for _, row in read_trades(one) if isinstance(row, Trade)] for one in discover([options.folder]))
    files = [file for file in rows if file]
    progress = Progress("benchmark")
    costs = measure(files, options.rounds, progress)
    progress.close()
    print(f"{sum(map(len, files)):,} trades of {len(files)} files, one core")
    print(f"trade-spike rule               {costs.spike_us:8.2f} us a trade")
    print(f"pump rule                      {costs.pump_us:8.2f} us a trade")
    print(f"model, a judged chunk          {costs.judged_us:8.1f} us")
    print(f"judged chunks a symbol and day {costs.judged_a_day:8.1f}")
    print(f"state of a symbol              {costs.state_bytes / 1024:8.1f} KiB")


if __name__ == "__main__":
    main()
