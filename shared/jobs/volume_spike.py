"""Each minute, each spot symbol: is the bar that has just closed a volume spike, and how rare is it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.clock import HOUR_MS, MINUTE_MS
from shared.detection.volume_spike import VolumeSpikeReading, read_volume_spike, volume_spike_signal
from shared.errors import NotEnoughData
from shared.jobs.common import bars_of, beat, closed_at_ms, readings_of, spot_symbols, tell
from shared.jobs.deps import Dependencies
from shared.jobs.pool import HOST_REFUSES, ask_each, refusal_text
from shared.market.bars import closed_bars, normalize_bars
from shared.market.model import Bar, Market
from shared.storage.readings import Rows

KIND = "volume_spike"
RARITY_HOURS = 168  # one week of bars at the same phase of the hour: 168 small reads a minute, a month would be 720


@dataclass(frozen=True, slots=True)
class VolumeSpikeReport:
    """`failed` maps each symbol without a reading to the reason; `refused` is set when the exchange refuses all."""

    minute_ms: int
    symbols: int = 0
    readings: int = 0
    spikes: int = 0
    alerts: int = 0
    held: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    refused: str | None = None
    skipped: str | None = None


def run(deps: Dependencies, *, minute_ms: int, deadline_s: float | None = None) -> VolumeSpikeReport:
    """Judge the bar that opened at `minute_ms` of every spot symbol, store the readings and tell the signals.

    The bar is named by the schedule, so a late or repeated run computes the same bar and finds the same signals.
    """
    settings = deps.settings.volume_spike
    if not settings.enabled:
        return VolumeSpikeReport(minute_ms, skipped="disabled")
    symbols = spot_symbols(deps, minute_ms)
    try:
        exchange_now_ms = closed_at_ms(deps, Market.SPOT, minute_ms)
    except HOST_REFUSES as exc:
        failed = dict.fromkeys(symbols, exc.code)
        refused = refusal_text(Market.SPOT, exc)
        return VolumeSpikeReport(minute_ms, symbols=len(symbols), failed=failed, refused=refused)
    history = readings_of(deps)
    earlier = history.many(KIND, (minute_ms - hours * HOUR_MS for hours in range(1, RARITY_HOURS + 1)))

    def ask(symbol: str) -> tuple[Bar, VolumeSpikeReading]:
        bars = newest_bars(deps, symbol, settings.ma_bars + 1, minute_ms, exchange_now_ms)
        if not bars or bars[-1].open_ms != minute_ms:
            raise NotEnoughData(f"the exchange has no closed bar of {symbol} for this minute")
        reading = read_volume_spike(
            bars,
            threshold=settings.threshold,
            ma_bars=settings.ma_bars,
            rarity_history=ratios_of(earlier, symbol),
            rarity_min_history=settings.rarity_min_history,
        )
        return bars[-1], reading

    asked = ask_each(
        symbols, ask, market=Market.SPOT, workers=deps.settings.exchange.max_connections, deadline_s=deadline_s
    )
    rows = {symbol: reading.to_json() for symbol, (_, reading) in asked.answers.items()}
    if rows:
        # A repeat whose exchange answered for fewer symbols must not take back what an earlier run stored.
        history.put(KIND, minute_ms, {**(history.get(KIND, minute_ms) or {}), **rows})
        bars_of(deps).put_minute(Market.SPOT, minute_ms, {s: bar for s, (bar, _) in asked.answers.items()})
    told = tell(
        deps,
        [volume_spike_signal(reading, settings, Market.SPOT) for _, reading in asked.answers.values() if reading.spike],
    )
    report = VolumeSpikeReport(
        minute_ms=minute_ms,
        symbols=len(symbols),
        readings=len(rows),
        spikes=told.signals,
        alerts=told.alerts,
        held=told.held,
        failed=asked.failed,
        refused=asked.refused,
    )
    if rows or not symbols:  # minutes without any answer are silence, whatever the reason
        beat(deps, "volume-spike", {"minute_ms": minute_ms, "readings": len(rows), "failed": len(asked.failed)})
    return report


def newest_bars(deps: Dependencies, symbol: str, count: int, minute_ms: int, exchange_now_ms: int) -> list[Bar]:
    """Return the newest `count` closed spot bars up to the one that opened at `minute_ms`, ascending."""
    asked = deps.market_data.klines(Market.SPOT, symbol, limit=count + 1, end_ms=minute_ms + MINUTE_MS - 1)
    bars, _ = normalize_bars(closed_bars(asked, exchange_now_ms))
    return [bar for bar in bars if bar.open_ms <= minute_ms][-count:]


def ratios_of(earlier: Mapping[int, Rows], symbol: str) -> list[float]:
    """Return one symbol's stored ratios, oldest first; minutes without a usable ratio are left out."""
    ratios = (earlier[at_ms].get(symbol, {}).get("ratio") for at_ms in sorted(earlier))
    return [float(ratio) for ratio in ratios if isinstance(ratio, int | float)]
