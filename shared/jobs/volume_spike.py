"""Each minute, each spot symbol: is the bar that has just closed a volume spike, and how rare is it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.clock import HOUR_MS, MINUTE_MS
from shared.detection.volume_spike import VolumeSpikeReading, read_volume_spike, volume_spike_signal
from shared.errors import NotEnoughData
from shared.jobs.common import (
    Told,
    bars_of,
    beat,
    closed_at_ms,
    note_blind,
    noting_blindness,
    ratios_of,
    readings_of,
    spot_symbols,
    tell,
)
from shared.jobs.deps import BACKFILL_WANTED, Dependencies
from shared.jobs.pool import HOST_REFUSES, ask_each, refusal_text
from shared.market.bars import closed_bars, normalize_bars
from shared.market.model import Bar, Market
from shared.storage.readings import ReadingRepository

KIND = "volume_spike"
COMPONENT = "volume-spike"
CATCH_UP = 10  # minutes; what lies further back is history, no news
RARITY_HOURS = 168  # one week of bars at the same phase of the hour


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
    backfill_wanted: bool = False
    caught_up: int = 0  # readings of earlier minutes, made up for in this run


def run(deps: Dependencies, *, minute_ms: int, deadline_s: float | None = None) -> VolumeSpikeReport:
    """Judge the bar that opened at `minute_ms` of every spot symbol, store the readings and tell the signals.

    The bar is named by the schedule, so a late or repeated run computes the same bar and finds the same signals.
    Minutes that a failed run left out are made up for: up to `CATCH_UP` of them, symbol by symbol.
    """
    settings = deps.settings.volume_spike
    if not settings.enabled:
        return VolumeSpikeReport(minute_ms, skipped="disabled")
    symbols = spot_symbols(deps, minute_ms)
    try:
        with noting_blindness(deps, COMPONENT, Market.SPOT):
            exchange_now_ms = closed_at_ms(deps, Market.SPOT, minute_ms)
    except HOST_REFUSES as exc:
        failed = dict.fromkeys(symbols, exc.code)
        refused = refusal_text(Market.SPOT, exc)
        return VolumeSpikeReport(minute_ms, symbols=len(symbols), failed=failed, refused=refused)
    history = readings_of(deps)
    missed = _missed(history, symbols, minute_ms)
    with deps.warm.lock:
        past = deps.warm.ratios
        for at_ms in {minute_ms, *missed}:
            past.load(ratios_of(deps), symbols, _same_phase(at_ms))
        past.forget_before(minute_ms - (RARITY_HOURS + 1) * HOUR_MS)
        earlier = {
            at_ms: {symbol: past.of(symbol, _same_phase(at_ms)) for symbol in symbols} for at_ms in {minute_ms, *missed}
        }

    def ask(symbol: str) -> list[tuple[Bar, VolumeSpikeReading]]:
        wanted = [*(at_ms for at_ms in sorted(missed) if symbol in missed[at_ms]), minute_ms]
        more = (minute_ms - wanted[0]) // MINUTE_MS
        bars = newest_bars(deps, symbol, settings.ma_bars + 1 + more, minute_ms, exchange_now_ms)
        if not bars or bars[-1].open_ms != minute_ms:
            raise NotEnoughData(f"the exchange has no closed bar of {symbol} for this minute")
        made = []
        for at_ms in wanted:
            until = [bar for bar in bars if bar.open_ms <= at_ms]
            if at_ms != minute_ms and (len(until) <= settings.ma_bars or until[-1].open_ms != at_ms):
                continue  # the exchange has no bar of that minute: nothing to make up for
            reading = read_volume_spike(
                until,
                threshold=settings.threshold,
                ma_bars=settings.ma_bars,
                rarity_history=earlier[at_ms][symbol],
                rarity_min_history=settings.rarity_min_history,
            )
            made.append((until[-1], reading))
        return made

    asked = ask_each(
        symbols, ask, market=Market.SPOT, workers=deps.settings.exchange.max_connections, deadline_s=deadline_s
    )
    made_by_minute: dict[int, dict[str, tuple[Bar, VolumeSpikeReading]]] = {}
    for symbol, readings in asked.answers.items():
        for bar, reading in readings:
            made_by_minute.setdefault(bar.open_ms, {})[symbol] = (bar, reading)
    told = [_keep(deps, at_ms, made_by_minute[at_ms]) for at_ms in sorted(made_by_minute)]
    rows = made_by_minute.get(minute_ms, {})
    backfill_wanted = _history_missing(deps, earlier[minute_ms], minute_ms)
    if backfill_wanted:
        deps.emit(BACKFILL_WANTED, {"end_ms": minute_ms})
    report = VolumeSpikeReport(
        minute_ms=minute_ms,
        symbols=len(symbols),
        readings=len(rows),
        spikes=sum(one.signals for one in told),
        alerts=sum(one.alerts for one in told),
        held=sum((Counter(one.held) for one in told), Counter()),
        failed=asked.failed,
        refused=asked.refused,
        backfill_wanted=backfill_wanted,
        caught_up=sum(len(made) for at_ms, made in made_by_minute.items() if at_ms != minute_ms),
    )
    if rows or not symbols:  # minutes without any answer are silence, whatever the reason
        beat(deps, COMPONENT, {"minute_ms": minute_ms, "readings": len(rows), "failed": len(asked.failed)})
    else:
        note_blind(deps, COMPONENT, Market.SPOT, asked)
    return report


def _keep(deps: Dependencies, at_ms: int, made: Mapping[str, tuple[Bar, VolumeSpikeReading]]) -> Told:
    """Store one minute's readings and bars, then tell its spikes."""
    history, settings = readings_of(deps), deps.settings.volume_spike
    rows = {symbol: reading.to_json() for symbol, (_, reading) in made.items()}
    # A repeat whose exchange answered for fewer symbols must not take back what an earlier run stored.
    rows = {**(history.get(KIND, at_ms) or {}), **rows}
    ratios_of(deps).put(at_ms, ratios_in(rows))  # first: a run that is killed before the readings is made up for
    history.put(KIND, at_ms, rows)
    bars_of(deps).put_minute(Market.SPOT, at_ms, {symbol: bar for symbol, (bar, _) in made.items()})
    spikes = [reading for _, reading in made.values() if reading.spike]
    return tell(deps, [volume_spike_signal(reading, settings, Market.SPOT) for reading in spikes])


def ratios_in(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the ratios of one minute's readings that have one."""
    found = {symbol: row.get("ratio") for symbol, row in rows.items()}
    return {symbol: float(ratio) for symbol, ratio in found.items() if isinstance(ratio, int | float)}


def _missed(history: ReadingRepository, symbols: Iterable[str], minute_ms: int) -> dict[int, frozenset[str]]:
    """Return the minutes before this one that lack a reading, with the symbols that lack it.

    Only what lies after a first reading was missed: before it nobody was watching.
    """
    since_ms = minute_ms - CATCH_UP * MINUTE_MS
    stored = dict(history.range(KIND, since_ms, minute_ms))
    if len(stored) == CATCH_UP and all(symbol in rows for rows in stored.values() for symbol in symbols):
        return {}
    names, missed = frozenset(symbols), {}
    seen: set[str] = set()
    latest = history.latest(KIND)
    if latest is not None and latest[0] < since_ms:
        seen |= latest[1].keys()
    for at_ms in range(since_ms, minute_ms, MINUTE_MS):
        rows = stored.get(at_ms, {})
        lacking = frozenset(name for name in names & seen if name not in rows)
        if lacking:
            missed[at_ms] = lacking
        seen |= rows.keys()
    return missed


def _history_missing(deps: Dependencies, ratios: Mapping[str, list[float]], minute_ms: int) -> bool:
    """Look once an hour whether any symbol's week is there; with the sector detector on, its bars' job looks.

    The longest one counts: a coin that is new has no past to be fetched.
    """
    if deps.settings.sector.enabled or deps.warm.history_checked == minute_ms // HOUR_MS:
        return False
    deps.warm.history_checked = minute_ms // HOUR_MS
    wanted = deps.settings.volume_spike.rarity_min_history
    return bool(ratios) and max(map(len, ratios.values())) < wanted


def _same_phase(at_ms: int) -> list[int]:
    return [at_ms - hours * HOUR_MS for hours in range(1, RARITY_HOURS + 1)]


def newest_bars(deps: Dependencies, symbol: str, count: int, minute_ms: int, exchange_now_ms: int) -> list[Bar]:
    """Return the newest `count` closed spot bars up to the one that opened at `minute_ms`, ascending."""
    asked = deps.market_data.klines(Market.SPOT, symbol, limit=count + 1, end_ms=minute_ms + MINUTE_MS - 1)
    bars, _ = normalize_bars(closed_bars(asked, exchange_now_ms))
    return [bar for bar in bars if bar.open_ms <= minute_ms][-count:]
