"""Fitted models, one per market and symbol, as bytes that only their own code can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.storage.blobs import PIECE_BYTES, BlobStore
from shared.storage.schema import model_key
from shared.storage.table import Item, Table, Value


@dataclass(frozen=True, slots=True)
class StoredModel:
    blob: bytes
    meta: Item


class ModelRepository:
    def __init__(self, table: Table, *, piece_bytes: int = PIECE_BYTES) -> None:
        self._blobs = BlobStore(table, piece_bytes=piece_bytes)

    def put(self, market: str, symbol: str, blob: bytes, meta: Mapping[str, Value]) -> None:
        """Replace the symbol's model. A reader sees the old one or the new one, whole."""
        self._blobs.put(model_key(market, symbol), blob, {"meta": dict(meta)})

    def get(self, market: str, symbol: str) -> StoredModel | None:
        """Return the symbol's model, None when it has none.

        Raises:
            StorageUnavailable: no answer, or pieces of it are missing.
        """
        found = self._blobs.get(model_key(market, symbol))
        if found is None:
            return None
        meta = found.attributes.get("meta")
        return StoredModel(found.data, meta if isinstance(meta, dict) else {})
