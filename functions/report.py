"""Say what happened: `{"since": "24h"}` gives the JSON report; the object store keeps it, and as a page with plots.

Without `since` it is the day's: it is told too, in a digest with the link to its page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from functions.bootstrap import production_dependencies
from functions.events import Trigger, text
from functions.handler import Handler, job_handler
from shared.errors import UsageError
from shared.jobs import daily_report
from shared.jobs.deps import Dependencies
from shared.jobs.report_extras import full_report
from shared.jobs.report_html import render
from shared.jobs.when import parse_when

DEFAULT_SINCE = "24h"


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """`stored_as` and `page` name the objects that hold the report, None where there is no object store.

    `told` says by channel what became of the digest; it is empty for a report that was asked for.
    """

    stored_as: str | None
    page: str | None
    told: dict[str, str]
    report: dict[str, Any]


def make_handler(dependencies: Callable[[], Dependencies]) -> Handler:
    def work(deps: Dependencies, trigger: Trigger, seconds: float | None) -> ReportAnswer:
        until_ms = trigger.scheduled_ms
        asked = text(trigger.detail, "since")
        since_ms = parse_when(asked or DEFAULT_SINCE, until_ms)
        if since_ms >= until_ms:
            raise UsageError("since must lie before the report's time")
        answer, charts = full_report(deps, since_ms=since_ms, until_ms=until_ms)
        name = page = None
        told: dict[str, str] = {}
        if deps.objects is not None:
            stem = daily_report.stem_of(until_ms)
            name, page = f"{daily_report.PREFIX}{stem}.json", f"{daily_report.PREFIX}{stem}.html"
            deps.objects.put(name, msgspec.json.encode(answer))
            deps.objects.put(page, render(answer, charts).encode())
            if asked is None:
                told = daily_report.tell(deps, deps.objects, answer, stem)
        return ReportAnswer(name, page, told, answer)

    return job_handler("report", dependencies, work, log_report=False, writes=False)


lambda_handler = make_handler(production_dependencies)
