"""Trade spikes of a whole recording through the bulk rule: the same signals as a replay, in the same order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from local.evaluation.columns import Reader
from local.recordings import Recording
from local.replay import Found
from shared.detection.trade_spike import TradeSpikeDetector
from shared.detection.trade_spike_bulk import BulkRule, find_spikes
from shared.market.model import UNITS_PER_COIN, Side
from shared.settings import TradeSpikeSettings


def spikes_of(recording: Recording, settings: TradeSpikeSettings, reader: Reader | None = None) -> Iterator[Found]:
    """Yield the signals of one symbol's trades; blocks overlap by one window, so nothing is lost between them."""
    reader = reader or Reader(recording)
    detector = TradeSpikeDetector(settings, recording.market, recording.symbol or "")
    size = BulkRule.of(settings).size
    tail = np.empty(0, dtype=np.int64)
    for block in reader.blocks():
        joined = np.concatenate([tail, block.quantities])
        positions, sums = find_spikes(joined, settings)
        for position, before in zip(positions.tolist(), sums, strict=True):
            at = position - len(tail)
            side, quantity = Side.SELL if block.sells[at] else Side.BUY, int(block.quantities[at])
            reading = detector.fired(
                int(block.ids[at]), int(block.prices[at]) / UNITS_PER_COIN, quantity / UNITS_PER_COIN, side,
                int(block.times_ms[at]), quantity, before,
            )  # fmt: skip
            yield Found(detector.signal(reading), int(block.index[at]), recording.path.name)
        tail = joined[-size:]
