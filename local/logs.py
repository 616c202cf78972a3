"""Logs of the local processes: JSON lines on stderr, or in a file while a live display owns the terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 10_000_000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One record, one line, valid JSON whatever the fields hold; extras become fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
            "logger": record.name,
        }
        fields.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def configure(*, level: str = "WARNING", file: Path | None = None) -> None:
    """Send every log of this process to one place: `file` if given, else stderr."""
    handler: logging.Handler
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(file, maxBytes=MAX_BYTES, backupCount=2, encoding="utf-8")
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.raiseExceptions = False  # a full disk is told on the status line, not as a traceback for each record
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The handlers' own logger (powertools) writes to stderr, which a live display owns: let it pass through here.
    product = logging.getLogger("tapewatch")
    product.handlers[:] = []
    product.propagate = True
    product.setLevel(level)
