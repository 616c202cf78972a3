"""Each minute, the closed 1-minute bars of every USD-M symbol; late bars and holes are filled by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shared.clock import HOUR_MS, MINUTE_MS
from shared.detection.features import history_minutes
from shared.errors import UnknownSymbol
from shared.jobs import charts, universe
from shared.jobs.common import bars_of, beat, closed_at_ms, note_blind, noting_blindness
from shared.jobs.deps import BACKFILL_WANTED, BARS_STORED, Dependencies
from shared.jobs.pool import HOST_REFUSES, Asked, ask_each, refusal_text
from shared.market.bars import closed_bars, normalize_bars
from shared.market.model import Bar, Market
from shared.storage.bars import BarRepository

COMPONENT = "kline-bars"
LOOK_BACK = 90  # minutes in which a hole of a single symbol is still asked for; fewer than 100 rows cost weight 1
MAX_FILL = 480  # minutes that one run fills after an outage; fewer than 500 rows cost weight 2
MAX_WEIGHT = 600  # of the exchange's 2,400 a minute; what a fill would need beyond it is left to a backfill
_LIGHT_ROWS = 99  # the most rows of weight 1
_ALWAYS = 3  # newest minutes that are read again in any case: a quiet symbol's bar can come late


@dataclass(frozen=True, slots=True)
class KlineBarsReport:
    """`bars` were new or changed. `missing` counts each symbol's minutes that the exchange has not given yet."""

    minute_ms: int
    symbols: int = 0
    bars: int = 0
    minutes: int = 0
    late_bars: int = 0
    changed_from_ms: int | None = None
    missing: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    refused: str | None = None
    skipped: str | None = None
    backfill_wanted: bool = False
    weight: int = 0
    charts: int = 0


def run(deps: Dependencies, *, minute_ms: int, deadline_s: float | None = None) -> KlineBarsReport:
    """Store the bars that opened at `minute_ms`, and those of earlier minutes that are not stored yet."""
    if not deps.settings.sector.enabled:
        return KlineBarsReport(minute_ms, skipped="disabled")
    try:
        with noting_blindness(deps, COMPONENT, Market.USDM):
            exchange_now_ms = closed_at_ms(deps, Market.USDM, minute_ms)
            symbols = universe.refresh(deps, minute_ms).symbols()
    except HOST_REFUSES as exc:
        symbols = universe.universe_at(deps, minute_ms).symbols()
        beat(deps, COMPONENT, {"minute_ms": minute_ms, "bars": 0, "failed": len(symbols)})
        failed = dict.fromkeys(symbols, exc.code)
        return KlineBarsReport(minute_ms, symbols=len(symbols), failed=failed, refused=refusal_text(Market.USDM, exc))
    bars = bars_of(deps)
    stored = _coverage(deps, bars, minute_ms)
    wanted, cut = _within_budget({symbol: _limit(stored, symbol, minute_ms) for symbol in symbols})

    def ask(symbol: str) -> list[Bar]:
        rows = deps.market_data.klines(Market.USDM, symbol, limit=wanted[symbol], end_ms=minute_ms + MINUTE_MS - 1)
        closed, _ = normalize_bars(closed_bars(rows, exchange_now_ms))
        return [bar for bar in closed if bar.open_ms <= minute_ms]

    asked = ask_each(
        symbols, ask, market=Market.USDM, workers=deps.settings.exchange.max_connections, deadline_s=deadline_s
    )
    fresh = _fresh(deps, stored, asked)
    for at_ms in sorted(fresh):
        bars.put_minute(Market.USDM, at_ms, fresh[at_ms])
        stored[at_ms] = stored.get(at_ms, frozenset()) | fresh[at_ms].keys()
    _remember(deps, stored, fresh, minute_ms)
    if any(reason.startswith(UnknownSymbol.code) for reason in asked.failed.values()):
        deps.warm.listing_stale = True

    backfill_wanted = _history_missing(deps, bars, minute_ms) or cut
    earlier = [at_ms for at_ms in fresh if at_ms < minute_ms]
    report = KlineBarsReport(
        minute_ms=minute_ms,
        symbols=len(symbols),
        bars=sum(len(rows) for rows in fresh.values()),
        minutes=len(fresh),
        late_bars=sum(len(fresh[at_ms]) for at_ms in earlier),
        changed_from_ms=min(earlier, default=None),
        missing=_missing(stored, symbols, minute_ms),
        failed=asked.failed,
        refused=asked.refused,
        backfill_wanted=backfill_wanted,
        weight=sum(map(_weight, wanted.values())),
    )
    beat(deps, COMPONENT, {"minute_ms": minute_ms, "bars": report.bars, "failed": len(asked.failed)})
    if asked.failed and not asked.answers:
        note_blind(deps, COMPONENT, Market.USDM, asked)
    if backfill_wanted:
        deps.emit(BACKFILL_WANTED, {"end_ms": minute_ms})
    newest = max((at_ms for at_ms in stored if at_ms <= minute_ms and stored[at_ms]), default=None)
    if newest is not None and (newest == minute_ms or fresh):
        # Sent again for a repeated minute too: the first run may have been killed before it could tell.
        deps.emit(BARS_STORED, {"minute_ms": newest, "changed_from_ms": report.changed_from_ms})
    # After the chain has been told: a chart can wait, a decision cannot.
    return replace(report, charts=charts.store(deps, Market.USDM, minute_ms, min(fresh, default=minute_ms)))


def _coverage(deps: Dependencies, bars: BarRepository, minute_ms: int) -> dict[int, frozenset[str]]:
    """Return which symbols are stored per minute; what this process has stored itself is not asked for again."""
    stored = dict(deps.warm.stored)
    start_ms = minute_ms - (LOOK_BACK - 1) * MINUTE_MS
    lacking = [at_ms for at_ms in range(start_ms, minute_ms + 1, MINUTE_MS) if at_ms not in stored]
    if lacking:
        for at_ms, names in bars.have(Market.USDM, lacking[0], lacking[-1] + MINUTE_MS).items():
            stored[at_ms] = stored.get(at_ms, frozenset()) | frozenset(names)
    if not any(stored.get(at_ms) for at_ms in range(start_ms, minute_ms, MINUTE_MS)):
        before = bars.have(Market.USDM, minute_ms - MAX_FILL * MINUTE_MS, start_ms)
        stored.update({at_ms: frozenset(names) for at_ms, names in before.items()})
        # Nothing in the look-back: ask for everything that one run may fill, up to what is stored before it.
        edge = max((at_ms for at_ms, names in stored.items() if names and at_ms < start_ms), default=None)
        first = minute_ms - MAX_FILL * MINUTE_MS if edge is None else edge + MINUTE_MS
        for at_ms in range(first, start_ms, MINUTE_MS):
            stored.setdefault(at_ms, frozenset())
    return stored


def _limit(stored: Mapping[int, frozenset[str]], symbol: str, minute_ms: int) -> int:
    """Return how many rows to ask for, so that they reach back to this symbol's oldest hole."""
    start_ms = minute_ms - (LOOK_BACK - 1) * MINUTE_MS
    within = range(start_ms, minute_ms + 1, MINUTE_MS)
    holes = [at_ms for at_ms in within if symbol not in stored.get(at_ms, frozenset())]
    holes += [at_ms for at_ms, names in stored.items() if at_ms < start_ms and not names]
    oldest = min(holes, default=minute_ms)
    # One row more than needed: when the exchange sends the running bar too, it takes one place.
    return max(_ALWAYS, (minute_ms - oldest) // MINUTE_MS + 1) + 1


def _weight(rows: int) -> int:
    return 1 if rows <= _LIGHT_ROWS else 2


def _within_budget(wanted: dict[str, int]) -> tuple[dict[str, int], bool]:
    """Return how many rows to ask for within the weight of one minute, and whether that was cut.

    After a long outage of a large universe the newest minutes come first; a backfill brings the rest.
    """
    if sum(map(_weight, wanted.values())) <= max(MAX_WEIGHT, len(wanted)):
        return wanted, False
    return {symbol: min(rows, _LIGHT_ROWS) for symbol, rows in wanted.items()}, True


def _fresh(
    deps: Dependencies, stored: Mapping[int, frozenset[str]], asked: Asked[list[Bar]]
) -> dict[int, dict[str, Bar]]:
    """Return what is not stored yet or has changed since, by minute."""
    fresh: dict[int, dict[str, Bar]] = {}
    for symbol, rows in asked.answers.items():
        for bar in rows:
            known = deps.warm.recent.get(bar.open_ms, {}).get(symbol)
            if symbol not in stored.get(bar.open_ms, frozenset()) or (known is not None and known != bar):
                fresh.setdefault(bar.open_ms, {})[symbol] = bar
    return fresh


def _remember(
    deps: Dependencies,
    stored: Mapping[int, frozenset[str]],
    fresh: Mapping[int, Mapping[str, Bar]],
    minute_ms: int,
) -> None:
    """Keep what is known of the look-back; only minutes that hold something, so that holes are asked for again."""
    oldest_ms = minute_ms - LOOK_BACK * MINUTE_MS
    deps.warm.stored = {at_ms: names for at_ms, names in stored.items() if names and at_ms > oldest_ms}
    recent = deps.warm.recent
    for at_ms, rows in fresh.items():
        if at_ms > minute_ms - _ALWAYS * MINUTE_MS:
            recent[at_ms] = {**recent.get(at_ms, {}), **rows}
    deps.warm.recent = {at_ms: rows for at_ms, rows in recent.items() if at_ms > minute_ms - _ALWAYS * MINUTE_MS}


def _missing(stored: Mapping[int, frozenset[str]], symbols: tuple[str, ...], minute_ms: int) -> dict[str, int]:
    within = range(minute_ms - (LOOK_BACK - 1) * MINUTE_MS, minute_ms + 1, MINUTE_MS)
    counts = {symbol: sum(symbol not in stored.get(at_ms, frozenset()) for at_ms in within) for symbol in symbols}
    return {symbol: count for symbol, count in counts.items() if count}


def _history_missing(deps: Dependencies, bars: BarRepository, minute_ms: int) -> bool:
    """Look once an hour and process whether the features' history is there; reading it all is not cheap."""
    if deps.warm.history_checked == minute_ms // HOUR_MS:
        return False
    deps.warm.history_checked = minute_ms // HOUR_MS
    needed = history_minutes(deps.settings.sector)
    have = bars.have(Market.USDM, minute_ms - needed * MINUTE_MS, minute_ms)
    return sum(1 for names in have.values() if names) < deps.settings.sector.windows.min_coverage * needed
