"""Everything that is known of one alert: its decision, its deliveries, its outcome, what people thought of it."""

from __future__ import annotations

from typing import Any

from shared.alerts.model import Alert
from shared.clock import HOUR_MS, iso_utc
from shared.jobs.deps import Dependencies
from shared.jobs.outcomes import alerts_since
from shared.storage.alerts import AlertRepository
from shared.storage.outcomes import FeedbackRepository, OutcomeRepository

_SHORTEST = 6
_LOOK_BACK_MS = 14 * 24 * HOUR_MS


def explain(deps: Dependencies, alert: Alert) -> dict[str, Any]:
    """Return an alert's published form with `deliveries`, `outcome` and `feedback`."""
    notes = AlertRepository(deps.table).deliveries(alert.alert_id)
    deliveries = {
        name: {"state": note.state, "time": iso_utc(note.at_ms), "attempts": note.attempts, "error": note.error}
        for name, note in sorted(notes.items())
    }
    return {
        **alert.to_json(),
        "deliveries": deliveries,
        "outcome": OutcomeRepository(deps.table).get(alert),
        "feedback": FeedbackRepository(deps.table).counts(alert.alert_id),
    }


def find_alert(deps: Dependencies, words: str) -> Alert | None:
    """Return the alert of this id, or the newest one whose id begins so (at least 6 digits)."""
    wanted = words.strip().lower()
    if len(wanted) < _SHORTEST or any(sign not in "0123456789abcdef" for sign in wanted):
        return None
    if len(wanted) == 64:
        return AlertRepository(deps.table).get(wanted)
    now_ms = deps.clock.now_ms()
    found = alerts_since(deps, now_ms - _LOOK_BACK_MS, now_ms + HOUR_MS)
    return next((alert for alert in found if alert.alert_id.startswith(wanted)), None)
