"""Builds what the streamer's container stands on in AWS, from the settings and the environment."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.exchange.binance.endpoints import streamable
from shared.exchange.market_data import MarketData
from shared.market.model import Market
from shared.settings import Settings
from shared.settings_loader import load_settings
from streamer.service import StreamerService
from streamer.sharding import share_of

logger = logging.getLogger(__name__)

_NAMED = 20  # symbols named in a log line


def production_service(
    environ: Mapping[str, str] | None = None, progress: Callable[[dict[str, Any]], None] | None = None
) -> StreamerService:
    """Read the settings and build every client.

    Raises:
        ConfigurationError: the settings cannot be used, or name no symbol to stream.
        ExchangeError: the symbols are to be taken from the exchange's listing, and it does not answer.
    """
    # Imported here: boto3 costs half a second, which a look at this module should not pay.
    import boto3
    from botocore.config import Config

    from shared.alerts.channels.channel import Channel
    from shared.alerts.channels.sns import SnsChannel
    from shared.alerts.lanes import Threads
    from shared.alerts.service import AlertService
    from shared.alerts.wiring import messengers
    from shared.commands.listening import receiver_for
    from shared.exchange.binance.rest import BinanceMarketData
    from shared.exchange.binance.transport import RequestsTransport
    from shared.jobs.deps import Dependencies
    from shared.pictures.drawing import Drawing
    from shared.storage.dynamodb import DynamoTable
    from shared.storage.not_before import NotBeforeRepository

    settings = load_settings(environ=os.environ if environ is None else environ).settings
    config = Config(retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=2, read_timeout=5)
    region, clock = settings.aws.region, SystemClock()
    table = DynamoTable(boto3.client("dynamodb", region_name=region, config=config), settings.storage.table_name)
    channels: list[Channel] = []
    sns = settings.alerts.sns
    if sns.enabled and sns.topic_arn:
        channels.append(SnsChannel(boto3.client("sns", region_name=region, config=config), sns.topic_arn, clock))
    transport = RequestsTransport(settings.exchange.max_connections)
    market_data = BinanceMarketData(settings.exchange, transport, clock, ban_store=NotBeforeRepository(table))
    drawing = Drawing(table, market_data, settings.storage.retention_days)
    channels += messengers(settings, clock, table, picture=drawing.png)
    alerts = AlertService.on_table(table, channels, settings, clock, lanes=Threads())
    receiver = receiver_for(Dependencies(settings, market_data, table, alerts, clock), channels)
    if receiver is not None and settings.streamer.shard_index == 0:
        receiver.start(threading.Event())  # a daemon: it ends with the process
    return StreamerService(
        settings,
        market_data,
        alerts,
        table,
        clock,
        symbols=symbols_to_stream(settings, market_data),
        listing=partial(symbols_to_stream, settings, market_data) if settings.universe.all else None,
        progress=progress,
    )


def symbols_to_stream(settings: Settings, market_data: MarketData) -> tuple[str, ...]:
    """Return this shard's share of the spot symbols, or of every traded pair in the quote currency of `universe.all`.

    A listed name that no stream can carry is left out: it must not keep all the others from being streamed.

    Raises:
        ConfigurationError: there is none.
    """
    symbols = settings.universe.spot_symbols
    if settings.universe.all:
        quote = settings.universe.all.upper()
        listed = sorted(
            listing.symbol
            for listing in market_data.listings(Market.SPOT)
            if listing.quote == quote and listing.status == "TRADING"
        )
        symbols, strange = streamable(Market.SPOT, listed, settings.streamer.trade_kind)
        if strange:
            logger.warning("symbols_left_out", extra={"count": len(strange), "symbols": strange[:_NAMED]})
    if not symbols:
        raise ConfigurationError("no symbol to stream: set universe.spot_symbols or universe.all")
    shards = settings.streamer
    return share_of(dict.fromkeys(symbols), shards.shard_index, shards.shards)
