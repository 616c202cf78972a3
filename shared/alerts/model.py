"""An alert, version 1: what a person or a program is sent. The fields are a published contract."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.clock import iso_utc, parse_utc_ms
from shared.detection.reading import Detector, Direction, Signal, Values
from shared.market.model import Market


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


SCHEMA = 1


def alert_id(signal: Signal) -> str:
    """Return the deterministic id of a signal's alert: the same anomaly found twice has the same id.

    Source: fault-matrix, "Words": sha256(kind | symbol | start | direction | rule version); the market and the
    trade id (trades may share a millisecond) are part of the name too.
    """
    name = "|".join(
        (
            signal.detector.value,
            signal.market.value,
            signal.symbol,
            str(signal.event_ms),
            "" if signal.trade_id is None else str(signal.trade_id),
            signal.direction.value if signal.direction else "",
            signal.rule_version,
        )
    )
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Alert:
    """`event_ms` is when the market did it, `detected_ms` when we decided; both epoch milliseconds UTC."""

    alert_id: str
    detector: Detector
    market: Market
    symbol: str
    sector: str | None
    direction: Direction | None
    severity: Severity
    event_ms: int
    detected_ms: int
    title: str
    text: str
    values: Values
    thresholds: Values
    rule_version: str
    suppressed_since_last: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the published form (`docs/alert.schema.json`): ISO times, plain types."""
        return {
            "schema": SCHEMA,
            "alert_id": self.alert_id,
            "detector": self.detector.value,
            "market": self.market.value,
            "symbol": self.symbol,
            "sector": self.sector,
            "direction": self.direction.value if self.direction else None,
            "severity": self.severity.value,
            "event_time": iso_utc(self.event_ms),
            "detected_time": iso_utc(self.detected_ms),
            "title": self.title,
            "text": self.text,
            "values": dict(self.values),
            "thresholds": dict(self.thresholds),
            "rule_version": self.rule_version,
            "suppressed_since_last": self.suppressed_since_last,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Alert:
        """Read the published form back; fields that a later version added are left out.

        Raises:
            KeyError, ValueError: it is no alert of this schema.
        """
        return cls(
            alert_id=body["alert_id"],
            detector=Detector(body["detector"]),
            market=Market(body["market"]),
            symbol=body["symbol"],
            sector=body["sector"],
            direction=Direction(body["direction"]) if body["direction"] else None,
            severity=Severity(body["severity"]),
            event_ms=parse_utc_ms(body["event_time"]),
            detected_ms=parse_utc_ms(body["detected_time"]),
            title=body["title"],
            text=body["text"],
            values=body["values"],
            thresholds=body["thresholds"],
            rule_version=body["rule_version"],
            suppressed_since_last=body["suppressed_since_last"],
        )
