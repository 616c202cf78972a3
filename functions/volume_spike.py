"""Judge the minute that just closed of every spot symbol."""

from __future__ import annotations

from collections.abc import Callable

from functions.bootstrap import production_dependencies
from functions.events import Trigger
from functions.handler import Handler, job_handler
from shared.jobs import volume_spike
from shared.jobs.deps import Dependencies


def make_handler(dependencies: Callable[[], Dependencies]) -> Handler:
    def work(deps: Dependencies, trigger: Trigger, seconds: float | None) -> volume_spike.VolumeSpikeReport:
        return volume_spike.run(deps, minute_ms=trigger.minute_ms, deadline_s=seconds)

    return job_handler("volume-spike", dependencies, work)


lambda_handler = make_handler(production_dependencies)
