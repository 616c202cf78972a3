"""The page where a token is asked for, as on AWS: sign in, read, go on to a report, sign out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_page import Open
from playwright.sync_api import Page, expect

from benchmarks import week
from functions import api, report
from functions.api_access import COOKIE, TokenAccess
from local.scheduler import LocalContext
from local.server import ApiServer
from shared.alerts.service import AlertService
from shared.clock import ManualClock, iso_utc
from shared.jobs.deps import Dependencies
from shared.storage.objects import FolderObjects

TOKEN = "a-token_of.the~deployment"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An hour of the benchmark's market, one daily report, and a server that passes reads with the token only."""
    folder = tmp_path_factory.mktemp("signed")
    table, end_ms = week.fill(folder / "state.sqlite", days=1 / 24)
    clock = ManualClock(end_ms)
    settings = week.settings()
    alerts = AlertService.on_table(table, [], settings, clock)
    objects = FolderObjects(folder / "objects")
    deps = Dependencies(settings, None, table, alerts, clock, objects)  # type: ignore[arg-type]  # nobody is asked
    event = {"job": "report", "scheduled_time": iso_utc(end_ms)}
    report.make_handler(lambda: deps)(event, LocalContext("report"))
    access = TokenAccess(lambda: TOKEN, reads_only=True)
    running = ApiServer(api.make_handler(lambda: deps, access), clock, host="127.0.0.1", port=0)
    running.start()
    yield running
    running.stop()
    table.close()


def sign_in(page: Page, token: str) -> None:
    page.fill("#token", token)
    page.get_by_role("button", name="Sign in").click()


def test_a_stranger_is_asked_for_the_token_and_sees_nothing(server: ApiServer, watched: Open, axe: str) -> None:
    page = watched.bare(server.url, bypass_csp=True).page
    expect(page.locator("#signin")).to_be_visible()
    expect(page.locator("#content")).to_be_hidden()
    expect(page.locator("#overall")).to_have_text("signed out")
    expect(page.locator("#token")).to_be_focused()
    page.evaluate(axe)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    assert [one["id"] for one in found["violations"]] == []
    sign_in(page, "wrong")
    expect(page.locator("#signin-note")).to_have_text("That is not the token.")
    sign_in(page, "a b;c")
    expect(page.locator("#signin-note")).to_contain_text("no blanks")
    assert page.context.cookies() == []
    assert "oken" not in page.url


def test_the_token_opens_the_page_until_signing_out(server: ApiServer, watched: Open) -> None:
    seen = watched.bare(server.url)
    page = seen.page
    expect(page.locator("#signin")).to_be_visible()
    sign_in(page, TOKEN)
    page.locator("html[data-ready]").wait_for(state="attached")
    expect(page.locator("#content")).to_be_visible()
    expect(page.locator("#caption")).to_contain_text("BTCUSDT spot")
    [cookie] = page.context.cookies()
    assert (cookie["name"], cookie["value"], cookie["sameSite"], cookie["path"]) == (COOKIE, TOKEN, "Lax", "/")
    assert TOKEN not in page.url
    assert not [url for _, url in seen.answers if TOKEN in url]
    # The strict policy held, and a reload needs no second sign-in.
    assert [one for one in seen.complaints if "401" not in one] == []
    page.reload()
    page.locator("html[data-ready]").wait_for(state="attached")
    expect(page.locator("#signin")).to_be_hidden()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#signin")).to_be_visible()
    expect(page.locator("#content")).to_be_hidden()
    assert page.context.cookies() == []
    assert page.locator("#rows li").count() == 0


def test_changes_say_where_they_are_made(server: ApiServer, watched: Open, pictures: Path) -> None:
    page = watched.bare(server.url).page
    sign_in(page, TOKEN)
    page.locator("html[data-ready]").wait_for(state="attached")
    expect(page.locator("#holds .note")).to_contain_text("Mute and release with Telegram (/mute, /unmute)")
    expect(page.locator("#mute")).to_be_hidden()
    assert page.locator("#hold-rows button").count() == 0
    page.locator("#rows summary").first.click()
    expect(page.locator("#rows details[open]").get_by_role("button", name="Show on the chart")).to_be_visible()
    assert page.get_by_role("button", name="Mute 1 hour").count() == 0
    page.screenshot(path=pictures / "signed-in.png", full_page=True)


def test_the_link_of_a_report_leads_there_after_signing_in(server: ApiServer, watched: Open) -> None:
    """What the function at CloudFront's edge does with a browser that has not signed in: /?next=the report."""
    page = watched.bare(server.url + "/?next=%2Fapi%2Freports%2F2026-01-01T010000Z").page
    sign_in(page, TOKEN)
    expect(page.get_by_role("heading", name="Tapewatch report")).to_be_visible()
    assert page.url == server.url + "/api/reports/2026-01-01T010000Z"
    assert page.locator("svg").count() >= 1
    for elsewhere in ("https://example.org/", "//example.org", "/api/reports/../health", "javascript:alert(1)"):
        page.goto(f"{server.url}/?next={elsewhere}")
        page.locator("html[data-ready]").wait_for(state="attached")
        assert page.url.startswith(server.url + "/?next=")
    expect(page.locator("#reports a")).to_have_attribute("href", "/api/reports/2026-01-01T010000Z")
