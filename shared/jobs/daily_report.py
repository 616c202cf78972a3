"""The daily report: kept as JSON and as a page, and told once on every channel that takes digests, with a link.

Object names, in the store of larger things: `reports/<time>.json`, `reports/<time>.html`, and for a report that was
told `reports/told/<time>.json`, so that a repeated run tells only those who have not heard it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.alerts.digest import daily_digest
from shared.clock import iso_utc
from shared.errors import DeliveryError
from shared.jobs.deps import Dependencies
from shared.settings import Settings
from shared.settings_ranges import LOOPBACK
from shared.storage.objects import ObjectStore

PREFIX = "reports/"
_PAGES = f"{PREFIX}2"  # years; what was told lies beside them
_PAGE = re.compile(r"reports/(\d{4}-\d\d-\d\dT\d{6}Z)\.html")
_LISTED = 100


def stem_of(until_ms: int) -> str:
    """Return the report's name: its end, without the colons that no file name may have everywhere."""
    return iso_utc(until_ms // 1000 * 1000).replace(":", "")


def listed(objects: ObjectStore) -> list[dict[str, str]]:
    """Return the stored pages, newest first: `id`, the end of the reported time, and the path that serves it."""
    found = [one[1] for name in objects.list(_PAGES) if (one := _PAGE.fullmatch(name))]
    return [
        {"id": stem, "until": f"{stem[:13]}:{stem[13:15]}:{stem[15:]}", "path": f"/api/reports/{stem}"}
        for stem in sorted(found, reverse=True)[:_LISTED]
    ]


def page(objects: ObjectStore, stem: str) -> bytes | None:
    """Return one stored page, None when there is none of this name."""
    name = f"{PREFIX}{stem}.html"
    # Listed first: without a right to see names, S3 answers a missing object as a forbidden one.
    return objects.get(name) if _PAGE.fullmatch(name) and name in objects.list(name) else None


def link_of(settings: Settings, stem: str) -> str | None:
    """Return the address of a report's page.

    It holds no secret and does not expire: whoever opens it needs the page's token, on this machine a browser on it.
    Without a page (`api.enabled` false) it is the object itself.
    """
    if settings.api.enabled and settings.api.public_url is not None:
        return f"{settings.api.public_url.rstrip('/')}/api/reports/{stem}"
    if settings.storage.bucket_name is not None:
        return f"s3://{settings.storage.bucket_name}/{PREFIX}{stem}.html"
    if settings.api.enabled and settings.api.port and settings.api.host in LOOPBACK:
        return f"http://127.0.0.1:{settings.api.port}/api/reports/{stem}"
    return None


def tell(deps: Dependencies, objects: ObjectStore, report: Mapping[str, Any], stem: str) -> dict[str, str]:
    """Send the day's digest on every channel that has not had it; return `sent` or the refusal by channel.

    Raises:
        DeliveryError: a channel did not answer and another try may help; those that did are noted.
    """
    noted = f"{PREFIX}told/{stem}.json"
    before = objects.get(noted) if noted in objects.list(noted) else None
    already: list[str] = [] if before is None else msgspec.json.decode(before, type=list[str])
    answers = deps.alerts.announce(daily_digest(report, link_of(deps.settings, stem)), already)
    sent = sorted({*already, *(channel for channel, error in answers.items() if error is None)})
    if sent != already:
        objects.put(noted, msgspec.json.encode(sent))
    failed = {channel: error for channel, error in answers.items() if isinstance(error, DeliveryError)}
    for error in failed.values():
        if error.retryable and not error.fatal and error.retry_after_s is None:
            raise error
    return dict.fromkeys(sent, "sent") | {channel: str(error) for channel, error in failed.items()}
