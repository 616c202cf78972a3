"""What a streamer tells of itself: its health, the numbers of the status line, and the heartbeat made of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from shared.clock import Clock
from shared.errors import Blocked, RestrictedLocation
from shared.market.model import Market
from shared.settings import StreamerSettings
from shared.storage.blindness import Blindness, BlindnessRepository
from shared.storage.heartbeats import HeartbeatRepository, streamer_name
from shared.storage.table import Table, Value
from streamer.health import Health, judge
from streamer.worker import Job, Worker

if TYPE_CHECKING:
    from streamer.service import StreamerService

_CURES = {
    RestrictedLocation.code: "set exchange.spot_ws_url to a host that answers here, or run from another region",
    Blocked.code: "it is tried again in some minutes; if that does not help, use another address",
}
_LEARNING_TOLD = 20  # symbols named in a heartbeat


def health(service: StreamerService) -> Health:
    """Judge the streamer as it stands; safe from any thread."""
    return judge(
        running=service.running,
        standby=service.running and not service.owning,
        idle=not service.session.symbols,
        warming=not service.backlog.live,
        messages=service.session.messages,
        connected=service.lines.live,
        errors=service.lines.errors,
        deaf=service.lines.deaf,
        quiet=service.lines.quiet(time.monotonic()),
    )


def status(service: StreamerService) -> dict[str, Any]:
    """Return the numbers of the status line; safe from any thread."""
    session, executor, found = service.session, service.executor, health(service)
    learning = session.learning()
    return {
        "state": found.state.value,
        "reason": found.reason,
        "loop": session.loop,
        "symbols": len(session.symbols),
        "trades": session.trades,
        "trades_per_s": service.rate.per_s,
        "lag_ms": service.lag_ms if session.trades else None,
        "last_event_ms": session.newest_ms or None,
        "windows": session.windows,
        "models": session.models,
        "learning": learning,
        "learning_of": service.settings.window_anomaly.first_fit,
        "gaps": session.gaps,
        "missing": session.missing,
        "rejected": dict(session.rejected),
        "signals": dict(executor.signals),
        "restored": service.restored,
        "warmup": dict(service.past.status),
        "reconnects": service.lines.reconnects,
        "renewals": service.lines.renewals,
        "queued": executor.worker.pending,
        "not_stored": dict(executor.worker.failed + executor.worker.dropped),
        "internal_errors": service.internal_errors,
        "takeovers": service.takeovers,
        "liquidations": {"orders": service.liquidations.orders, "minutes": service.liquidations.minutes},
        "refused_writes": service.checkpoints.refused,
        "left_to_successor": dict(executor.left),
        "dropped_for_lag": service.lag.drops,
        "filled": executor.filler.fetched,
        "given_up": dict(executor.filler.given_up),
        "error": str(service.error) if service.error is not None else executor.worker.error,
    }


class Rate:
    """Trades a second over the last five seconds."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def look(self, trades: int, now_s: float) -> None:
        self._seen = [*self._seen[-20:], (now_s, trades)]

    @property
    def per_s(self) -> float:
        seen = self._seen
        span_s = seen[-1][0] - seen[0][0] if len(seen) > 1 else 0.0
        return (seen[-1][1] - seen[0][1]) / span_s if span_s > 0 else 0.0


class Heartbeat:
    """Writes a beat if messages came since the last one: a feed without data goes stale by itself, and says why.

    A shard to which no symbol falls waits for none, so its own moving is its sign of life. Each shard has a row of its
    own, so that the living ones do not hide a dead one.
    """

    def __init__(self, table: Table, clock: Clock, worker: Worker, settings: StreamerSettings) -> None:
        self._component = streamer_name(settings.shard_index, settings.shards)
        self._heartbeats = HeartbeatRepository(table)
        self._clock = clock
        self._worker = worker
        self._every_ms = settings.heartbeat_seconds * 1000
        self._blindness = BlindnessRepository(table)
        self._beat_ms = 0
        self._messages = -1

    def beat(self, service: StreamerService, *, final: bool = False) -> None:
        session, now_ms = service.session, self._clock.now_ms()
        messages = session.messages + service.backlog.messages
        due = now_ms - self._beat_ms >= self._every_ms
        alive = messages != self._messages or not session.symbols
        if not final and due and not alive:
            self._say_why(service, now_ms)
        if not final and not (due and alive):
            return
        self._beat_ms, self._messages = now_ms, messages
        fields: dict[str, Value] = {
            "state": "stopped" if final else health(service).state.value,
            "symbols": len(session.symbols),
            "last_event_ms": session.newest_ms,
            "lag_ms": service.lag_ms,
            "trades": session.trades,
            "rejected": sum(session.rejected.values()),
            "rejected_by_reason": dict(session.rejected),
            "windows": session.windows,
            "models": session.models,
            "gaps": session.gaps,
            "missing": session.missing,
            "loop": session.loop,
            "trades_per_s": round(service.rate.per_s, 1),
            "learning": dict(list(session.learning().items())[:_LEARNING_TOLD]),
        }
        # `keep` is False: the next beat makes up for one that storage did not take.
        self._worker.offer(Job("heartbeat", lambda: self._heartbeats.beat(self._component, now_ms, fields), keep=False))

    def _say_why(self, service: StreamerService, now_ms: int) -> None:
        """Note what keeps the connections from standing; the watchdog tells it."""
        refusal = service.lines.refusal
        if refusal is None or not service.running or not service.owning:
            return
        self._beat_ms = now_ms
        cure = _CURES.get(refusal.code, "")
        blind = Blindness(self._component, Market.SPOT, refusal.code, str(refusal), cure, now_ms)
        self._worker.offer(Job("blindness", lambda: self._blindness.note(blind), keep=False))
