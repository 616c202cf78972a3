"""Trade spikes of a whole recording through the bulk rule: the same signals as a replay, in the same order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from local.evaluation.columns import Reader, Trades
from local.recordings import Recording
from local.replay import Found
from shared.detection.trade_spike import SpikePast, TradeSpikeDetector, TradeSpikeReading
from shared.detection.trade_spike_bulk import BulkRule, find_spikes
from shared.market.model import UNITS_PER_COIN, Side
from shared.settings import TradeSpikeSettings


def spikes_of(recording: Recording, settings: TradeSpikeSettings, reader: Reader | None = None) -> Iterator[Found]:
    """Yield the signals of one symbol's trades; blocks overlap by one window, so nothing is lost between them."""
    reader = reader or Reader(recording)
    detector = TradeSpikeDetector(settings, recording.market, recording.symbol or "")
    past, size = SpikePast(settings), BulkRule.of(settings).size
    tail = np.empty(0, dtype=np.int64)
    for block in reader.blocks():
        joined = np.concatenate([tail, block.quantities])
        positions, sums = find_spikes(joined, settings)
        for position, before in zip(positions.tolist(), sums, strict=True):
            at = position - len(tail)
            reading = _reading(recording, settings, block, at, before, past)
            yield Found(detector.signal(reading), int(block.index[at]), recording.path.name)
        tail = joined[-size:]


def _reading(
    recording: Recording, settings: TradeSpikeSettings, block: Trades, at: int, before: int, past: SpikePast
) -> TradeSpikeReading:
    quantity, window = int(block.quantities[at]), settings.window_trades
    total = before + quantity if settings.include_current else before
    ratio = quantity * window / total
    rarity, record_hours, return_hours = past.step(ratio, int(block.times_ms[at]))
    return TradeSpikeReading(
        market=recording.market,
        symbol=recording.symbol or "",
        trade_id=int(block.ids[at]),
        price=int(block.prices[at]) / UNITS_PER_COIN,
        volume=quantity / UNITS_PER_COIN,
        event_ms=int(block.times_ms[at]),
        side=Side.SELL if block.sells[at] else Side.BUY,
        ratio=ratio,
        mean=total / (window * UNITS_PER_COIN),
        rarity=rarity,
        record_hours=record_hours,
        return_hours=return_hours,
    )
