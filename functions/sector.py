"""Find initiators and diffusions in the features that have been stored."""

from __future__ import annotations

from collections.abc import Callable

from functions.bootstrap import production_dependencies
from functions.events import Trigger, integer
from functions.handler import Handler, job_handler
from shared.jobs import sector
from shared.jobs.deps import Dependencies


def make_handler(dependencies: Callable[[], Dependencies]) -> Handler:
    def work(deps: Dependencies, trigger: Trigger, seconds: float | None) -> sector.SectorReport:
        return sector.run(deps, minute_ms=trigger.minute_ms, changed_from_ms=integer(trigger.detail, "changed_from_ms"))

    return job_handler("sector", dependencies, work)


lambda_handler = make_handler(production_dependencies)
