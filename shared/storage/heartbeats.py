"""Signs of life of the components, for the watchdog and the health page."""

from __future__ import annotations

from collections.abc import Mapping

from shared.storage.schema import heartbeat_key, heartbeats_partition
from shared.storage.table import Item, Table, Value


class HeartbeatRepository:
    def __init__(self, table: Table) -> None:
        self._table = table

    def beat(self, component: str, now_ms: int, fields: Mapping[str, Value] | None = None) -> None:
        """Say that the component was alive at `now_ms`, and what it has to tell."""
        pk, sk = heartbeat_key(component)
        item: Item = {"pk": pk, "sk": sk, "component": component, "beat_ms": now_ms, "fields": dict(fields or {})}
        self._table.put(item)

    def all(self) -> dict[str, Item]:
        """Return each component's last beat: its fields and `beat_ms` (epoch milliseconds UTC).

        Eventually consistent, for half the price: a beat may be a second older than the newest.
        """
        items = self._table.query(heartbeats_partition(), consistent=False)
        return {str(item["component"]): _flat(item) for item in items}


def _flat(item: Item) -> Item:
    fields = item.get("fields")
    return {**(fields if isinstance(fields, dict) else {}), "beat_ms": item["beat_ms"]}
