"""Which futures the sector chain watches: as configured, or the whole market as the exchange lists it."""

from __future__ import annotations

import logging

from shared.clock import HOUR_MS
from shared.errors import ExchangeError
from shared.exchange.binance.wire import is_coin_margined
from shared.jobs.deps import Dependencies
from shared.market.catalogue import Contract, built_in, choose
from shared.market.model import Market
from shared.market.universe import Universe
from shared.settings import Settings
from shared.storage.table import Table
from shared.storage.universe import UniverseRepository

logger = logging.getLogger(__name__)


def universe_at(deps: Dependencies, minute_ms: int) -> Universe:
    """Return the universe in force at a minute; the same for every process, whatever it has asked itself."""
    return stored_universe(deps.table, deps.settings, minute_ms)


def stored_universe(table: Table, settings: Settings, minute_ms: int) -> Universe:
    """Return the universe in force at a minute: the stored one of the whole market, else the configured sectors."""
    if settings.universe.futures_all is not None:
        found = UniverseRepository(table).at(minute_ms)
        if found is not None:
            return found[1]
    return Universe(settings.benchmark_symbol, settings.sectors)


def segments(deps: Dependencies, first_ms: int, last_ms: int) -> list[tuple[int, Universe]]:
    """Return (from, universe) for the minutes [first_ms, last_ms], cut where the universe changes."""
    found = [(first_ms, universe_at(deps, first_ms))]
    if deps.settings.universe.futures_all is not None:
        for from_ms, universe in UniverseRepository(deps.table).between(first_ms + 1, last_ms + 1):
            if universe.sectors != found[-1][1].sectors:
                found.append((from_ms, universe))
    return found


def refresh(deps: Dependencies, minute_ms: int) -> Universe:
    """Ask the exchange what it lists, once an hour and when a symbol has become unknown; a change holds from now on.

    A listing that cannot be had changes nothing: what was watched goes on being watched.
    """
    quote = deps.settings.universe.futures_all
    known = UniverseRepository(deps.table).at(minute_ms) if quote is not None else None
    if quote is None:
        return universe_at(deps, minute_ms)
    hour, stale = minute_ms // HOUR_MS, deps.warm.listing_stale
    if known is not None and deps.warm.futures_listed == hour and not stale:
        return known[1]
    try:
        sectors = _listed(deps, quote.strip().upper())
    except ExchangeError as exc:
        logger.warning("listing_unavailable", extra={"reason": str(exc), "code": exc.code})
        return universe_at(deps, minute_ms)
    deps.warm.futures_listed, deps.warm.listing_stale = hour, False
    if sectors and (known is None or dict(known[1].sectors) != sectors) and (known is None or minute_ms >= known[0]):
        UniverseRepository(deps.table).put(minute_ms, deps.settings.benchmark_symbol, sectors)
    return universe_at(deps, minute_ms)


def _listed(deps: Dependencies, quote: str) -> dict[str, tuple[str, ...]]:
    settings = deps.settings.universe
    contracts = [
        Contract(one.symbol, one.base, one.quote, one.status, one.contract_type, one.tags)
        for one in deps.market_data.listings(Market.USDM)
        if not is_coin_margined(one.symbol)
    ]
    return choose(
        contracts,
        quote=quote,
        benchmark=deps.settings.benchmark_symbol,
        catalogue=built_in(),
        overrides=deps.settings.sectors,
        exclude=settings.futures_exclude,
        tradfi=settings.futures_tradfi,
    )
