"""The snapshot of each alert, stored with it, so that its picture is the same whenever it is drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import msgspec

from shared.pictures.snapshot import Snapshot, SnapshotBar
from shared.storage import alert_keys
from shared.storage.table import Absent, Item, Table


@dataclass(frozen=True, slots=True)
class SnapshotRepository:
    table: Table
    retention_days: int = 14

    def get(self, alert_id: str) -> Snapshot | None:
        item = self.table.get(alert_keys.snapshot(alert_id))
        return None if item is None else _decode(item)

    def put(self, alert_id: str, snapshot: Snapshot) -> Snapshot:
        """Store it once; return what stands there, which is an earlier one if there was one."""
        pk, sk = alert_keys.snapshot(alert_id)
        item: Item = {
            "pk": pk,
            "sk": sk,
            "body": msgspec.json.encode(asdict(snapshot)),
            "expires_at": snapshot.at_ms // 1000 + self.retention_days * 86_400,
        }
        result = self.table.put(item, Absent())
        return snapshot if result.applied or result.existing is None else _decode(result.existing)


def _decode(item: Item) -> Snapshot:
    body = item["body"]
    if not isinstance(body, bytes):
        raise ValueError("a snapshot row has no body")
    read = msgspec.json.decode(body)
    bars = tuple(SnapshotBar(**bar) for bar in read.pop("bars"))
    return Snapshot(**read, bars=bars)
