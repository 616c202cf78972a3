"""Try pending alerts again, on every channel that is due."""

from __future__ import annotations

from dataclasses import dataclass

from shared.jobs.common import beat_sparingly
from shared.jobs.deps import Dependencies


@dataclass(frozen=True, slots=True)
class RedeliveryReport:
    """Deliveries over all channels; `waiting` are leased by another run or not due yet.

    `digests` notifications held `digested` alerts.
    """

    scheduled_ms: int
    sent: int = 0
    deliveries_failed: int = 0
    too_late: int = 0
    dead: int = 0
    waiting: int = 0
    digests: int = 0
    digested: int = 0


def run(deps: Dependencies, *, scheduled_ms: int) -> RedeliveryReport:
    """Send what is still pending.

    When a delivery is due, and who has leased it, are questions about now: here the clock is right, and a scheduled
    time that arrives late would be wrong.
    """
    done = deps.alerts.redeliver(deps.clock.now_ms())
    beat_sparingly(
        deps, "redelivery", {"minute_ms": scheduled_ms, "sent": done.sent, "failed": done.failed, "dead": done.dead}
    )
    return RedeliveryReport(
        scheduled_ms=scheduled_ms,
        sent=done.sent,
        deliveries_failed=done.failed,
        too_late=done.too_late,
        dead=done.dead,
        waiting=done.waiting,
        digests=done.digests,
        digested=done.digested,
    )
