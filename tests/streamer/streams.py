"""Seeded trades as the exchange would send them, and small settings under which models come soon."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from shared.market.model import Market, Side, Trade, TradeKind
from shared.settings import (
    ExchangeSettings,
    Settings,
    StreamerSettings,
    TradeSpikeSettings,
    UniverseSettings,
    WindowAnomalySettings,
)

START_MS = 1_760_000_000_000


def settings(**streamer: Any) -> Settings:
    return Settings(
        universe=UniverseSettings(spot_symbols=("BTCUSDT",)),
        trade_spike=TradeSpikeSettings(window_trades=20, multiple=5.0),
        window_anomaly=WindowAnomalySettings(
            window_seconds=2,
            lateness_seconds=0.5,
            trees=10,
            first_fit=30,
            refit_every=20,
            buffer=60,
            alert_rate=0.1,
            calibration_scores=100,
            calibration_min=15,
        ),
        streamer=StreamerSettings(
            **{"warmup_trades": False, "heartbeat_seconds": 0.2, "lease_seconds": 1.0, **streamer}
        ),
    )


def with_urls(base: Settings, ws_url: str) -> Settings:
    exchange = ExchangeSettings(spot_ws_url=ws_url, spot_rest_url="http://127.0.0.1:1")
    return msgspec.structs.replace(base, exchange=exchange)


def trades(
    n: int, *, seed: int = 1, symbol: str = "BTCUSDT", first_id: int = 1000, start_ms: int = START_MS
) -> list[Trade]:
    """Return n trades with heavy-tailed sizes and uneven times, ids growing by one."""
    rng = random.Random(seed)
    now_ms, price, made = start_ms, 60_000.0, []
    for at in range(n):
        now_ms += int(rng.expovariate(1 / 80))
        price = round(price * (1 + rng.gauss(0, 0.0002)), 2)
        size = max(0.00001, round(rng.lognormvariate(-4, 1.3), 5))
        side = Side.BUY if rng.random() < 0.5 else Side.SELL
        kind = TradeKind.TRADE
        made.append(Trade(Market.SPOT, symbol, kind, first_id + at, price, size, side, now_ms, now_ms + 20))
    return made


def frame(trade: Trade, **changes: Any) -> bytes:
    """Return a trade as one combined-stream message."""
    data = {
        "e": "trade",
        "E": trade.event_ms + 1,
        "s": trade.symbol,
        "t": trade.trade_id,
        "p": f"{trade.price:.8f}",
        "q": f"{trade.quantity:.8f}",
        "T": trade.event_ms,
        "m": trade.side is Side.SELL,
        "M": True,
    } | changes
    return msgspec.json.encode({"stream": f"{trade.symbol.lower()}@trade", "data": data})
