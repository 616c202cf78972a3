"""SQLite's failures in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import StorageError, StorageMissing, StorageUnavailable

_MISSING = {
    "SQLITE_NOTADB": "is not a database file: move it away or name another file",
    "SQLITE_CORRUPT": "is damaged: restore it from a copy or move it away",
    "SQLITE_READONLY": "cannot be written: allow writing to the file and to its folder, or name another file",
    "SQLITE_CANTOPEN": "cannot be opened: check that the folder exists and may be written, or name another file",
    "SQLITE_PERM": "cannot be opened: this user has no right to it",
    "SQLITE_AUTH": "cannot be opened: this user has no right to it",
}
_UNAVAILABLE = {
    "SQLITE_FULL": "cannot grow, the disk is full: free some space; what was stored before is safe",
    "SQLITE_BUSY": "is locked by another process: ask again",
    "SQLITE_LOCKED": "is locked by another process: ask again",
    "SQLITE_IOERR": "could not be read or written by the system: check the disk",
    "SQLITE_NOMEM": "could not be used, memory ran out",
}


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn sqlite3's errors into StorageMissing (a person must act) or StorageUnavailable (ask again)."""
    try:
        yield
    except sqlite3.ProgrammingError as exc:
        raise StorageUnavailable(f"the state file {path} was closed") from exc
    except sqlite3.Error as exc:
        raise _error(path, exc) from exc


def _error(path: str, exc: sqlite3.Error) -> StorageError:
    name = getattr(exc, "sqlite_errorname", "") or ""
    for prefix, text in _MISSING.items():
        if name.startswith(prefix):
            return StorageMissing(f"the state file {path} {text}")
    for prefix, text in _UNAVAILABLE.items():
        if name.startswith(prefix):
            return StorageUnavailable(f"the state file {path} {text}")
    return StorageUnavailable(f"the state file {path} failed: {exc}")
