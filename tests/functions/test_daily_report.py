"""The daily report: kept, told once on every channel with its link, and served by the API under a policy of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from fakes import FakeContext, FakeWorld

from functions import api, report
from functions.api_access import OneTimeAccess
from shared.alerts.digest import Digest
from shared.alerts.model import Alert
from shared.alerts.service import AlertService
from shared.errors import DeliveryError
from shared.jobs.daily_report import link_of
from shared.settings import ApiSettings, Settings, StorageSettings
from shared.storage.objects import FolderObjects


class Taker:
    """A channel that takes digests, or says why not."""

    fingerprint = ""

    def __init__(self, name: str, error: DeliveryError | None = None) -> None:
        self.name, self.error, self.digests = name, error, list[Digest]()

    def send(self, alert: Alert) -> None: ...

    def send_digest(self, digest: Digest) -> None:
        if self.error is not None:
            raise self.error
        self.digests.append(digest)


def test_the_day_s_report_is_told_once_with_its_link(
    world: FakeWorld, lambda_context: FakeContext, tmp_path: Any
) -> None:
    down = DeliveryError("no answer")
    mail, chat = Taker("sns"), Taker("telegram", down)
    nobody = Taker("webhook", DeliveryError("nobody listens", retry_after_s=120.0))
    service = AlertService.on_table(world.table, [mail, chat, nobody], world.settings, world.clock)
    settings = msgspec.structs.replace(world.settings, api=ApiSettings(public_url="https://d1.example/"))
    deps = replace(world.deps, objects=FolderObjects(tmp_path), alerts=service, settings=settings)
    run, event = report.make_handler(lambda: deps), {"job": "report", "scheduled_time": "2026-01-02T00:05:00Z"}
    with pytest.raises(DeliveryError):  # the schedule tries again
        run(event, lambda_context)
    chat.error = None
    assert run(event, lambda_context)["told"] == {"sns": "sent", "telegram": "sent", "webhook": "nobody listens"}
    assert len(mail.digests) == len(chat.digests) == 1
    [digest] = mail.digests
    assert digest.link == "https://d1.example/api/reports/2026-01-02T000500Z"
    assert digest.text.endswith(f"Report: {digest.link}")
    assert digest.to_json()["kind"] == "daily"
    assert run(event, lambda_context)["told"]["sns"] == "sent"
    assert len(mail.digests) == 1
    assert run({**event, "since": "2h"}, lambda_context)["told"] == {}  # asked for by hand: nobody is told

    call = api.make_handler(lambda: deps, OneTimeAccess())

    def get(path: str) -> dict[str, Any]:
        event = {"version": "2.0", "rawPath": path, "rawQueryString": "", "headers": {}, "body": None,
                 "queryStringParameters": None, "isBase64Encoded": False,
                 "requestContext": {"http": {"method": "GET", "path": path}, "stage": "$default"}}  # fmt: skip
        return call(event, lambda_context)

    [row] = json.loads(get("/api/reports")["body"])["reports"]
    assert row == {
        "id": "2026-01-02T000500Z",
        "until": "2026-01-02T00:05:00Z",
        "path": "/api/reports/2026-01-02T000500Z",
    }
    answer = get(row["path"])
    assert answer["statusCode"] == 200
    headers = {name.lower(): value for name, value in answer["headers"].items()}
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert answer["body"].startswith("<!doctype html>")
    for name in ("2026-01-03T000500Z", "told", "..", "2026-01-02T000500Z.json", "%2e%2e%2fmodels"):
        assert get(f"/api/reports/{name}")["statusCode"] == 404


def test_the_link_is_where_the_page_is(world: FakeWorld) -> None:
    local = Settings()
    assert link_of(local, "x") == "http://127.0.0.1:8080/api/reports/x"
    assert link_of(Settings(api=ApiSettings(port=0)), "x") is None
    assert link_of(Settings(api=ApiSettings(enabled=False)), "x") is None
    kept = StorageSettings(bucket_name="b")
    assert link_of(Settings(storage=kept, api=ApiSettings(enabled=False)), "x") == "s3://b/reports/x.html"
