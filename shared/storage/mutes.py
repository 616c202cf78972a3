"""Mutes that people set: a symbol, until when, and why."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from shared.alerts.policy import Mute
from shared.storage import alert_keys
from shared.storage.table import Item, Table

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class MuteRepository:
    """All mutes stand in one partition: they are few, and every decision reads them."""

    table: Table

    def put(self, symbol: str, until_ms: int | None, reason: str = "") -> str:
        """Store a mute and return its id; the same mute asked for twice is one. `until_ms` None means for ever."""
        symbol = symbol.strip().upper()
        mute_id = hashlib.sha256(f"{symbol}|{until_ms}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        item: Item = {"pk": alert_keys.MUTES, "sk": mute_id, "symbol": symbol, "reason": reason}
        if until_ms is not None:
            item |= {"until_ms": until_ms, "expires_at": until_ms // 1000 + _DAY_S}
        self.table.put(item)
        return mute_id

    def active(self, now_ms: int) -> list[Mute]:
        """Return the mutes in force, those that end first in front."""
        mutes = [_mute(item) for item in self.table.query(alert_keys.MUTES, consistent=True)]
        in_force = [mute for mute in mutes if mute.until_ms is None or mute.until_ms > now_ms]
        return sorted(in_force, key=lambda m: (m.until_ms is None, m.until_ms or 0, m.symbol))

    def remove(self, mute_id: str) -> bool:
        """Remove a mute; False when there was none of that id."""
        if self.table.get((alert_keys.MUTES, mute_id)) is None:
            return False
        self.table.delete((alert_keys.MUTES, mute_id))
        return True


def _mute(item: Item) -> Mute:
    until_ms = item.get("until_ms")
    return Mute(
        symbol=str(item.get("symbol", "")),
        until_ms=int(until_ms) if isinstance(until_ms, int | float) else None,
        mute_id=str(item["sk"]),
        reason=str(item.get("reason", "")),
    )
