"""The state of each channel that all processes share: pace, gathering, health, and who runs its redelivery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from shared.alerts.pace import ChannelState, Health
from shared.errors import StorageUnavailable
from shared.storage import alert_keys
from shared.storage.table import Absent, Condition, Equals, Item, Table, Value

_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class ChannelStateRepository:
    """One row per channel, changed by reading, deciding and writing on the version that was read."""

    table: Table
    new_token: Callable[[], str]

    def get(self, channel: str) -> ChannelState:
        item = self.table.get(alert_keys.channel(channel), consistent=True)
        return ChannelState() if item is None else _state(item)

    def all(self) -> dict[str, ChannelState]:
        return {str(item["sk"]): _state(item) for item in self.table.query(alert_keys.CHANNELS)}

    def change(self, channel: str, how: Callable[[ChannelState], ChannelState | None]) -> ChannelState | None:
        """Replace the state by `how(state)`; return what stands there then, None when `how` said None.

        `how` may be called again with a newer state. A write whose answer was lost is recognised by its token.

        Raises:
            StorageUnavailable: no answer, or too many writers.
        """
        for _ in range(_ATTEMPTS):
            before = self.get(channel)
            after = how(before)
            if after is None:
                return None
            if after == before:
                return before
            after, token = replace(after, version=before.version + 1), self.new_token()
            condition: Condition = Equals("version", before.version) if before.version else Absent()
            result = self.table.put(_row(channel, after) | {"written_by": token}, condition)
            if result.applied or (result.existing is not None and result.existing.get("written_by") == token):
                return after
        raise StorageUnavailable(f"the state of channel {channel} kept changing: ask again")


def _row(channel: str, state: ChannelState) -> Item:
    pk, sk = alert_keys.channel(channel)
    row: Item = {"pk": pk, "sk": sk}
    for one in fields(ChannelState):
        value = getattr(state, one.name)
        row[one.name] = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, str) else value
    return row


def _state(item: Item) -> ChannelState:
    sent = item.get("sent")
    gather = item.get("gather_from_ms")
    return ChannelState(
        sent=tuple(_int(at_ms) for at_ms in sent) if isinstance(sent, list) else (),
        gather_from_ms=None if gather is None else _int(gather),
        run_by=str(item.get("run_by", "")),
        run_until_ms=_int(item.get("run_until_ms")),
        attempts=_int(item.get("attempts")),
        next_digest_ms=_int(item.get("next_digest_ms")),
        health=_health(item.get("health")),
        since_ms=_int(item.get("since_ms")),
        error=str(item.get("error", "")),
        fingerprint=str(item.get("fingerprint", "")),
        told=_health(item.get("told")),
        version=_int(item.get("version")),
    )


def _int(value: Value) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _health(value: Value) -> Health:
    return Health(str(value)) if str(value) in {one.value for one in Health} else Health.OK
