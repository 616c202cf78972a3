"""Values of any size under one key: small ones inside their item, large ones in pieces that the item names.

The pieces are written first, under a generation of their own; then the item, on the condition that its version is
still the one seen. So a reader finds the old value or the new one, whole, whatever dies in between.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from shared.errors import StorageUnavailable
from shared.storage.codec import normal
from shared.storage.schema import chunk_sort, chunks_partition
from shared.storage.table import Absent, Condition, Equals, Item, Key, Table

logger = logging.getLogger(__name__)

T = TypeVar("T")

PIECE_BYTES = 350_000
_BATCH = 10  # pieces read or written at once: some megabytes, not all of the memory
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Blob:
    """`version` counts the writes of its key from 1; `attributes` are what was stored beside the bytes."""

    data: bytes
    version: int
    attributes: Item


class BlobStore:
    def __init__(self, table: Table, *, piece_bytes: int = PIECE_BYTES) -> None:
        self._table = table
        self._piece_bytes = piece_bytes
        self._swept: set[Key] = set()

    def get(self, key: Key) -> Blob | None:
        """Return the newest value. Raises StorageUnavailable when it stays incomplete."""
        for _ in range(_ATTEMPTS):
            item = self._table.get(key)
            if item is None:
                return None
            blob = self.of_item(item)
            if blob is not None:
                return blob
        raise StorageUnavailable(f"{key[0]} {key[1]}: pieces of it are missing; write it again")

    def of_item(self, item: Item) -> Blob | None:
        """Return the value of an item that is at hand; None when a newer write has swept its pieces away."""
        owner, version = (str(item["pk"]), str(item["sk"])), version_of(item)
        attributes = {name: value for name, value in item.items() if name not in _OWN}
        inline = item.get("blob")
        if isinstance(inline, bytes):
            return Blob(inline, version, attributes)
        generation, count = str(item.get("generation", "")), item.get("pieces", 0)
        keys = [_piece_key(owner, version, generation, at) for at in range(count if isinstance(count, int) else 0)]
        pieces: list[bytes] = []
        for at in range(0, len(keys), _BATCH):
            found = self._table.batch_get(keys[at : at + _BATCH], consistent=True)
            for key in keys[at : at + _BATCH]:
                piece = found.get(key, {}).get("blob")
                if not isinstance(piece, bytes):
                    return None
                pieces.append(piece)
        data = b"".join(pieces)
        return Blob(data, version, attributes) if _generation(data) == generation else None

    def put(self, key: Key, data: bytes, attributes: Item, *, expected_version: int | None = None) -> bool:
        """Store the value as the next version; False when `expected_version` (0: nothing) is not what stands there.

        A repeated write whose first answer was lost counts as done when exactly that value is found.
        """
        for _ in range(_ATTEMPTS):
            current = self._table.get(key)
            seen = 0 if current is None else version_of(current)
            if expected_version is not None and seen != expected_version:
                return current is not None and seen == expected_version + 1 and self._is(current, data, attributes)
            if self._put_over(key, data, attributes, current, seen):
                return True
        raise StorageUnavailable(f"{key[0]} {key[1]}: other writers were always faster; ask again")

    def _put_over(self, key: Key, data: bytes, attributes: Item, current: Item | None, seen: int) -> bool:
        item: Item = {**normal(attributes), "pk": key[0], "sk": key[1], "version": seen + 1}
        if len(data) <= self._piece_bytes:
            item["blob"] = data
        else:
            generation = _generation(data)
            starts = range(0, len(data), self._piece_bytes)
            item |= {"generation": generation, "pieces": len(starts)}
            for number, start in enumerate(starts):
                pk, sk = _piece_key(key, seen + 1, generation, number)
                self._table.put({"pk": pk, "sk": sk, "blob": data[start : start + self._piece_bytes]})
        condition: Condition = Absent() if seen == 0 else Equals("version", seen)
        result = self._table.put(item, condition)
        if result.applied or self._is(result.existing, data, attributes):
            self._sweep(key, current, seen, chunk_sort(seen + 1, _generation(data), 0)[:-5])
            return True
        return False

    def _is(self, item: Item | None, data: bytes, attributes: Item) -> bool:
        blob = None if item is None else self.of_item(item)
        return blob is not None and blob.data == data and blob.attributes == normal(attributes)

    def _sweep(self, key: Key, replaced: Item | None, version: int, own: str) -> None:
        """Delete the replaced value's pieces; once per key and process also those that a crash left behind.

        A rival's pieces for the version just written may go too: it will be refused, and writes them anew.
        """
        keys: list[Key] = []
        if key not in self._swept:
            self._swept.add(key)
            left = self._table.query(chunks_partition(key), end=f"{chunk_sort(version + 1, '', 0)[:12]}~")
            keys = [(str(i["pk"]), str(i["sk"])) for i in left if not str(i["sk"]).startswith(own)]
        elif replaced is not None and isinstance(count := replaced.get("pieces"), int):
            generation = str(replaced.get("generation", ""))
            keys = [_piece_key(key, version, generation, number) for number in range(count)]
        for piece in keys:
            self._table.delete(piece)


_OWN = frozenset({"pk", "sk", "version", "blob", "generation", "pieces"})


def version_of(item: Item) -> int:
    version = item.get("version", 0)
    return version if isinstance(version, int) else 0


def squeeze(value: Any, level: int = 1) -> bytes:
    """Return a JSON-like value as compressed MessagePack. NaN and infinity pass; int and float stay apart.

    `level` is zlib's: a higher one pays where a table charges by the kilobyte.
    """
    return zlib.compress(msgspec.msgpack.encode(value), level)


def unsqueeze(data: bytes) -> Any:
    """Return the value. Raises StorageUnavailable when the bytes are damaged."""
    return _unsqueeze(data, Any)


def unsqueeze_row(item: Item, name: str, type_: type[T]) -> T | None:
    """Return what a row holds packed under `name`; None, logged, where it is damaged: as good as not there.

    For rows of which one may lack without harm to the others.
    """
    data = item.get(name)
    try:
        value: T = _unsqueeze(data if isinstance(data, bytes) else b"", type_)
    except StorageUnavailable:
        logger.warning("stored_row_damaged", extra={"pk": item.get("pk"), "sk": item.get("sk")})
        return None
    return value


def _unsqueeze(data: bytes, type_: Any) -> Any:
    try:
        return msgspec.msgpack.decode(zlib.decompress(data), type=type_)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise StorageUnavailable("a stored value is damaged") from exc


def _generation(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _piece_key(owner: Key, version: int, generation: str, number: int) -> Key:
    return chunks_partition(owner), chunk_sort(version, generation, number)
