"""The page's files: those and nothing else, under the strict policy, within their budget, without a foreign address."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from local.page_files import POLICY, WEB, PageFiles

VENDOR = WEB / "vendor"


def test_the_page_is_served_under_the_strict_policy() -> None:
    page = PageFiles.load()
    status, headers, body = page.answer("GET", "/", "")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-security-policy"] == POLICY
    assert "require-trusted-types-for 'script'" in POLICY
    assert b"<h1>Tapewatch</h1>" in body
    assert page.answer("GET", "/", headers["etag"])[0] == 304
    assert page.answer("HEAD", "/app.js", "")[0] == 200
    assert page.answer("POST", "/", "")[0] == 405


@pytest.mark.parametrize(
    "path",
    ["/..", "/../README.md", "/../../etc/passwd", "//etc/passwd", "/vendor/../../local/server.py", "/app.js/", "/.",
     "/vendor", "/vendor/", "/app.js\x00", "/\x00", "/web/app.js", "/vendor/SOURCES.json", "\\..\\README.md"],
)  # fmt: skip
def test_what_is_not_a_file_of_the_page_is_404(path: str) -> None:
    assert PageFiles.load().answer("GET", path, "")[0] == 404


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    web = tmp_path / "web"
    web.mkdir()
    (web / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert PageFiles.load(web).files == {}


def test_own_code_and_libraries_stay_under_100_kb_gzipped() -> None:
    sizes = {
        path.name: len(gzip.compress(path.read_bytes(), 9, mtime=0))
        for path in WEB.rglob("*")
        if path.suffix in (".html", ".css", ".js", ".svg")
    }
    assert sum(sizes.values()) < 100_000, sizes


def test_every_vendored_file_is_what_its_source_says() -> None:
    sources = json.loads((VENDOR / "SOURCES.json").read_text(encoding="utf-8"))
    listed = {name: digest for one in sources for name, digest in one["files"].items()}
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in VENDOR.iterdir() if p.name != "SOURCES.json"}
    assert found == listed
    assert all(one["license"] and one["integrity"].startswith("sha512-") for one in sources)


def test_the_page_asks_nobody_else_and_makes_no_markup() -> None:
    own = {path.name: path.read_text(encoding="utf-8") for path in WEB.iterdir() if path.is_file()}
    for name, text in own.items():
        links = {link for link in re.findall(r"https?://[^\s\"'<)]+", text) if "w3.org" not in link}
        assert links <= {"https://www.tradingview.com/"}, name
    script = own["app.js"] + own["start.js"]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", ".style."):
        assert word not in script
    assert " style=" not in own["index.html"]
    assert re.findall(r"<script(?! src=| defer src=)", own["index.html"]) == []
