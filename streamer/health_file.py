"""Leaves a sign of life on disk, and when trades last came, for the container's health check (`health_check.py`)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "TAPEWATCH_HEALTH_FILE"
DEFAULT = "/tmp/tapewatch-health.json"  # noqa: S108 - the only place that a container with a read-only root can write


class HealthFile:
    """Called with the service's status about once a second; writes when it was called and when trades last came.

    A standby and an idle shard hear none: their waiting for them begins when they take over or get a symbol. `now_s` is
    epoch seconds.
    """

    def __init__(self, path: str | None = None, *, now_s: Callable[[], float] = time.time) -> None:
        self._path = Path(path or os.environ.get(VARIABLE, DEFAULT))
        self._now_s = now_s
        self._trades = -1
        self._moved_s = now_s()

    def __call__(self, status: dict[str, Any]) -> None:
        now_s = self._now_s()
        if status.get("trades") != self._trades or status.get("state") in ("standby", "idle"):
            self._trades, self._moved_s = int(status.get("trades") or 0), now_s
        body: dict[str, Any] = {"written_s": now_s, "moved_s": self._moved_s}
        body |= {name: status.get(name) for name in ("state", "loop")}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(body), encoding="ascii")
        temporary.replace(self._path)  # a reader sees the old one or the new one, never half of one
