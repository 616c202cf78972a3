"""The table: one small vocabulary that DynamoDB and SQLite both speak.

An item is a flat or nested mapping with string keys `pk` and `sk`. Time is never read by a table: where a
condition needs "now", the caller puts it in. `expires_at` (epoch seconds) only tidies up; readers compare it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | dict[str, Value] | None"
Item: TypeAlias = "dict[str, Value]"
Key: TypeAlias = tuple[str, str]


# --- conditions: judged against the item as stored, atomically with the write ---------------------------------
@dataclass(frozen=True, slots=True)
class Absent:
    """No item stands under the key."""


@dataclass(frozen=True, slots=True)
class Equals:
    """The stored item has `attribute` equal to `value`."""

    attribute: str
    value: str | int | float


@dataclass(frozen=True, slots=True)
class AtMost:
    """The stored item has a numeric `attribute` <= `value`; False when there is no item or no such attribute."""

    attribute: str
    value: int | float


@dataclass(frozen=True, slots=True)
class AnyOf:
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    conditions: tuple[Condition, ...]


Condition: TypeAlias = "Absent | Equals | AtMost | AnyOf | AllOf"


# --- writes ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Put:
    item: Mapping[str, Value]
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    key: Key
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Write nothing; the transaction applies only if the condition holds."""

    key: Key
    condition: Condition


Write: TypeAlias = Put | Delete | Check


@dataclass(frozen=True, slots=True)
class WriteResult:
    """`applied` False means the condition did not hold, and `existing` is what stands there instead."""

    applied: bool
    existing: Item | None = None


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """All or nothing. When not applied, `failed` maps the position of each refused write to the item found there."""

    applied: bool
    failed: Mapping[int, Item | None] = field(default_factory=dict)


class Table(Protocol):
    """Every method raises StorageUnavailable (ask again) or StorageMissing (a person must act), nothing else."""

    def get(self, key: Key, *, consistent: bool = True) -> Item | None: ...

    def put(self, item: Mapping[str, Value], condition: Condition | None = None) -> WriteResult: ...

    def delete(self, key: Key, condition: Condition | None = None) -> WriteResult: ...

    def query(
        self,
        pk: str,
        *,
        start: str | None = None,
        end: str | None = None,
        after: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        consistent: bool = True,
    ) -> list[Item]:
        """Return items of one partition, ordered by `sk` (bytewise), all pages followed.

        `start` and `end` are inclusive bounds; `after` is an exclusive cursor in reading direction.
        """
        ...

    def batch_put(self, items: Iterable[Mapping[str, Value]]) -> None:
        """Write many items without conditions; leftovers are sent again until none is left."""
        ...

    def batch_get(self, keys: Iterable[Key], *, consistent: bool = False) -> dict[Key, Item]: ...

    def transact(self, writes: Sequence[Write], *, token: str | None = None) -> TransactionResult:
        """Apply up to 100 writes to distinct keys, all or nothing.

        With the same `token` and the same writes, asking again is safe: an earlier success is success. A token is
        good for ten minutes.
        """
        ...
