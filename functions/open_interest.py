"""Store the open interest of every watched future for the minute that just closed."""

from __future__ import annotations

from collections.abc import Callable

from functions.bootstrap import production_dependencies
from functions.events import Trigger
from functions.handler import Handler, job_handler
from shared.jobs import open_interest
from shared.jobs.deps import Dependencies


def make_handler(dependencies: Callable[[], Dependencies]) -> Handler:
    def work(deps: Dependencies, trigger: Trigger, seconds: float | None) -> open_interest.OpenInterestReport:
        return open_interest.run(deps, minute_ms=trigger.minute_ms, deadline_s=seconds)

    return job_handler("open-interest", dependencies, work)


lambda_handler = make_handler(production_dependencies)
