"""Say what happened: `{"since": "24h"}` gives the JSON report; the object store keeps it, and as a page with plots."""

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
from shared.jobs.deps import Dependencies
from shared.jobs.report_extras import full_report
from shared.jobs.report_html import render
from shared.jobs.when import parse_when

DEFAULT_SINCE = "24h"


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """`stored_as` and `page` name the objects that hold the report, None where there is no object store."""

    stored_as: str | None
    page: str | None
    report: dict[str, Any]


def make_handler(dependencies: Callable[[], Dependencies]) -> Handler:
    def work(deps: Dependencies, trigger: Trigger, seconds: float | None) -> ReportAnswer:
        until_ms = trigger.scheduled_ms
        since_ms = parse_when(text(trigger.detail, "since") or DEFAULT_SINCE, until_ms)
        if since_ms >= until_ms:
            raise UsageError("since must lie before the report's time")
        answer, charts = full_report(deps, since_ms=since_ms, until_ms=until_ms)
        name = page = None
        if deps.objects is not None:
            stem = f"reports/{iso_utc(until_ms).replace(':', '')}"
            name, page = f"{stem}.json", f"{stem}.html"
            deps.objects.put(name, msgspec.json.encode(answer))
            deps.objects.put(page, render(answer, charts).encode())
        return ReportAnswer(name, page, answer)

    return job_handler("report", dependencies, work, log_report=False, writes=False)


lambda_handler = make_handler(production_dependencies)
