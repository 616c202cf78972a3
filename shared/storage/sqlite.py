"""The table in one SQLite file: what a single machine needs instead of DynamoDB."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shared.errors import StorageMissing, StorageUnavailable
from shared.storage.codec import check_key, key_of, normal, pack, unpack
from shared.storage.conditions import holds
from shared.storage.sqlite_errors import translated
from shared.storage.table import (
    Condition,
    Delete,
    Item,
    Key,
    Put,
    TransactionResult,
    Value,
    Write,
    WriteResult,
)
from shared.storage.writes import check_writes

FORMAT = 1
_APPLICATION_ID = 0x54415057  # "TAPW": tells our files from other people's
_TOKEN_LIFE_S = 600  # DynamoDB's

_SCHEMA = """
CREATE TABLE items (
    pk TEXT NOT NULL, sk TEXT NOT NULL, body BLOB NOT NULL, expires_at INTEGER, PRIMARY KEY (pk, sk)
);
CREATE INDEX items_expiring ON items (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE tokens (token TEXT PRIMARY KEY, digest BLOB NOT NULL, used_s INTEGER NOT NULL) WITHOUT ROWID;
"""
_PUT = (
    "INSERT INTO items (pk, sk, body, expires_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (pk, sk) DO UPDATE SET body = excluded.body, expires_at = excluded.expires_at"
)
_GET = "SELECT body FROM items WHERE pk = ? AND sk = ?"
_DELETE = "DELETE FROM items WHERE pk = ? AND sk = ?"


class SqliteTable:
    """A Table in one file, safe to share between threads and between processes.

    A write-ahead log lets readers and one writer work side by side; each write is one transaction, which survives
    the death of the process (a power cut may take the last ones, never the file). `path` may be ":memory:".
    The file and its folder are made when absent, unless `create` is False. `wall_s` (epoch seconds) only ages
    the tokens of transactions.

    Raises:
        StorageMissing: the file cannot be made or read, or is not ours.
        StorageUnavailable: it is locked or the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        create: bool = True,
        busy_s: float = 10.0,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.path = str(path)
        self._busy_s = busy_s
        self._wall_s = wall_s
        self._lock = threading.RLock()
        if self.path != ":memory:":
            _prepare_file(Path(self.path), create)
        with translated(self.path):
            self._db = sqlite3.connect(self.path, timeout=busy_s, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def _open(self) -> None:
        db = self._db
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -16000")
        with self._writing():
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (owner,) = db.execute("PRAGMA application_id").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {FORMAT}")
            elif owner != _APPLICATION_ID:
                raise StorageMissing(f"{self.path} is a database of another program: name another file")
            elif version > FORMAT:
                raise StorageMissing(
                    f"{self.path} was written by a newer version (format {version}, this one knows {FORMAT}):"
                    " upgrade, or name another file"
                )

    def close(self) -> None:
        """Close the file; every later call raises StorageUnavailable."""
        with self._lock:
            self._db.close()

    # --- reading -----------------------------------------------------------------------------------------
    def get(self, key: Key, *, consistent: bool = True) -> Item | None:
        pk, sk = check_key(key)
        with self._lock, translated(self.path):
            row = self._db.execute(_GET, (pk, sk)).fetchone()
        return None if row is None else self._unpack(row[0])

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
        check_key((pk, "-"))
        where, values = ["pk = ?"], [pk]
        for clause, bound in (("sk >= ?", start), ("sk <= ?", end), ("sk < ?" if reverse else "sk > ?", after)):
            if bound is not None:
                where.append(clause)
                values.append(bound)
        order = "DESC" if reverse else "ASC"
        sql = f"SELECT body FROM items WHERE {' AND '.join(where)} ORDER BY sk {order} LIMIT ?"  # noqa: S608 - fixed words
        with self._lock, translated(self.path):
            rows = self._db.execute(sql, (*values, -1 if limit is None else max(0, limit))).fetchall()
        return [self._unpack(body) for (body,) in rows]

    def batch_get(self, keys: Iterable[Key], *, consistent: bool = False) -> dict[Key, Item]:
        wanted = dict.fromkeys(check_key(key) for key in keys)
        with self._lock, translated(self.path):
            rows = {key: self._db.execute(_GET, key).fetchone() for key in wanted}
        return {key: self._unpack(row[0]) for key, row in rows.items() if row is not None}

    # --- writing -----------------------------------------------------------------------------------------
    def put(self, item: Mapping[str, Value], condition: Condition | None = None) -> WriteResult:
        return self._write_one(Put(item, condition))

    def delete(self, key: Key, condition: Condition | None = None) -> WriteResult:
        return self._write_one(Delete(key, condition))

    def batch_put(self, items: Iterable[Mapping[str, Value]]) -> None:
        rows = [_row(item) for item in items]
        with self._writing():
            self._db.executemany(_PUT, rows)

    def transact(self, writes: Sequence[Write], *, token: str | None = None) -> TransactionResult:
        plans = [self._plan(write) for write in check_writes(writes)]
        digest = b"" if token is None else _digest(writes)
        with self._writing() as undo:
            if token is not None and self._done_before(token, digest):
                return TransactionResult(True)
            failed: dict[int, Item | None] = {}
            for position, (write, key, _) in enumerate(plans):
                if write.condition is not None:
                    existing = self._stored(key)
                    if not holds(write.condition, existing):
                        failed[position] = existing
            if failed:
                undo()
                return TransactionResult(False, failed)
            for plan in plans:
                self._apply(plan)
            if token is not None:
                self._db.execute("INSERT INTO tokens VALUES (?, ?, ?)", (token, digest, int(self._wall_s())))
        return TransactionResult(True)

    def purge_expired(self, now_s: int) -> int:
        """Delete the items whose `expires_at` (epoch seconds) is at or before `now_s`; return how many."""
        with self._writing():
            return self._db.execute("DELETE FROM items WHERE expires_at <= ?", (now_s,)).rowcount

    # --- inside ------------------------------------------------------------------------------------------
    @contextmanager
    def _writing(self) -> Iterator[Callable[[], None]]:
        """Hold the write lock of this process and of the file; commit at the end, or roll back."""
        rolled_back = False

        def undo() -> None:
            nonlocal rolled_back
            rolled_back = True

        with self._lock, translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield undo
                self._db.execute("ROLLBACK" if rolled_back else "COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _write_one(self, write: Put | Delete) -> WriteResult:
        plan = self._plan(write)
        if write.condition is None:  # one statement is a transaction of its own
            with self._lock, translated(self.path):
                self._apply(plan)
            return WriteResult(True)
        with self._writing() as undo:
            existing = self._stored(plan[1])
            if not holds(write.condition, existing):
                undo()
                return WriteResult(False, existing)
            self._apply(plan)
        return WriteResult(True)

    def _plan(self, write: Write) -> _Plan:
        if isinstance(write, Put):
            row = _row(write.item)
            return write, (row[0], row[1]), row
        return write, check_key(write.key), None

    def _apply(self, plan: _Plan) -> None:
        write, key, row = plan
        if isinstance(write, Put):
            self._db.execute(_PUT, row or ())
        elif isinstance(write, Delete):
            self._db.execute(_DELETE, key)

    def _stored(self, key: Key) -> Item | None:
        row = self._db.execute(_GET, key).fetchone()
        return None if row is None else self._unpack(row[0])

    def _done_before(self, token: str, digest: bytes) -> bool:
        self._db.execute("DELETE FROM tokens WHERE used_s <= ?", (int(self._wall_s()) - _TOKEN_LIFE_S,))
        row = self._db.execute("SELECT digest FROM tokens WHERE token = ?", (token,)).fetchone()
        if row is not None and row[0] != digest:
            raise ValueError("this token was used for other writes within the last ten minutes")
        return row is not None

    def _unpack(self, body: bytes) -> Item:
        try:
            return unpack(body)
        except msgspec.DecodeError as exc:
            raise StorageUnavailable(
                f"{self.path} holds an item that cannot be read: restore it or move it away"
            ) from exc


_Row = tuple[str, str, bytes, int | None]
_Plan = tuple[Write, Key, _Row | None]


def _row(item: Mapping[str, Value]) -> _Row:
    pk, sk = key_of(item)
    expires_at = item.get("expires_at")
    expires = int(expires_at) if isinstance(expires_at, (int, float)) and not isinstance(expires_at, bool) else None
    return pk, sk, pack(item), expires


def _digest(writes: Sequence[Write]) -> bytes:
    parts = [
        repr((type(write).__name__, normal(write.item) if isinstance(write, Put) else write.key, write.condition))
        for write in writes
    ]
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _prepare_file(path: Path, create: bool) -> None:
    try:
        if path.is_dir():
            raise StorageMissing(f"{path} is a folder: name a file")
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise StorageMissing(f"there is no state file at {path}: start `tapewatch run` first, or name another file")
    except OSError as exc:
        raise StorageMissing(f"the folder {path.parent} cannot be used: {exc.strerror}; name another file") from exc
