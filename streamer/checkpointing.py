"""Keep the session across restarts: what closed and where the stream stands, in one transaction.

A symbol's position (ids, open windows, the trade-spike ring) is small and is written with its closed windows, all or
nothing; the anomaly detector's memory is large, is written now and then, and is brought up to date from the stored
windows behind it. Every transaction checks the shard's lease and the version of each position it replaces, so of two
streamers that believe to be the owner only one is believed by the table.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.detection.forest import FlatForest
from shared.detection.window_anomaly import WindowVerdict
from shared.errors import StorageUnavailable
from shared.market.model import Market
from shared.storage.blobs import squeeze, unsqueeze
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.lease import Lease
from shared.storage.models import ModelRepository
from shared.storage.schema import checkpoint_key
from shared.storage.table import Absent, Equals, Item, Put, Table, Write
from shared.storage.windows import WindowRepository
from streamer.session import Session

logger = logging.getLogger(__name__)

_MOST_WRITES = 99  # of 100 in a transaction: one is the lease's
_FAR_MS = 10**14
_MOST_ROWS = 2_000  # more windows than a detector remembers


@dataclass(frozen=True, slots=True)
class Stored:
    """What storage knows of a symbol; `version` is 0 where it was never stored, None where that is unknown."""

    symbol: str
    version: int | None
    snapshot: dict[str, Any] | None = None
    model: tuple[bytes, int] | None = None
    memory: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    damaged: bool = False


class Checkpoints:
    """Loads and stores a session, symbol by symbol. Not thread-safe: one thread writes."""

    def __init__(self, table: Table, market: Market, *, retention_s: int | None = None) -> None:
        self._table = table
        self._memories = CheckpointRepository(table)
        self._models = ModelRepository(table)
        self._windows = WindowRepository(table, retention_s=retention_s)
        self._market = market
        self._versions: dict[str, int] = {}
        self.refused = 0  # transactions that another owner's fence or version stopped

    def restore(self, session: Session) -> tuple[int, list[str]]:
        """Let a fresh session continue; return how many symbols do, and those whose stored state was unusable.

        An unusable state (damaged, of another version or other settings) is left out: its symbol learns anew.
        """
        continued, unusable = 0, []
        for symbol in session.symbols:
            known = self.apply(session, self.read((symbol,)))
            continued += known[0]
            unusable += known[1]
        return continued, unusable

    def read(self, symbols: Sequence[str]) -> list[Stored]:
        """Read what is stored of these symbols; it changes nothing here, so any thread may."""
        return [self._read(symbol) for symbol in symbols]

    def apply(self, session: Session, stored: Sequence[Stored]) -> tuple[int, list[str]]:
        """Let the session's symbols continue from what was read; the same answer as `restore`."""
        continued, unusable = 0, []
        for one in stored:
            if one.version is not None:
                self._versions[one.symbol] = one.version
            if one.snapshot is not None and session.restore(
                one.symbol, one.snapshot, one.model, memory=one.memory, rows=one.rows
            ):
                continued += 1
            elif one.snapshot is not None or one.damaged:
                unusable.append(one.symbol)
        return continued, unusable

    def _read(self, symbol: str) -> Stored:
        version: int | None = None
        try:
            item = self._table.get(self._key(symbol))
            if item is None:
                return Stored(symbol, 0)
            found, blob = item.get("version"), item.get("blob")
            version = found if isinstance(found, int) else 0
            snapshot = unsqueeze(blob) if isinstance(blob, bytes) else {}
            memory = self._memories.get(self._memory_name(symbol))
            rows = self._rows(symbol, -1 if memory is None else int(memory.get("through_ms", -1)))
        except StorageUnavailable as exc:
            logger.warning("checkpoint_unreadable", extra={"symbol": symbol, "reason": str(exc)})
            return Stored(symbol, version, damaged=True)
        return Stored(symbol, version, snapshot, self.model(symbol), memory, rows)

    def _rows(self, symbol: str, after_ms: int) -> list[dict[str, Any]]:
        rows = self._windows.range(self._market.value, symbol, after_ms + 1, _FAR_MS, limit=_MOST_ROWS, reverse=True)
        return rows[::-1]

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

    def save(
        self,
        verdicts: Sequence[WindowVerdict],
        snapshots: Mapping[str, Mapping[str, Any]],
        lease: Lease | None,
    ) -> bool:
        """Store closed windows together with the positions behind them; False: another owner has taken over.

        A symbol's windows and position always stand in the same transaction. Repeating it is safe, also when an
        answer was lost.

        Raises:
            StorageUnavailable: ask again.
        """
        judged: dict[str, list[WindowVerdict]] = {symbol: [] for symbol in snapshots}
        for verdict in verdicts:
            judged.setdefault(verdict.window.symbol, []).append(verdict)
        by_symbol = {symbol: self._windows.items(mine) for symbol, mine in judged.items()}
        group: list[Write] = []
        moved: dict[str, int] = {}
        for symbol, rows in by_symbol.items():
            writes: list[Write] = [Put(row) for row in rows[-(_MOST_WRITES - 1) :]]
            if symbol in snapshots:
                version = self._versions.get(symbol, 0)
                writes.append(
                    Put(
                        self._position(symbol, snapshots[symbol], version + 1),
                        Absent() if version == 0 else Equals("version", version),
                    )
                )
            for row in rows[: -(_MOST_WRITES - 1)]:
                self._table.batch_put([row])  # a long recovery: the oldest go ahead, the position stays behind
            if len(group) + len(writes) > _MOST_WRITES:
                if not self._commit(group, moved, lease):
                    return False
                group, moved = [], {}
            group += writes
            if symbol in snapshots:
                moved[symbol] = self._versions.get(symbol, 0) + 1
        return not group or self._commit(group, moved, lease)

    def _commit(self, writes: list[Write], moved: Mapping[str, int], lease: Lease | None) -> bool:
        guarded = [lease.check(), *writes] if lease is not None else writes
        result = self._table.transact(guarded)
        if not result.applied and not self._ours(guarded, result.failed):
            self.refused += 1
            return False
        self._versions.update(moved)
        return True

    @staticmethod
    def _ours(writes: Sequence[Write], failed: Mapping[int, Item | None]) -> bool:
        """Tell whether every refused write is refused by itself: it was written, and the answer was lost."""
        for at, existing in failed.items():
            write = writes[at]
            if not isinstance(write, Put) or existing is None:
                return False
            if existing.get("version") != write.item["version"] or existing.get("blob") != write.item["blob"]:
                return False
        return True

    def save_memories(self, memories: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the detectors' memories; repeating it is safe."""
        for symbol, memory in memories.items():
            self._memories.put(self._memory_name(symbol), memory)

    def save_model(self, symbol: str, model: FlatForest, after_n: int) -> None:
        """Store a symbol's model in place of the one before."""
        self._models.put(self._market.value, symbol, model.to_bytes(), {"after_n": after_n})

    def _position(self, symbol: str, snapshot: Mapping[str, Any], version: int) -> Item:
        pk, sk = self._key(symbol)
        return {"pk": pk, "sk": sk, "version": version, "blob": squeeze(dict(snapshot))}

    def _key(self, symbol: str) -> tuple[str, str]:
        return checkpoint_key(f"streamer/{self._market.value}/{symbol}")

    def _memory_name(self, symbol: str) -> str:
        return f"streamer/{self._market.value}/{symbol}/memory"
