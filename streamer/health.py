"""What the streamer's own numbers say about its health; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    STARTING = "starting"
    """No message has come yet, or the past is still being fetched."""
    LIVE = "live"
    QUIET = "quiet"
    """Connected, and the market is silent for longer than usual."""
    BROKEN = "broken"
    """No connection; the reason says why."""
    STANDBY = "standby"
    """Another streamer holds the lease; this one takes over when it dies."""
    IDLE = "idle"
    """No symbol falls to this shard: it carries nothing until one does."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Health:
    state: State
    reason: str = ""

    @property
    def good(self) -> bool:
        return self.state in (State.LIVE, State.QUIET, State.STARTING, State.STANDBY, State.IDLE)


def judge(
    *,
    running: bool,
    warming: bool,
    messages: int,
    connected: bool,
    errors: tuple[str, ...],
    quiet: tuple[str, ...],
    standby: bool = False,
    idle: bool = False,
    deaf: bool = False,
) -> Health:
    """Judge a streamer. `errors` are the connections' reasons, `quiet` the streams without recent trades; `idle`:
    there is no symbol to stream; `deaf`: the exchange has trades that the connections do not bring."""
    if not running:
        return Health(State.STOPPED)
    if standby:
        return Health(State.STANDBY, "another streamer holds the lease")
    if idle:
        return Health(State.IDLE, "no symbol falls to this shard")
    if not connected:
        return Health(State.BROKEN if errors or messages else State.STARTING, "; ".join(errors) or "not connected")
    if warming or not messages:
        return Health(State.STARTING, "fetching past trades" if warming else "no message yet")
    if deaf:
        return Health(State.BROKEN, "the exchange has trades that the connection does not bring")
    if "*" in quiet:
        return Health(State.QUIET, "no trades at the moment")
    return Health(State.LIVE)


def stale(heartbeat: Mapping[str, Any] | None, now_ms: int, limit_ms: int) -> str | None:
    """Say why a stored heartbeat shows a dead streamer; None when it is alive."""
    if heartbeat is None:
        return "the streamer has never written a heartbeat"
    beat_ms = heartbeat.get("beat_ms")
    age_ms = now_ms - beat_ms if isinstance(beat_ms, int) else limit_ms + 1
    return f"the last heartbeat is {age_ms / 1000:.0f} s old" if age_ms > limit_ms else None
