"""Carries the futures connection that liquidations come on; its troubles are its own and leave the trades alone."""

from __future__ import annotations

import asyncio
import time

from shared.exchange.binance.endpoints import plan_connections
from shared.market.model import Market
from shared.settings import Settings
from streamer.backoff import AttemptBudget
from streamer.connection import Connector
from streamer.liquidations import DEAF_MS, PULSE, STREAM, LiquidationSums
from streamer.supervisor import Supervisor


async def hear(settings: Settings, connector: Connector, sums: LiquidationSums) -> None:
    """Feed the sums until cancelled; a connection that is open but deaf is replaced."""
    (plan,) = plan_connections(settings.exchange.futures_ws_url, Market.USDM, (STREAM, PULSE))
    supervisor = Supervisor(
        plan,
        connector,
        sums.receive_many,
        attempts=AttemptBudget(),
        renew_s=settings.streamer.renew_hours * 3600,
        on_break=sums.broken,
    )
    carrying = asyncio.create_task(supervisor.run(asyncio.Event()))
    try:
        heard, since_s = 0, time.monotonic()
        while not carrying.done():
            await asyncio.sleep(1.0)
            if sums.heard_ms != heard or supervisor.state != "live":
                heard, since_s = sums.heard_ms, time.monotonic()
            elif time.monotonic() - since_s > 2 * DEAF_MS / 1000:
                supervisor.replace("silent: liquidations")
                since_s = time.monotonic()
    finally:
        carrying.cancel()
        await asyncio.gather(carrying, return_exceptions=True)
