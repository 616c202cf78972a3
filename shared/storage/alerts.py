"""Alerts: claimed in one transaction with cooldown, signal and outbox; delivered and confirmed per channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from shared.alerts.model import Alert, Severity
from shared.detection.reading import Detector, Direction
from shared.errors import StorageUnavailable
from shared.storage import alert_keys
from shared.storage.cooldowns import CooldownRepository
from shared.storage.feed import read_feed
from shared.storage.outbox import Outbox, OutboxItem
from shared.storage.table import Absent, Item, Put, Table, Write

_PER_TRANSACTION = 50  # deliveries; each is two writes, and a transaction takes 100


class Claim(Enum):
    WON = "won"
    """The transaction is in the table, and it is ours."""
    TAKEN = "taken"
    """The same signal was stored by somebody else: read it."""
    MOVED = "moved"
    """A state it was decided on has changed since: decide again."""


@dataclass(frozen=True, slots=True)
class DeliveryNote:
    """How the delivery of an alert on one channel ended: `sent`, `digest`, `too_late` or `dead`.

    `reference` is what the channel calls its message, where it calls it anything.
    """

    channel: str
    state: str
    at_ms: int
    attempts: int
    error: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class AlertRepository:
    table: Table
    retention_days: int = 14

    @property
    def cooldowns(self) -> CooldownRepository:
        return CooldownRepository(self.table)

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.table)

    # --- claiming ----------------------------------------------------------------------------------------
    def claim(
        self,
        signal: Put,
        states: Sequence[Put],
        *,
        owner: str,
        alert: Alert | None = None,
        outbox: Sequence[OutboxItem] = (),
    ) -> Claim:
        """Write a decision, all or nothing: the signal, the states it moved and, if allowed, the alert and its outbox.

        `signal` carries `owner` and is refused when it is there already. An answer that was lost, or a retry that was
        refused by its own first write, is recognised by reading `owner` back.

        Raises:
            StorageUnavailable: no answer, and nothing was found written; ask again.
        """
        writes: list[Write] = [signal, *states]
        if alert is not None:
            writes += [self._alert_write(alert, owner), self._feed_write(alert)]
            writes += [self.outbox.write(item) for item in outbox]
        try:
            result = self.table.transact(writes, token=owner)
        except StorageUnavailable:
            if self._stored_by(signal, owner):
                return Claim.WON
            raise
        if result.applied:
            return Claim.WON
        found = result.failed.get(0)
        if found is not None:
            return Claim.WON if found.get("owner") == owner else Claim.TAKEN
        # SQLite and DynamoDB name every refused write; a table that names only some must not make us lose ourselves
        return Claim.WON if self._stored_by(signal, owner) else Claim.MOVED

    def _stored_by(self, signal: Put, owner: str) -> bool:
        item = self.table.get((str(signal.item["pk"]), str(signal.item["sk"])), consistent=True)
        return item is not None and item.get("owner") == owner

    def _alert_write(self, alert: Alert, owner: str) -> Put:
        pk, sk = alert_keys.alert(alert.alert_id)
        return Put(self._row(alert) | {"pk": pk, "sk": sk, "owner": owner}, Absent())

    def _feed_write(self, alert: Alert) -> Put:
        sk = alert_keys.feed_sk(alert.event_ms, alert.alert_id)
        return Put(self._row(alert) | {"pk": alert_keys.ALERT_FEED, "sk": sk})

    def _row(self, alert: Alert) -> Item:
        return {
            "alert_id": alert.alert_id,
            "detector": alert.detector.value,
            "symbol": alert.symbol,
            "direction": alert.direction.value if alert.direction else None,
            "severity": alert.severity.value,
            "body": msgspec.json.encode(alert.to_json()),
            "expires_at": alert.detected_ms // 1000 + self.retention_days * 86_400,
        }

    # --- delivering --------------------------------------------------------------------------------------
    def finish(
        self, items: Sequence[OutboxItem], state: str, now_ms: int, error: str = "", reference: str = ""
    ) -> None:
        """Note how deliveries ended and take them out of the outbox, each together. Asking again is safe.

        Raises:
            StorageUnavailable: no answer; ask again.
        """
        for at in range(0, len(items), _PER_TRANSACTION):
            writes: list[Write] = []
            for item in items[at : at + _PER_TRANSACTION]:
                writes += [self.outbox.removal(item), self._note_write(item, state, now_ms, error, reference)]
            self.table.transact(writes)

    def _note_write(self, item: OutboxItem, state: str, now_ms: int, error: str, reference: str) -> Put:
        pk, sk = alert_keys.delivery(item.alert_id, item.channel)
        note: Item = {
            "pk": pk,
            "sk": sk,
            "channel": item.channel,
            "state": state,
            "at_ms": now_ms,
            "attempts": item.attempts,
            "error": error[:500],
            "reference": reference[:200],
            "expires_at": now_ms // 1000 + self.retention_days * 86_400,
        }
        return Put(note)

    def pending(self, channel: str, limit: int | None = None) -> list[OutboxItem]:
        """Return what a channel has not confirmed, oldest decision first."""
        return self.outbox.pending(channel, limit)

    # --- reading -----------------------------------------------------------------------------------------
    def get(self, alert_id: str) -> Alert | None:
        item = self.table.get(alert_keys.alert(alert_id), consistent=True)
        return None if item is None else _decode(item)

    def get_many(self, alert_ids: Sequence[str]) -> dict[str, Alert]:
        """Return the alerts of these ids that exist."""
        keys = {alert_keys.alert(alert_id): alert_id for alert_id in alert_ids}
        found = self.table.batch_get(keys, consistent=True)
        return {keys[key]: _decode(item) for key, item in found.items()}

    def deliveries(self, alert_id: str) -> dict[str, DeliveryNote]:
        """Return how each channel's delivery ended; a channel that is missing is pending, or was never asked."""
        rows = self.table.query(
            alert_keys.alert_partition(alert_id),
            start=alert_keys.DELIVERY_PREFIX,
            end=alert_keys.DELIVERY_PREFIX + "\U0010ffff",
        )
        notes = [_note(row) for row in rows]
        return {note.channel: note for note in notes}

    def times(self, since_ms: int, until_ms: int) -> list[tuple[int, str, str, str | None, str]]:
        """Return (event_ms, detector, symbol, direction, alert_id) of [since_ms, until_ms), oldest first."""
        rows = self.table.query(
            alert_keys.ALERT_FEED, start=alert_keys.time_part(since_ms), end=alert_keys.time_part(until_ms)
        )
        return [
            (
                int(str(row["sk"]).partition("#")[0]),
                str(row["detector"]),
                str(row["symbol"]),
                None if row.get("direction") is None else str(row["direction"]),
                str(row["alert_id"]),
            )
            for row in rows
        ]

    def range(
        self,
        *,
        symbol: str | None = None,
        detector: Detector | None = None,
        direction: Direction | None = None,
        severity: Severity | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
        work: int | None = None,
    ) -> tuple[list[Alert], str | None]:
        """Return alerts with an event time in [since_ms, until_ms), newest first, and the next page's cursor.

        A page may hold fewer than `limit`, or none, and still have a next one: the work of one call is bounded, and by
        `work` rows where that is given.
        """
        rows, next_cursor = self._range(
            {"symbol": symbol, "detector": detector, "direction": direction, "severity": severity},
            since_ms, until_ms, limit, cursor, work,
        )  # fmt: skip
        return [_decode(row) for row in rows], next_cursor

    def published(
        self,
        *,
        symbol: str | None = None,
        detector: Detector | None = None,
        direction: Direction | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
        work: int | None = None,
    ) -> tuple[list[msgspec.Raw], str | None]:
        """Return the same as JSON in the published form, as it was stored: nothing is read that is only passed on."""
        rows, next_cursor = self._range(
            {"symbol": symbol, "detector": detector, "direction": direction},
            since_ms, until_ms, limit, cursor, work,
        )  # fmt: skip
        return [msgspec.Raw(body) for row in rows if isinstance(body := row["body"], bytes)], next_cursor

    def _range(
        self,
        filters: Mapping[str, str | None],
        since_ms: int | None,
        until_ms: int | None,
        limit: int,
        cursor: str | None,
        work: int | None,
    ) -> tuple[list[Item], str | None]:
        wanted = [(name, str(value)) for name, value in filters.items() if value is not None]

        def keep(item: Item) -> bool:
            return all(item.get(name) == value for name, value in wanted)

        return read_feed(
            self.table,
            [alert_keys.ALERT_FEED],
            keep,
            start=None if since_ms is None else alert_keys.time_part(since_ms),
            end=None if until_ms is None else alert_keys.time_part(until_ms),
            cursor=cursor,
            limit=limit,
            work=work,
        )


def _decode(item: Item) -> Alert:
    body = item["body"]
    if not isinstance(body, bytes):
        raise ValueError(f"alert row {item['sk']!r} has no body")
    return Alert.from_json(msgspec.json.decode(body))


def _note(row: Item) -> DeliveryNote:
    at_ms, attempts = row.get("at_ms"), row.get("attempts")
    return DeliveryNote(
        channel=str(row["channel"]),
        state=str(row["state"]),
        at_ms=int(at_ms) if isinstance(at_ms, int | float) else 0,
        attempts=int(attempts) if isinstance(attempts, int | float) else 0,
        error=str(row.get("error", "")),
        reference=str(row.get("reference", "")),
    )
