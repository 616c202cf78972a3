"""What the commands share: an exchange to ask, the jobs' dependencies, and a symbol as people type it."""

from __future__ import annotations

import os
from difflib import get_close_matches

import msgspec

from local.exchange_time import state_clock
from shared.alerts.service import AlertService
from shared.clock import Clock, SystemClock
from shared.errors import ConfigurationError, ExchangeUnavailable, UnknownSymbol, UsageError
from shared.exchange.binance.rest import BinanceMarketData
from shared.exchange.binance.transport import RequestsTransport
from shared.exchange.market_data import MarketData
from shared.jobs.deps import Dependencies
from shared.market.model import Market
from shared.market.universe import normalize_symbol
from shared.settings import Settings
from shared.storage.not_before import NotBeforeRepository
from shared.storage.sqlite import SqliteTable
from shared.storage.table import Table


def exchange_for(settings: Settings, *, clock: Clock | None = None, table: Table | None = None) -> BinanceMarketData:
    """Return the configured exchange; with a table, its bans are remembered across processes."""
    name = settings.exchange.api_key_secret
    key = os.environ.get(name) if name else None
    if name and not key:
        raise ConfigurationError(f"exchange.api_key_secret names {name}, but no such environment variable is set")
    return BinanceMarketData(
        settings.exchange,
        RequestsTransport(settings.exchange.max_connections),
        clock or SystemClock(),
        ban_store=None if table is None else NotBeforeRepository(table),
        api_key=key,
    )


def jobs_for(settings: Settings, table: Table) -> Dependencies:
    """Return what a job stands on when a command calls it by itself: nobody is told anything."""
    clock = state_clock(table)
    if isinstance(table, SqliteTable):
        settings = on_one_machine(settings)
    return Dependencies(
        settings=settings,
        market_data=exchange_for(settings, clock=clock, table=table),
        table=table,
        alerts=AlertService.on_table(table, [], settings, clock),
        clock=clock,
    )


def on_one_machine(settings: Settings) -> Settings:
    """Return the settings without shards: here a single streamer has all the symbols, and no other is waited for."""
    streamer = msgspec.structs.replace(settings.streamer, shards=1, shard_index=0)
    return msgspec.structs.replace(settings, streamer=streamer)


def find_symbol(market_data: MarketData, text: str, settings: Settings) -> str:
    """Turn what was typed into a spot pair: `btc` becomes BTCUSDT, a listed pair stays.

    Raises:
        UsageError: the text is no symbol at all.
        UnknownSymbol: no such pair is listed; names that look like it are told.
        ExchangeUnavailable: the exchange cannot be reached; one sentence that points to the demo.
    """
    try:
        listed = {listing.symbol for listing in market_data.listings(Market.SPOT)}
    except ExchangeUnavailable:
        raise unreachable(settings) from None
    try:
        symbol = normalize_symbol(text, listed)
    except ValueError as exc:
        raise UsageError(f"--symbol: {exc}") from None
    if symbol not in listed:
        near = ", ".join(get_close_matches(symbol, listed, n=3, cutoff=0.7))
        raise UnknownSymbol(f"{symbol} is not listed on the spot market{f'; near it: {near}' if near else ''}")
    return symbol


def unreachable(settings: Settings) -> ExchangeUnavailable:
    return ExchangeUnavailable(
        f"no answer from {settings.exchange.spot_rest_url}: check the network, "
        "or try `tapewatch demo`, which needs none"
    )
