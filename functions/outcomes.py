"""Fill in what the market did after each alert."""

from __future__ import annotations

from collections.abc import Callable

from functions.bootstrap import production_dependencies
from functions.events import Trigger
from functions.handler import Handler, job_handler
from shared.jobs import outcomes
from shared.jobs.deps import Dependencies


def make_handler(dependencies: Callable[[], Dependencies]) -> Handler:
    def work(deps: Dependencies, trigger: Trigger, seconds: float | None) -> outcomes.OutcomesReport:
        return outcomes.run(deps, scheduled_ms=trigger.scheduled_ms)

    return job_handler("outcomes", dependencies, work)


lambda_handler = make_handler(production_dependencies)
