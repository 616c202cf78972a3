"""Runs that failed, kept for a day: what the watchdog counts."""

from __future__ import annotations

from shared.storage.schema import failures_partition, time_key, word
from shared.storage.table import Table

_KEPT_S = 86_400


class FailureRepository:
    def __init__(self, table: Table) -> None:
        self._table = table

    def note(self, job: str, now_ms: int, code: str) -> None:
        """Keep that a run of this job has failed."""
        self._table.put(
            {
                "pk": failures_partition(),
                "sk": f"{time_key(now_ms)}#{word(job)}",
                "job": job,
                "code": code,
                "expires_at": now_ms // 1000 + _KEPT_S,
            }
        )

    def since(self, start_ms: int) -> list[tuple[str, str]]:
        """Return (job, code) of the failures from `start_ms` on, ascending."""
        items = self._table.query(failures_partition(), start=time_key(start_ms), consistent=False)
        return [(str(item["job"]), str(item["code"])) for item in items]
