"""Where a process stood, so that its successor can go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.storage.blobs import PIECE_BYTES, BlobStore, squeeze, unsqueeze
from shared.storage.schema import checkpoint_key
from shared.storage.table import Table


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`version` counts the writes from 1; hand it back as `expected_version` to write the next one."""

    version: int
    state: dict[str, Any]


class CheckpointRepository:
    """States of any size: JSON-like values and bytes; NaN passes, int and float stay apart."""

    def __init__(self, table: Table, *, piece_bytes: int = PIECE_BYTES) -> None:
        self._blobs = BlobStore(table, piece_bytes=piece_bytes)

    def load(self, name: str) -> Checkpoint | None:
        """Return the newest state and its version."""
        blob = self._blobs.get(checkpoint_key(name))
        return None if blob is None else Checkpoint(blob.version, unsqueeze(blob.data))

    def get(self, name: str) -> dict[str, Any] | None:
        """Return the newest state."""
        found = self.load(name)
        return None if found is None else found.state

    def put(self, name: str, state: Mapping[str, Any], *, expected_version: int | None = None) -> bool:
        """Store the next state. False when another version stands there than expected (0: none; None: any).

        Safe to repeat: a write that timed out and happened is recognised by its content.
        """
        return self._blobs.put(checkpoint_key(name), squeeze(dict(state)), {}, expected_version=expected_version)
