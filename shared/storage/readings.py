"""Readings by minute: every symbol's numbers of one sample in one packed item, of any kind of reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.storage.blobs import squeeze, unsqueeze_row
from shared.storage.schema import time_key, word
from shared.storage.table import Item, Table

Rows = dict[str, dict[str, Any]]

_VERSION = 1
_LEVEL = 6  # zlib's: a row is written each minute and read rarely, and DynamoDB charges by the kilobyte
_LOOK_PAST = 5
_MAX_BYTES = 350_000  # an item may hold 400 KB


def _pk(kind: str) -> str:
    return f"READINGS#{word(kind)}"


class ReadingRepository:
    """Rows are `symbol -> JSON-ready values`; `kind` names the detector (or another minute-wise sum).

    `retention_s` sets when an instant's rows may be deleted, counted from the instant itself. A row that is damaged, or
    that another version wrote, counts as not there: read as empty it would say that nothing had happened.
    """

    def __init__(self, table: Table, *, retention_s: int | None = None) -> None:
        self._table = table
        self._retention_s = retention_s

    def put(self, kind: str, at_ms: int, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the rows of one instant in place of what stood there: writing the same again changes nothing."""
        self._table.put(self._item(kind, at_ms, rows))

    def put_many(self, kind: str, rows_by_time: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> None:
        self._table.batch_put([self._item(kind, at_ms, rows) for at_ms, rows in sorted(rows_by_time.items())])

    def get(self, kind: str, at_ms: int) -> Rows | None:
        item = self._table.get((_pk(kind), time_key(at_ms)))
        return None if item is None else _unpack(item)

    def range(self, kind: str, start_ms: int, end_ms: int) -> list[tuple[int, Rows]]:
        """Return (time, rows) ascending, of [start_ms, end_ms)."""
        if end_ms <= max(0, start_ms):
            return []
        items = self._table.query(_pk(kind), start=time_key(max(0, start_ms)), end=time_key(end_ms - 1))
        found = [(int(str(item["sk"])), _unpack(item)) for item in items]
        return [(at_ms, rows) for at_ms, rows in found if rows is not None]

    def latest(self, kind: str) -> tuple[int, Rows] | None:
        """Return the newest instant and its rows, looking past a few that cannot be read."""
        for most in (1, _LOOK_PAST):  # nearly always the first one will do
            for item in self._table.query(_pk(kind), reverse=True, limit=most):
                if (rows := _unpack(item)) is not None:
                    return int(str(item["sk"])), rows
        return None

    def _item(self, kind: str, at_ms: int, rows: Mapping[str, Mapping[str, Any]]) -> Item:
        blob = squeeze(rows, _LEVEL)
        if len(blob) > _MAX_BYTES:
            raise ValueError(f"readings of {kind} need {len(blob)} bytes; an item may hold {_MAX_BYTES}")
        item: Item = {"pk": _pk(kind), "sk": time_key(at_ms), "v": _VERSION, "rows": blob}
        if self._retention_s is not None:
            item["expires_at"] = at_ms // 1000 + self._retention_s
        return item


def _unpack(item: Item) -> Rows | None:
    return unsqueeze_row(item, "rows", Rows) if item.get("v") == _VERSION else None
