"""Outcomes of alerts, ordered like the feed, and what people thought of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.alerts.model import Alert
from shared.alerts.outcome import Judged, Outcome
from shared.storage import alert_keys
from shared.storage.table import Item, Table


@dataclass(frozen=True, slots=True)
class OutcomeRepository:
    table: Table
    retention_days: int = 14

    def put(self, alert: Alert, outcome: Outcome, controls: Sequence[Outcome] = ()) -> None:
        """Store what is known now; a later call knows more and replaces it."""
        pk, sk = alert_keys.outcome(alert.event_ms, alert.alert_id)
        body = {
            "detector": alert.detector.value,
            "symbol": alert.symbol,
            "direction": alert.direction.value if alert.direction else None,
            "outcome": outcome.to_json(),
            "controls": [control.to_json() for control in controls],
        }
        item: Item = {
            "pk": pk,
            "sk": sk,
            "alert_id": alert.alert_id,
            "complete": outcome.complete,
            "stage": sum(value is not None for value in outcome.returns.values()),
            "body": msgspec.json.encode(body),
            "expires_at": alert.event_ms // 1000 + self.retention_days * 86_400,
        }
        self.table.put(item)

    def get(self, alert: Alert) -> dict[str, Any] | None:
        """Return an alert's outcome as JSON-ready values, None while nothing is known."""
        item = self.table.get(alert_keys.outcome(alert.event_ms, alert.alert_id))
        return None if item is None else _body(item)["outcome"]

    def stages(self, since_ms: int, until_ms: int) -> dict[str, int | None]:
        """Return alert id -> horizons known (None: complete), of alerts with an event time in [since_ms, until_ms)."""
        found: dict[str, int | None] = {}
        for row in self._rows(since_ms, until_ms):
            stage = row.get("stage")
            found[str(row["alert_id"])] = None if row.get("complete") else int(stage) if isinstance(stage, int) else 0
        return found

    def range(self, since_ms: int, until_ms: int) -> dict[str, Judged]:
        """Return the outcomes of [since_ms, until_ms) by alert id."""
        found = {}
        for row in self._rows(since_ms, until_ms):
            body = _body(row)
            found[str(row["alert_id"])] = Judged(body["detector"], body["direction"], body["outcome"], body["controls"])
        return found

    def _rows(self, since_ms: int, until_ms: int) -> list[Item]:
        return self.table.query(
            alert_keys.OUTCOMES, start=alert_keys.time_part(since_ms), end=alert_keys.time_part(until_ms)
        )


@dataclass(frozen=True, slots=True)
class FeedbackRepository:
    """One row per alert and person; the last word of each counts."""

    table: Table
    retention_days: int = 90

    def put(self, alert_id: str, by: str, verdict: str, now_ms: int) -> None:
        pk, sk = alert_keys.feedback(alert_id, by)
        expires_at = now_ms // 1000 + self.retention_days * 86_400
        self.table.put({"pk": pk, "sk": sk, "verdict": verdict, "at_ms": now_ms, "expires_at": expires_at})

    def counts(self, alert_id: str) -> dict[str, int]:
        """Return how many found the alert `useful` and how many `noise`."""
        rows = self.table.query(
            alert_keys.alert_partition(alert_id),
            start=alert_keys.FEEDBACK_PREFIX,
            end=alert_keys.FEEDBACK_PREFIX + "\U0010ffff",
        )
        verdicts = [str(row.get("verdict")) for row in rows]
        return {name: verdicts.count(name) for name in ("useful", "noise")}


def _body(item: Item) -> Mapping[str, Any]:
    body = item["body"]
    if not isinstance(body, bytes):
        raise ValueError("an outcome row has no body")
    read: Mapping[str, Any] = msgspec.json.decode(body)
    return read
