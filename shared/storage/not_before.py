"""Until when an exchange's host must not be called; shared, because a ban is by address and not by process."""

from __future__ import annotations

from shared.storage.schema import not_before_key
from shared.storage.table import Absent, AnyOf, AtMost, Table


class NotBeforeRepository:
    def __init__(self, table: Table) -> None:
        self._table = table

    def get(self, host: str) -> int | None:
        """Return the instant (epoch milliseconds UTC), which may be past; None when there never was one."""
        item = self._table.get(not_before_key(host))
        until = None if item is None else item.get("until_ms")
        return until if isinstance(until, int) else None

    def set(self, host: str, until_ms: int) -> None:
        """Forbid calls before `until_ms`. Of two bans the longer holds, whichever came last."""
        pk, sk = not_before_key(host)
        self._table.put(
            {"pk": pk, "sk": sk, "until_ms": until_ms, "expires_at": until_ms // 1000 + 86_400},
            AnyOf((Absent(), AtMost("until_ms", until_ms))),
        )

    def clear(self, host: str) -> None:
        """Allow calls again: a person knows that the ban is over."""
        self._table.delete(not_before_key(host))
