"""Keep the session across restarts: one checkpoint per symbol, its model beside it.

A symbol's position, open windows and detectors stand in one value, so a kill can only lose whole checkpoints, never
half of one. A checkpoint is written behind the actions of the trades it covers, in the same order: what it claims
to have done has been done.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from shared.detection.forest import FlatForest
from shared.errors import StorageUnavailable
from shared.market.model import Market
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.models import ModelRepository
from shared.storage.table import Table
from streamer.session import Session

logger = logging.getLogger(__name__)


class Checkpoints:
    """Loads and stores a session, symbol by symbol."""

    def __init__(self, table: Table, market: Market) -> None:
        self._states = CheckpointRepository(table)
        self._models = ModelRepository(table)
        self._market = market

    def restore(self, session: Session) -> tuple[int, list[str]]:
        """Let a fresh session continue; return how many symbols do, and those whose stored state was unusable.

        An unusable state (damaged, of another version or other settings) is left out: its symbol learns anew.
        """
        continued, unusable = 0, []
        for symbol in session.symbols:
            try:
                snapshot = self._states.get(self._name(symbol))
            except StorageUnavailable as exc:
                logger.warning("checkpoint_unreadable", extra={"symbol": symbol, "reason": str(exc)})
                unusable.append(symbol)
                continue
            if snapshot is None:
                continue
            if session.restore(symbol, snapshot, self.model(symbol)):
                continued += 1
            else:
                unusable.append(symbol)
        return continued, unusable

    def model(self, symbol: str) -> tuple[bytes, int] | None:
        """Return the stored model's bytes and the windows it was fitted after; None when there is none to be had."""
        try:
            stored = self._models.get(self._market.value, symbol)
        except StorageUnavailable as exc:
            logger.warning("model_unreadable", extra={"symbol": symbol, "reason": str(exc)})
            return None
        if stored is None:
            return None
        after_n = stored.meta.get("after_n")
        return (stored.blob, after_n) if isinstance(after_n, int) else None

    def save(self, snapshots: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the states; repeating it is safe. Raises StorageUnavailable: ask again."""
        for symbol, snapshot in snapshots.items():
            self._states.put(self._name(symbol), snapshot)

    def save_model(self, symbol: str, model: FlatForest, after_n: int) -> None:
        """Store a symbol's model in place of the one before."""
        self._models.put(self._market.value, symbol, model.to_bytes(), {"after_n": after_n})

    def _name(self, symbol: str) -> str:
        return f"streamer/{self._market.value}/{symbol}"
