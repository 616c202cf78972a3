"""Past volume ratios by phase of the hour: one partition holds a week of one phase, which is what a rarity asks for."""

from __future__ import annotations

from collections.abc import Mapping

from shared.clock import HOUR_MS, MINUTE_MS
from shared.storage.blobs import squeeze, unsqueeze_row
from shared.storage.schema import time_key
from shared.storage.table import Item, Table

Ratios = dict[str, float]

_VERSION = 1


def _pk(at_ms: int) -> str:
    return f"RATIOS#{at_ms % HOUR_MS // MINUTE_MS:02d}"


class RatioRepository:
    """Every symbol's ratio of one minute in one small item.

    The readings hold the same figures among others, a minute beside the next; read from there, a week of one phase is
    168 items at half a read unit each. Here it is one query.
    """

    def __init__(self, table: Table, *, retention_s: int | None = None) -> None:
        self._table = table
        self._retention_s = retention_s

    def put(self, at_ms: int, ratios: Mapping[str, float]) -> None:
        """Store one minute's ratios in place of what stood there."""
        self._table.put(self._item(at_ms, ratios))

    def put_many(self, ratios_by_time: Mapping[int, Mapping[str, float]]) -> None:
        self._table.batch_put([self._item(at_ms, ratios) for at_ms, ratios in sorted(ratios_by_time.items())])

    def phase(self, first_ms: int, last_ms: int) -> dict[int, Ratios]:
        """Return the stored minutes from `first_ms` to `last_ms`, whole hours apart; eventually consistent."""
        pk, start, end = _pk(first_ms), time_key(max(0, first_ms)), time_key(last_ms)
        items = self._table.query(pk, start=start, end=end, consistent=False)
        return {int(str(item["sk"])): _unpack(item) for item in items}

    def _item(self, at_ms: int, ratios: Mapping[str, float]) -> Item:
        item: Item = {"pk": _pk(at_ms), "sk": time_key(at_ms), "v": _VERSION, "ratios": squeeze(dict(ratios))}
        if self._retention_s is not None:
            item["expires_at"] = at_ms // 1000 + self._retention_s
        return item


def _unpack(item: Item) -> Ratios:
    if item.get("v") != _VERSION:
        return {}  # written by a version that this one does not know: as good as not there
    return unsqueeze_row(item, "ratios", Ratios) or {}
