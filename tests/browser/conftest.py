"""The demo's whole system in this process, its page in a real browser. Every test here carries the marker `browser`."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_page import SHOWN_MINUTES, Demo, Open, Watched
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from shared.clock import MINUTE_MS

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo whose planted events have all been seen."""
    made = Demo(tmp_path_factory.mktemp("demo"))
    made.run()
    wanted = {one.kind for one in made.truth()}
    end = time.monotonic() + 90
    while time.monotonic() < end:
        seen = {alert.detector.value for alert in made.channel.alerts}
        if seen >= wanted and made.clock.now_ms() > made.start_ms + SHOWN_MINUTES * MINUTE_MS:
            break
        time.sleep(0.2)
    yield made
    made.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("TAPEWATCH_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.fail("no chromium: apt-get install chromium, or name one in TAPEWATCH_CHROMIUM")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def watched(browser: Browser) -> Iterator[Open]:
    """Open a page: `watched(url, **context options)`."""
    contexts: list[BrowserContext] = []

    class Opener:
        def __call__(self, url: str, *, ready: bool = True, **options: Any) -> Watched:
            options.setdefault("viewport", {"width": 1360, "height": 1000})
            context = browser.new_context(**options)
            context.set_default_timeout(15_000)
            contexts.append(context)
            made = Watched(context)
            made.open(url, ready=ready)
            return made

        def bare(self, url: str, **options: Any) -> Watched:
            return self(url, ready=False, **options)

    expect.set_options(timeout=15_000)
    yield Opener()
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's source, by npm's own client, checked against its published hash."""
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("npm is needed to fetch axe-core")
    subprocess.run([npm, "pack", "--silent", "axe-core@4.14.1"], cwd=folder, check=True, timeout=120)
    packed = folder / "axe-core-4.14.1.tgz"
    digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    assert digest == AXE_SHA512
    with tarfile.open(packed) as archive:
        source = archive.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots are kept."""
    folder = Path(os.environ.get("TAPEWATCH_ARTIFACTS") or ROOT / "build") / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
