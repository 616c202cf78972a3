"""Each minute, the open interest of every watched future in contracts, where the weight budget has room for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.clock import MINUTE_MS
from shared.exchange.market_data import OpenInterest
from shared.jobs import universe
from shared.jobs.common import beat_sparingly, open_interest_of
from shared.jobs.deps import Dependencies
from shared.jobs.pool import ask_each
from shared.market.model import Market

USDM_LIMIT = 2_400  # weight a minute
_OVERHEAD = 100  # server time, listing, funding, books
_FRESH_MS = 10 * MINUTE_MS  # an older figure says nothing of this minute


@dataclass(frozen=True, slots=True)
class OpenInterestReport:
    minute_ms: int
    symbols: int = 0
    samples: int = 0
    weight: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    refused: str | None = None
    skipped: str | None = None


def affordable(deps: Dependencies, symbols: int) -> bool:
    """Tell whether a minute's budget holds the klines and one call more for each symbol."""
    return 2 * symbols + _OVERHEAD <= USDM_LIMIT * deps.settings.exchange.weight_share


def run(deps: Dependencies, *, minute_ms: int, deadline_s: float | None = None) -> OpenInterestReport:
    """Store the open interest as it stands shortly after the minute `minute_ms` has closed.

    A repeated run leaves what is stored. Where the budget has no room nothing is asked: the exchange's own 5-minute
    history, which weighs nothing, then confirms.
    """
    settings = deps.settings.sector
    if not (settings.enabled and settings.open_interest_minutes):
        return OpenInterestReport(minute_ms, skipped="disabled")
    symbols = universe.universe_at(deps, minute_ms).symbols()
    if not affordable(deps, len(symbols)):
        return OpenInterestReport(minute_ms, symbols=len(symbols), skipped="the weight budget has no room")
    repository = open_interest_of(deps)
    close_ms = minute_ms + MINUTE_MS
    if repository.get(close_ms):
        return OpenInterestReport(minute_ms, symbols=len(symbols), skipped="stored already")

    asked = ask_each(
        symbols,
        deps.market_data.open_interest,
        market=Market.USDM,
        workers=deps.settings.exchange.max_connections,
        deadline_s=deadline_s,
    )
    fresh = {name: one.contracts for name, one in asked.answers.items() if _fresh(one, close_ms)}
    if fresh:
        repository.put(close_ms, fresh)
    beat_sparingly(deps, "open-interest", {"minute_ms": minute_ms, "samples": len(fresh), "failed": len(asked.failed)})
    return OpenInterestReport(
        minute_ms=minute_ms,
        symbols=len(symbols),
        samples=len(fresh),
        weight=len(symbols),
        failed=asked.failed,
        refused=asked.refused,
    )


def _fresh(one: OpenInterest, close_ms: int) -> bool:
    return abs(one.event_ms - close_ms) <= _FRESH_MS
