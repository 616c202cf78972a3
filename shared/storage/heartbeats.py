"""Signs of life of the components, for the watchdog and the health page."""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared.storage.schema import heartbeat_key, heartbeats_partition
from shared.storage.table import Item, Table, Value

_STREAMER = re.compile(r"streamer(-\d+)?")


def streamer_name(shard_index: int, shards: int) -> str:
    """Return the name under which one streamer shows itself: its shard's own where there are several."""
    return "streamer" if shards == 1 else f"streamer-{shard_index}"


def streamer_names(shards: int) -> tuple[str, ...]:
    return tuple(streamer_name(index, shards) for index in range(shards))


def is_streamer(name: str) -> bool:
    return _STREAMER.fullmatch(name) is not None


def is_idle(fields: Mapping[str, object]) -> bool:
    """Tell from a streamer's beat that no symbol falls to its shard: it has no trades to show, and lacks none."""
    return fields.get("symbols") == 0


class HeartbeatRepository:
    def __init__(self, table: Table) -> None:
        self._table = table

    def beat(self, component: str, now_ms: int, fields: Mapping[str, Value] | None = None) -> None:
        """Say that the component was alive at `now_ms`, and what it has to tell."""
        pk, sk = heartbeat_key(component)
        item: Item = {"pk": pk, "sk": sk, "component": component, "beat_ms": now_ms, "fields": dict(fields or {})}
        self._table.put(item)

    def of_shards(self, shards: int) -> dict[str, Item]:
        """Return `all` without the streamers of another number of shards: they are gone, and their silence is none."""
        names = streamer_names(shards)
        return {name: item for name, item in self.all().items() if name in names or not is_streamer(name)}

    def all(self) -> dict[str, Item]:
        """Return each component's last beat: its fields and `beat_ms` (epoch milliseconds UTC).

        Eventually consistent, for half the price: a beat may be a second older than the newest.
        """
        items = self._table.query(heartbeats_partition(), consistent=False)
        return {str(item["component"]): _flat(item) for item in items}


def _flat(item: Item) -> Item:
    fields = item.get("fields")
    return {**(fields if isinstance(fields, dict) else {}), "beat_ms": item["beat_ms"]}
