"""Signals with real-looking numbers, for the tests of the alert path."""

from __future__ import annotations

from typing import Any

from shared.clock import MINUTE_MS, parse_utc_ms
from shared.detection.reading import Detector, Direction, Signal
from shared.market.model import Market

NOON_MS = parse_utc_ms("2026-01-13T12:00:00Z")


def initiator(
    at_ms: int = parse_utc_ms("2026-01-13T14:23:00Z"),
    direction: Direction = Direction.UP,
    symbol: str = "XMRUSDT",
    **values: Any,
) -> Signal:
    return Signal(
        detector=Detector.SECTOR_INITIATOR,
        market=Market.USDM,
        symbol=symbol,
        event_ms=at_ms,
        known_ms=at_ms + MINUTE_MS,
        values={
            "z_excess_return": 3.2,
            "z_volume": 3.8,
            "taker_buy_share": 0.685,
            "beta": 0.85,
            "excess_return": 0.021,
            "r_15m": 0.024,
            "funding_rate": 0.0012,
            "status": "CONFIRMED",
            "confirmations": {
                "open_interest": {"state": "confirmed", "z": 2.3},
                "liquidations": {"state": "unknown", "z": None},
                "funding": {"state": "confirmed"},
            },
        }
        | values,
        thresholds={"excess_return_z_initiator": 3.0, "volume_z_initiator": 3.0, "taker_dominance_min": 0.65},
        direction=direction,
        sector="Privacy",
    )


def diffusion(at_ms: int = parse_utc_ms("2026-01-13T14:40:00Z"), **values: Any) -> Signal:
    followers = [
        {"symbol": "ZECUSDT", "z_excess_return": 2.4, "z_volume": 2.1, "time": "2026-01-13T14:31:00Z"},
        {"symbol": "DASHUSDT", "z_excess_return": 2.8, "z_volume": 2.5, "time": "2026-01-13T14:40:00Z"},
    ]
    return Signal(
        detector=Detector.SECTOR_DIFFUSION,
        market=Market.USDM,
        symbol="XMRUSDT",
        event_ms=at_ms,
        known_ms=at_ms + MINUTE_MS,
        values={
            "initiator": "XMRUSDT",
            "initiator_time": "2026-01-13T14:23:00Z",
            "direction": "UP",
            "followers": followers,
            "followers_count": 2,
            "others": 2,
            "share": 1.0,
        }
        | values,
        thresholds={"sector_k_min": 2, "sector_share_min": 0.4},
        direction=Direction.UP,
        sector="Privacy",
    )


def volume_spike(at_ms: int = NOON_MS, symbol: str = "BTCUSDT", strength: float = 2.6, **values: Any) -> Signal:
    return Signal(
        detector=Detector.VOLUME_SPIKE,
        market=Market.SPOT,
        symbol=symbol,
        event_ms=at_ms,
        known_ms=at_ms + MINUTE_MS,
        values={
            "symbol": symbol,
            "timestamp": "2026-01-13T12:01:00Z",
            "volume_current": 123.45,
            "ma20": 23.7404,
            "ratio": 5.2,
            "spike": True,
            "threshold": 2.0,
            "rarity": 0.004,
            "status": "anomaly",
        }
        | values,
        thresholds={"threshold": 2.0, "ma_bars": 20, "gate": "both", "rarity_max": 0.01},
        strength=strength,
    )


def trade_spike(
    at_ms: int = NOON_MS, symbol: str = "BTCUSDT", strength: float = 2.34, trade_id: int | None = None, **values: Any
) -> Signal:
    return Signal(
        detector=Detector.TRADE_SPIKE,
        market=Market.SPOT,
        symbol=symbol,
        event_ms=at_ms,
        known_ms=at_ms,
        values={
            "signal_type": "VolumeSpike",
            "symbol": symbol,
            "price": 43000.1,
            "volume": 12.5,
            "timestamp": "2026-01-13T12:00:00Z",
            "ratio": 23.4,
            "mean": 0.534188,
            "trade_id": trade_id or at_ms,
            "side": "BUY",
        }
        | values,
        thresholds={"multiple": 10.0, "window_trades": 200},
        trade_id=trade_id or at_ms,
        strength=strength,
    )


def order_book(at_ms: int = NOON_MS) -> Signal:
    return Signal(
        detector=Detector.ORDER_BOOK_IMBALANCE,
        market=Market.SPOT,
        symbol="ETHUSDT",
        event_ms=at_ms,
        known_ms=at_ms,
        values={
            "timestamp": "2026-01-13T12:00:00Z",
            "symbol": "ETHUSDT",
            "obi": -0.721345,
            "notional_bid": 10500.5,
            "notional_ask": 64800.25,
            "levels": 5,
            "status": "ok",
            "samples": 3,
        },
        thresholds={"alert_threshold": 0.6, "alert_samples": 3, "alert_release": 0.5},
        direction=Direction.DOWN,
        strength=1.2,
    )


def window_anomaly(at_ms: int = NOON_MS) -> Signal:
    return Signal(
        detector=Detector.WINDOW_ANOMALY,
        market=Market.SPOT,
        symbol="BTCUSDT",
        event_ms=at_ms,
        known_ms=at_ms + 22_000,
        values={
            "timestamp": "2026-01-13T12:00:20Z",
            "start": "2026-01-13T12:00:00Z",
            "trade_count": 1312,
            "volume": 45.1,
            "avg_trade_size": 0.034375,
            "return": -0.0031,
            "volatility": 12.3456,
            "score": -0.7123,
            "prediction": -1,
        },
        thresholds={"score": -0.6543, "alert_rate": 0.005},
        strength=1.4,
    )


def system(at_ms: int = NOON_MS, direction: Direction = Direction.DOWN, **values: Any) -> Signal:
    return Signal(
        detector=Detector.SYSTEM,
        market=Market.SPOT,
        symbol="feed",
        event_ms=at_ms,
        known_ms=at_ms,
        values={"message": "The spot feed is silent for 12 s", "severity": "critical"} | values,
        thresholds={"watchdog_seconds": 5.0},
        direction=direction,
    )


EVERY_KIND = (initiator, diffusion, volume_spike, trade_spike, order_book, window_anomaly, system)
