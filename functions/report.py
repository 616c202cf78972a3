"""Say what happened: `{"since": "24h"}` gives the JSON report, kept in the object store too where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from functions.bootstrap import production_dependencies
from functions.events import Trigger, text
from functions.handler import Handler, job_handler
from shared.clock import iso_utc
from shared.errors import UsageError
from shared.jobs import report
from shared.jobs.deps import Dependencies
from shared.jobs.when import parse_when

DEFAULT_SINCE = "24h"


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """`stored_as` names the object that holds the report, None where there is no object store."""

    stored_as: str | None
    report: dict[str, Any]


def make_handler(dependencies: Callable[[], Dependencies]) -> Handler:
    def work(deps: Dependencies, trigger: Trigger, seconds: float | None) -> ReportAnswer:
        until_ms = trigger.scheduled_ms
        since_ms = parse_when(text(trigger.detail, "since") or DEFAULT_SINCE, until_ms)
        if since_ms >= until_ms:
            raise UsageError("since must lie before the report's time")
        answer = report.run(deps, since_ms=since_ms, until_ms=until_ms).to_json()
        name = None
        if deps.objects is not None:
            name = f"reports/{iso_utc(until_ms).replace(':', '')}.json"
            deps.objects.put(name, msgspec.json.encode(answer))
        return ReportAnswer(name, answer)

    return job_handler("report", dependencies, work, log_report=False)


lambda_handler = make_handler(production_dependencies)
