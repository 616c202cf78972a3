"""The outbox: one row per alert and channel that is not confirmed yet, leased while somebody sends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.settings_ranges import OUTBOX_KEPT_DAYS
from shared.storage import alert_keys
from shared.storage.table import AllOf, Delete, Equals, Item, Put, Table

_KEEP_S = OUTBOX_KEPT_DAYS * 86_400
_PER_TRANSACTION = 100


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """`known_ms` is the event's earliest possible time of knowledge, from which its age counts.

    It may be sent by whoever holds the lease (`claimed_by`, until `claimed_until_ms`); nobody holds an expired one.
    """

    alert_id: str
    channel: str
    known_ms: int
    detected_ms: int
    attempts: int = 0
    next_attempt_ms: int = 0
    claimed_until_ms: int = 0
    claimed_by: str = ""
    version: int = 1
    last_error: str = ""

    def due(self, now_ms: int) -> bool:
        return self.next_attempt_ms <= now_ms and self.claimed_until_ms <= now_ms


@dataclass(frozen=True, slots=True)
class Outbox:
    table: Table

    def write(self, item: OutboxItem) -> Put:
        """Return the unconditional write of a new row (part of the claim's transaction)."""
        return Put(_row(item))

    def removal(self, item: OutboxItem) -> Delete:
        """Return the removal of a row, whoever holds it: what was accepted need not be sent again."""
        return Delete(_key(item))

    def pending(self, channel: str, limit: int | None = None) -> list[OutboxItem]:
        """Return what a channel has not confirmed, oldest decision first."""
        rows = self.table.query(alert_keys.outbox(channel), limit=limit, consistent=True)
        return [_item(row, channel) for row in rows]

    def lease(self, item: OutboxItem, *, owner: str, until_ms: int) -> OutboxItem | None:
        """Take a due row for this run; None when another run was faster or it is gone.

        `owner` must be new for each call: a claim whose answer was lost, and which was then refused by itself, is
        known by it.
        """
        leased = replace(
            item,
            claimed_by=owner,
            claimed_until_ms=until_ms,
            attempts=item.attempts + 1,
            version=item.version + 1,
        )
        result = self.table.put(_row(leased), Equals("version", item.version))
        if result.applied or (result.existing is not None and result.existing.get("claimed_by") == owner):
            return leased
        return None

    def hold(self, items: Sequence[OutboxItem], *, owner: str, until_ms: int) -> list[OutboxItem]:
        """Lease rows, or lengthen our leases on them; return those that we hold. Hundreds go all or none.

        Raises:
            StorageUnavailable: no answer; ask again.
        """
        held: list[OutboxItem] = []
        for at in range(0, len(items), _PER_TRANSACTION):
            longer = [
                replace(item, claimed_by=owner, claimed_until_ms=until_ms, version=item.version + 1)
                for item in items[at : at + _PER_TRANSACTION]
            ]
            writes = [
                Put(_row(new), AllOf((Equals("version", old.version), Equals("claimed_by", old.claimed_by))))
                for new, old in zip(longer, items[at:], strict=False)
            ]
            result = self.table.transact(writes)
            if result.applied or (
                result.failed and all(_is(found, owner, until_ms) for found in result.failed.values())
            ):
                held += longer
        return held

    def postpone(self, item: OutboxItem, *, next_attempt_ms: int, error: str) -> bool:
        """Give a leased row back after a failed attempt; False when it is no longer ours."""
        later = replace(
            item,
            claimed_by="",
            claimed_until_ms=0,
            next_attempt_ms=next_attempt_ms,
            version=item.version + 1,
            last_error=error[:500],
        )
        ours = AllOf((Equals("version", item.version), Equals("claimed_by", item.claimed_by)))
        return self.table.put(_row(later), ours).applied


def _is(found: Item | None, owner: str, until_ms: int) -> bool:
    """Tell our own write, whose answer was lost."""
    return found is not None and found.get("claimed_by") == owner and _int(found, "claimed_until_ms") == until_ms


def _key(item: OutboxItem) -> tuple[str, str]:
    return alert_keys.outbox(item.channel), alert_keys.feed_sk(item.detected_ms, item.alert_id)


def _row(item: OutboxItem) -> Item:
    pk, sk = _key(item)
    return {
        "pk": pk,
        "sk": sk,
        "alert_id": item.alert_id,
        "known_ms": item.known_ms,
        "detected_ms": item.detected_ms,
        "attempts": item.attempts,
        "next_attempt_ms": item.next_attempt_ms,
        "claimed_until_ms": item.claimed_until_ms,
        "claimed_by": item.claimed_by,
        "version": item.version,
        "last_error": item.last_error,
        "expires_at": item.detected_ms // 1000 + _KEEP_S,
    }


def _item(row: Item, channel: str) -> OutboxItem:
    return OutboxItem(
        alert_id=str(row["alert_id"]),
        channel=channel,
        known_ms=_int(row, "known_ms"),
        detected_ms=_int(row, "detected_ms"),
        attempts=_int(row, "attempts"),
        next_attempt_ms=_int(row, "next_attempt_ms"),
        claimed_until_ms=_int(row, "claimed_until_ms"),
        claimed_by=str(row.get("claimed_by", "")),
        version=_int(row, "version"),
        last_error=str(row.get("last_error", "")),
    )


def _int(row: Item, name: str) -> int:
    value = row.get(name, 0)
    return int(value) if isinstance(value, int | float) else 0
