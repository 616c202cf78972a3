"""The daily reports over the API: which there are, and the page of one."""

from __future__ import annotations

from typing import Any

from functions.api_query import refuse_unknown
from functions.api_route import NotFound, Request
from shared.jobs import daily_report

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "sandbox"
)
"""A report is one file with its style inside, no script and no address; on AWS the distribution sends the same."""


def reports(request: Request) -> dict[str, Any]:
    """The stored daily reports, newest first."""
    refuse_unknown(request.query, ())
    objects = request.deps.objects
    return {"reports": [] if objects is None else daily_report.listed(objects)}


def report(request: Request) -> bytes:
    """One report's page."""
    refuse_unknown(request.query, ())
    objects = request.deps.objects
    found = None if objects is None else daily_report.page(objects, request.names["report_id"])
    if found is None:
        raise NotFound("there is no report of this name")
    return found
