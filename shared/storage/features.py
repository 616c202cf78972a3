"""The sector features, one packed item a minute."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from shared.errors import StorageUnavailable
from shared.storage.blobs import BlobStore, squeeze, unsqueeze
from shared.storage.packed_features import VERSION, pack_features, unpack_features
from shared.storage.schema import features_partition, time_key
from shared.storage.table import Item, Table


class FeatureRepository:
    """`retention_s` sets when a minute may be deleted, counted from the minute itself."""

    def __init__(self, table: Table, *, retention_s: int | None = None) -> None:
        self._table = table
        self._blobs = BlobStore(table)
        self._retention_s = retention_s

    def put(self, minute_ms: int, features: Mapping[str, Any]) -> None:
        """Store a minute's features (`SymbolFeatures.to_json` by symbol); a repeated minute is replaced."""
        attributes: Item = {}
        if self._retention_s is not None:
            attributes["expires_at"] = minute_ms // 1000 + self._retention_s
        packed = pack_features(features) or squeeze(dict(features))
        self._blobs.put((features_partition(), time_key(minute_ms)), packed, attributes)

    def get(self, minute_ms: int) -> dict[str, Any] | None:
        """Return one minute's features."""
        blob = self._blobs.get((features_partition(), time_key(minute_ms)))
        return None if blob is None else _read(blob.data)

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """Return the newest stored minute and its features."""
        newest = self._table.query(features_partition(), reverse=True, limit=1)
        return self._read(newest[0]) if newest else None

    def range(self, start_ms: int, end_ms: int) -> list[tuple[int, dict[str, Any]]]:
        """Return the stored minutes of [start_ms, end_ms) in ascending order."""
        if end_ms <= max(0, start_ms):
            return []
        start, end = time_key(max(0, start_ms)), time_key(end_ms - 1)
        return [self._read(item) for item in self._table.query(features_partition(), start=start, end=end)]

    def of_symbol(self, symbol: str, start_ms: int, end_ms: int) -> list[dict[str, Any]]:
        """Return one symbol's rows of [start_ms, end_ms), ascending; other symbols are not decoded."""
        if end_ms <= max(0, start_ms):
            return []
        start, end = time_key(max(0, start_ms)), time_key(end_ms - 1)
        found = (
            _one(self._data(item), symbol) for item in self._table.query(features_partition(), start=start, end=end)
        )
        return [dict(row) for row in found if row is not None]

    def _read(self, item: Item) -> tuple[int, dict[str, Any]]:
        return int(str(item["sk"])), _read(self._data(item))

    def _data(self, item: Item) -> bytes:
        minute_ms = int(str(item["sk"]))
        blob = self._blobs.of_item(item) or self._blobs.get((features_partition(), time_key(minute_ms)))
        if blob is None:
            raise StorageUnavailable(f"the features of {minute_ms} were deleted while being read; ask again")
        return blob.data


@lru_cache(maxsize=1024)
def _one(data: bytes, symbol: str) -> dict[str, Any] | None:
    """Return one symbol's row of a stored minute.

    Kept, because a page asks for the same minutes again and again; a thousand minutes of 500 symbols are some 20 MB.
    """
    return _read(data).get(symbol)


def _read(data: bytes) -> dict[str, Any]:
    """Read either form: packed (its first byte is the version), or what was stored before, compressed MessagePack."""
    if data[:1] == bytes((VERSION,)):
        return unpack_features(data)
    found: dict[str, Any] = unsqueeze(data)
    return found
