"""Fetch the history that is missing: by itself when a job asks for it, or on demand with `{"hours": 17}`."""

from __future__ import annotations

from collections.abc import Callable

from functions.bootstrap import production_dependencies
from functions.events import Trigger, number
from functions.handler import Handler, job_handler
from shared.errors import UsageError
from shared.jobs import backfill
from shared.jobs.backfill import history_hours
from shared.jobs.deps import Dependencies

_MOST_HOURS = 24.0 * 30


def make_handler(dependencies: Callable[[], Dependencies]) -> Handler:
    def work(deps: Dependencies, trigger: Trigger, seconds: float | None) -> backfill.BackfillReport:
        hours = number(trigger.detail, "hours")
        hours = history_hours(deps.settings.sector) if hours is None else hours
        if not 0 < hours <= _MOST_HOURS:
            raise UsageError(f"hours must lie in (0, {_MOST_HOURS:g}], is {hours:g}")
        return backfill.run(deps, end_ms=trigger.scheduled_ms, hours=hours, deadline_s=seconds, background=True)

    return job_handler("backfill", dependencies, work)


lambda_handler = make_handler(production_dependencies)
