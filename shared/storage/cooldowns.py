"""Cooldown states and day budgets: read consistently, written only inside the transaction that uses them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.alerts.model import Severity
from shared.alerts.policy import CooldownState
from shared.errors import StorageUnavailable
from shared.storage import alert_keys
from shared.storage.table import Absent, Condition, Equals, Item, Put, Table, Value

_DAY_S = 86_400
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class CooldownRepository:
    """One row per cooldown key. The version makes a write by somebody else visible; times are compared by the policy.

    `expires_at` only tidies up: it lies `keep_s` beyond the later of the last event and now, longer than any cooldown.
    """

    table: Table
    keep_s: int = 30 * _DAY_S

    def get(self, key: str) -> CooldownState:
        """Return the state of a key; a key never used has an empty state of version 0."""
        item = self.table.get(alert_keys.cooldown(key), consistent=True)
        if item is None:
            return CooldownState()
        return CooldownState(
            last_up_ms=_int(item.get("last_up_ms")),
            last_down_ms=_int(item.get("last_down_ms")),
            last_any_ms=_int(item.get("last_any_ms")),
            held_count=_int(item.get("held_count")) or 0,
            held_since_ms=_int(item.get("held_since_ms")),
            version=_int(item.get("version")) or 0,
            up_severity=_severity(item.get("up_severity")),
            down_severity=_severity(item.get("down_severity")),
            any_severity=_severity(item.get("any_severity")),
            last_hit_ms=_int(item.get("last_hit_ms")),
        )

    def release(self, key: str, now_ms: int) -> bool:
        """Forget when the key last alerted, so that its next signal passes; False when nothing was in the way.

        What was held stays counted: the next alert tells it.

        Raises:
            StorageUnavailable: other writers were always faster; ask again.
        """
        for _ in range(_ATTEMPTS):
            state = self.get(key)
            if not state.sent():
                return False
            write = self.write(key, replace(state, last_up_ms=None, last_down_ms=None, last_any_ms=None), now_ms)
            if self.table.put(write.item, write.condition).applied:
                return True
        raise StorageUnavailable("the cooldown changed again and again while it was lifted; ask again")

    def write(self, key: str, state: CooldownState, now_ms: int) -> Put:
        """Return the write that replaces the version that `state` was read as (or derived from)."""
        pk, sk = alert_keys.cooldown(key)
        times = [now_ms, *(sent.at_ms for sent in state.sent())]
        item: Item = {
            "pk": pk,
            "sk": sk,
            "version": state.version + 1,
            "held_count": state.held_count,
            "up_severity": state.up_severity.value,
            "down_severity": state.down_severity.value,
            "any_severity": state.any_severity.value,
            "expires_at": max(times) // 1000 + self.keep_s,
        }
        for name in ("last_up_ms", "last_down_ms", "last_any_ms", "held_since_ms", "last_hit_ms"):
            value = getattr(state, name)
            if value is not None:
                item[name] = value
        return Put(item, _unchanged(state.version))

    def sent_on(self, day: int) -> int:
        """Return how many alerts a UTC day (days since the epoch) has had, of those that a budget counts."""
        item = self.table.get(alert_keys.budget(day), consistent=True)
        return 0 if item is None else _int(item.get("version")) or 0

    def count_write(self, day: int, sent_before: int) -> Put:
        """Return the write that counts one more alert of a day; refused when another came in between."""
        pk, sk = alert_keys.budget(day)
        item: Item = {"pk": pk, "sk": sk, "version": sent_before + 1, "expires_at": (day + 1) * _DAY_S + self.keep_s}
        return Put(item, _unchanged(sent_before))


def _unchanged(version: int) -> Condition:
    return Equals("version", version) if version else Absent()


def _int(value: Value) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value)


def _severity(value: Value) -> Severity:
    return Severity(str(value)) if str(value) in {s.value for s in Severity} else Severity.INFO
