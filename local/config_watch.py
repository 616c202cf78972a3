"""Notices that the configuration was changed while the system runs; a file that cannot be used changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.errors import ConfigurationError
from shared.settings import Settings
from shared.settings_loader import DEFAULT_FILE, PREFIX, load_settings

_Mark = tuple[int, int, int] | None


class ConfigWatch:
    """Look at the file now and then with `poll`; `fresh` holds other settings once there are some.

    `problem` says why the file as it is now cannot be used; the settings that run stay. A file is read only when two
    looks in a row find it the same: an editor may be in the middle of writing it.
    """

    def __init__(self, path: str | None, running: Settings, environ: Mapping[str, str]) -> None:
        self._named = path
        self._environ = dict(environ)
        self._file = Path(path or self._environ.get(PREFIX + "CONFIG") or DEFAULT_FILE)
        self._running = running
        self._read = self._seen = self._mark()
        self.fresh: Settings | None = None
        self.problem: str | None = None
        self.notes: list[str] = []

    def poll(self) -> bool:
        """Look once; True when `fresh`, `problem` or `notes` has something that was not known before."""
        mark, before = self._mark(), self._seen
        self._seen = mark
        if mark == self._read or mark != before:
            return False
        self._read = mark
        known, self.problem, self.notes = self.problem, None, []
        try:
            found = load_settings(self._named, self._environ).settings
        except ConfigurationError as exc:
            self.problem = str(exc)
            return self.problem != known
        if found.storage != self._running.storage:
            self.notes.append("storage: takes effect at the next start")
            found = msgspec.structs.replace(found, storage=self._running.storage)
        self.fresh = None if found == self._running else found
        return self.fresh is not None or known is not None or bool(self.notes)

    def taken(self) -> None:
        """Say that `fresh` runs now."""
        if self.fresh is not None:
            self._running, self.fresh = self.fresh, None

    def refused(self, running: Settings, problem: str) -> None:
        """Say that what was taken could not be started: `running` runs again, until the file is changed."""
        self._running, self.fresh, self.problem = running, None, problem

    @property
    def running(self) -> Settings:
        return self._running

    def _mark(self) -> _Mark:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
