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


def _kind(pk: str) -> str:
    return pk.partition("#")[0].lower()


class MeteredTable:
    """Passes every call on and counts it.

    `counts` holds `write_units`, `half_read_units` (an eventually consistent read costs half a unit), `calls` and
    `bytes` in all; `written` and `read` hold the same units by the kind of partition, `pk` up to its first "#".
    """

    def __init__(self, table: Table) -> None:
        self._table, self._lock = table, threading.Lock()
        self.counts: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.read: Counter[str] = Counter()

    def reset(self) -> None:
        with self._lock:
            for counter in (self.counts, self.written, self.read):
                counter.clear()

    def _wrote(self, rows: Sequence[tuple[str, Mapping[str, Value] | None]], factor: int = 1) -> None:
        """Count a write of each (pk, item), or of a key alone; in a transaction each counts twice."""
        sized = [(pk, item_bytes(item)) for pk, item in rows]
        with self._lock:
            self.counts["calls"] += 1
            for pk, size in sized:
                units = factor * max(1, math.ceil(size / 1024))
                self.counts["bytes"] += size
                self.counts["write_units"] += units
                self.written[_kind(pk)] += units

    def _got(self, pk: str, items: Iterable[Item | None], consistent: bool) -> None:
        """Count one answer: a query adds its items up before rounding; one without items still costs."""
        size = sum(item_bytes(one) for one in items)
        halves = max(1, math.ceil(size / 4096)) * (2 if consistent else 1)
        with self._lock:
            self.counts["calls"] += 1
            self.counts["bytes"] += size
            self.counts["half_read_units"] += halves
            self.read[_kind(pk)] += halves

    def get(self, key: Key, *, consistent: bool = True) -> Item | None:
        found = self._table.get(key, consistent=consistent)
        self._got(key[0], [found], consistent)
        return found

    def put(self, item: Mapping[str, Value], condition: Condition | None = None) -> WriteResult:
        self._wrote([(str(item["pk"]), item)])
        return self._table.put(item, condition)

    def delete(self, key: Key, condition: Condition | None = None) -> WriteResult:
        self._wrote([(key[0], None)])
        return self._table.delete(key, condition)

    def query(self, pk: str, *, consistent: bool = True, **bounds: Any) -> list[Item]:
        found = self._table.query(pk, consistent=consistent, **bounds)
        self._got(pk, found, consistent)
        return found

    def batch_put(self, items: Iterable[Mapping[str, Value]]) -> None:
        rows = list(items)
        if rows:
            self._wrote([(str(item["pk"]), item) for item in rows])
        self._table.batch_put(rows)

    def batch_get(self, keys: Iterable[Key], *, consistent: bool = False) -> dict[Key, Item]:
        wanted = list(keys)
        found = self._table.batch_get(wanted, consistent=consistent)
        for key in wanted:
            self._got(key[0], [found.get(key)], consistent)
        return found

    def transact(self, writes: Sequence[Write], *, token: str | None = None) -> TransactionResult:
        rows = [(str(one.item["pk"]), one.item) if isinstance(one, Put) else (one.key[0], None) for one in writes]
        self._wrote(rows, factor=2)
        return self._table.transact(writes, token=token)
