"""Count what a table's writes and reads would cost on DynamoDB: a write unit is 1 KB of an item, a read unit 4 KB."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.storage.table import (
    Check,
    Condition,
    Delete,
    Item,
    Key,
    Put,
    Table,
    TransactionResult,
    Value,
    Write,
    WriteResult,
)


def item_bytes(value: Any) -> int:
    """Return an item's size as DynamoDB counts it: names and values in UTF-8, 3 bytes more for a map or a list."""
    if isinstance(value, Mapping):
        return 3 + sum(len(str(name).encode()) + item_bytes(one) + 1 for name, one in value.items())
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, str):
        return len(value.encode(errors="surrogatepass"))
    if isinstance(value, bool) or value is None:
        return 1
    if isinstance(value, int | float):
        return len(str(value)) // 2 + 2
    return 3 + sum(item_bytes(one) + 1 for one in value)


def write_units(item: Mapping[str, Any]) -> int:
    return max(1, math.ceil((item_bytes(item) - 3) / 1024))


class MeteredTable:
    """A table that passes every call on and counts units by partition; a transaction's writes count twice."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.written: Counter[str] = Counter()
        self.read: Counter[str] = Counter()

    def reset(self) -> None:
        self.written.clear()
        self.read.clear()

    def get(self, key: Key, *, consistent: bool = True) -> Item | None:
        item = self._table.get(key, consistent=consistent)
        self._note_read(key[0], [item] if item else [], consistent)
        return item

    def put(self, item: Mapping[str, Value], condition: Condition | None = None) -> WriteResult:
        self._note(item, 1)
        return self._table.put(item, condition)

    def delete(self, key: Key, condition: Condition | None = None) -> WriteResult:
        self.written[_kind(key[0])] += 1
        return self._table.delete(key, condition)

    def query(self, pk: str, *, consistent: bool = True, **bounds: Any) -> list[Item]:
        items = self._table.query(pk, consistent=consistent, **bounds)
        self._note_read(pk, items, consistent)
        return items

    def batch_put(self, items: Iterable[Mapping[str, Value]]) -> None:
        rows = list(items)
        for item in rows:
            self._note(item, 1)
        self._table.batch_put(rows)

    def batch_get(self, keys: Iterable[Key], *, consistent: bool = False) -> dict[Key, Item]:
        found = self._table.batch_get(keys, consistent=consistent)
        for (pk, _), item in found.items():
            self._note_read(pk, [item], consistent)
        return found

    def transact(self, writes: Sequence[Write], *, token: str | None = None) -> TransactionResult:
        for write in writes:
            if isinstance(write, Put):
                self._note(write.item, 2)
            elif isinstance(write, Delete | Check):
                self.written[_kind(write.key[0])] += 2
        return self._table.transact(writes, token=token)

    def _note(self, item: Mapping[str, Any], factor: int) -> None:
        self.written[_kind(str(item["pk"]))] += factor * write_units(item)

    def _note_read(self, pk: str, items: Sequence[Item], consistent: bool) -> None:
        """A query adds its items up before rounding; an answer without any costs half a unit at least."""
        size = sum(item_bytes(item) - 3 for item in items)
        self.read[_kind(pk)] += max(1, math.ceil(size / 4096)) * (2 if consistent else 1)  # in half units


def _kind(pk: str) -> str:
    return pk.partition("#")[0].lower()
