"""What a detector answers: a reading of the present, and a signal when its rule fires."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shared.market.model import Market


class Status(StrEnum):
    NORMAL = "normal"
    ANOMALY = "anomaly"
    WARMING = "warming"
    """Too little history yet."""
    UNSCORABLE = "unscorable"
    """No usable scale, a gap, or bad numbers: no answer, never a zero."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One judgement. `score` is None unless the status is NORMAL or ANOMALY."""

    status: Status
    score: float | None = None
    reason: str = ""


class Detector(StrEnum):
    VOLUME_SPIKE = "volume_spike"
    TRADE_SPIKE = "trade_spike"
    ORDER_BOOK_IMBALANCE = "order_book_imbalance"
    SECTOR_INITIATOR = "sector_initiator"
    SECTOR_DIFFUSION = "sector_diffusion"
    WINDOW_ANOMALY = "window_anomaly"
    PUMP = "pump"
    MARKET_WIDE = "market_wide"
    SYSTEM = "system"


class Direction(StrEnum):
    UP = "UP"
    DOWN = "DOWN"

    @property
    def opposite(self) -> Direction:
        return Direction.DOWN if self is Direction.UP else Direction.UP


Values = Mapping[str, Any]
"""JSON-ready values by name."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A rule fired: the stored fact. Whether it becomes an alert is the policy's decision.

    `event_ms` names the trade (its own time), the bar or the window (its open time); `known_ms` is the earliest
    exchange time at which it could be known (the trade itself, the close of the bar or window).
    `values` and `thresholds` hold every number of the decision, JSON-ready.
    """

    detector: Detector
    market: Market
    symbol: str
    event_ms: int
    known_ms: int
    values: Values
    thresholds: Values
    direction: Direction | None = None
    sector: str | None = None
    trade_id: int | None = None
    rule_version: str = "1"
    strength: float = 1.0  # how far beyond its threshold, >= 1; ranks signals of one detector
    snapshot: Values = field(default_factory=dict)
