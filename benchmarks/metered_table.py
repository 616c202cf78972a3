"""A table that counts what its calls would cost on DynamoDB: write units of 1 KB, read units of 4 KB."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.storage.codec import to_attributes
from shared.storage.table import (
    Condition,
    Item,
    Key,
    Put,
    Table,
    TransactionResult,
    Value,
    Write,
    WriteResult,
)  # fmt: skip


def item_bytes(item: Mapping[str, Value] | None) -> int:
    """Return an item's size by DynamoDB's rule: names and values, numbers at two digits a byte."""
    return 0 if item is None else sum(len(name.encode()) + _bytes(one) for name, one in to_attributes(item).items())


def _bytes(attribute: Mapping[str, Any]) -> int:
    [(kind, value)] = attribute.items()
    if kind == "S":
        return len(value.encode())
    if kind == "N":
        return len(value.strip("-0.")) // 2 + 2
    if kind == "B":
        return len(value)
    if kind == "L":
        return 3 + sum(1 + _bytes(one) for one in value)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _bytes(one) for name, one in value.items())
    return 1


class MeteredTable:
    """Passes every call on and adds up `write_units`, `read_units`, `calls` and `bytes` in `.counts`."""

    def __init__(self, table: Table) -> None:
        self._table, self._lock = table, threading.Lock()
        self.counts: Counter[str] = Counter()

    def _wrote(self, *items: Mapping[str, Value] | None, factor: int = 1) -> None:
        sizes = [item_bytes(one) for one in items]
        with self._lock:
            self.counts["calls"] += 1
            self.counts["bytes"] += sum(sizes)
            self.counts["write_units"] += sum(factor * max(1, math.ceil(size / 1024)) for size in sizes)

    def _read(self, size: int, consistent: bool) -> None:
        with self._lock:
            self.counts["calls"] += 1
            self.counts["bytes"] += size
            self.counts["half_read_units"] += max(1, math.ceil(size / 4096)) * (2 if consistent else 1)

    def get(self, key: Key, *, consistent: bool = True) -> Item | None:
        found = self._table.get(key, consistent=consistent)
        self._read(item_bytes(found), consistent)
        return found

    def put(self, item: Mapping[str, Value], condition: Condition | None = None) -> WriteResult:
        self._wrote(item)
        return self._table.put(item, condition)

    def delete(self, key: Key, condition: Condition | None = None) -> WriteResult:
        self._wrote(None)
        return self._table.delete(key, condition)

    def query(self, pk: str, **words: Any) -> list[Item]:
        found = self._table.query(pk, **words)
        self._read(sum(item_bytes(one) for one in found), words.get("consistent", True))
        return found

    def batch_put(self, items: Iterable[Mapping[str, Value]]) -> None:
        rows = list(items)
        if rows:
            self._wrote(*rows)
        self._table.batch_put(rows)

    def batch_get(self, keys: Iterable[Key], *, consistent: bool = False) -> dict[Key, Item]:
        wanted = list(keys)
        found = self._table.batch_get(wanted, consistent=consistent)
        for key in wanted:
            self._read(item_bytes(found.get(key)), consistent)
        return found

    def transact(self, writes: Sequence[Write], *, token: str | None = None) -> TransactionResult:
        self._wrote(*(one.item if isinstance(one, Put) else None for one in writes), factor=2)
        return self._table.transact(writes, token=token)
