"""Which futures are watched and in which sectors: one item for each change, so that any minute can be told its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from shared.market.universe import Universe
from shared.storage.blobs import squeeze, unsqueeze
from shared.storage.schema import time_key, universe_partition
from shared.storage.table import Absent, Item, Table


class UniverseRepository:
    def __init__(self, table: Table) -> None:
        self._table = table

    def at(self, minute_ms: int) -> tuple[int, Universe] | None:
        """Return the universe in force at a minute and the minute from which it holds; the oldest for times before.

        None when none is stored yet.
        """
        pk = universe_partition()
        found = self._table.query(pk, end=time_key(max(0, minute_ms)), reverse=True, limit=1)
        found = found or self._table.query(pk, limit=1)
        return _read(found[0]) if found else None

    def between(self, start_ms: int, end_ms: int) -> list[tuple[int, Universe]]:
        """Return the changes within [start_ms, end_ms), ascending."""
        if end_ms <= max(0, start_ms):
            return []
        items = self._table.query(universe_partition(), start=time_key(max(0, start_ms)), end=time_key(end_ms - 1))
        return [_read(item) for item in items]

    def put(self, from_ms: int, benchmark: str, sectors: Mapping[str, Collection[str]]) -> bool:
        """Let a universe hold from a minute on; False when one stands there already, which then stays."""
        rows = {name: sorted(symbols) for name, symbols in sectors.items()}
        item: Item = {
            "pk": universe_partition(),
            "sk": time_key(from_ms),
            "rows": squeeze({"benchmark": benchmark, "sectors": rows}),
        }
        return self._table.put(item, Absent()).applied


def _read(item: Item) -> tuple[int, Universe]:
    packed = item.get("rows")
    stored = unsqueeze(packed if isinstance(packed, bytes) else b"")
    return int(str(item["sk"])), Universe(stored["benchmark"], stored["sectors"])
