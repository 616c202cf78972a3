"""The function at CloudFront's edge, run by Node with a store of our own."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.aws

SOURCE = Path(__file__).resolve().parents[2] / "infra" / "constructs" / "token_check.js"
TOKEN = "the-token"
RUN = """
const event = JSON.parse(process.argv[1]);
handler({ request: event }).then((answer) => console.log(JSON.stringify(answer)));
"""
STORE = """
const cf = { kvs: () => ({ get: async (key) => { if (!STORED) throw new Error('KeyNotFound'); return STORED; } }) };
"""


def ask(request: dict[str, Any], stored: str) -> dict[str, Any]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    code = SOURCE.read_text().replace("import cf from 'cloudfront';", f"const STORED = {json.dumps(stored)};\n{STORE}")
    code = code.replace("import crypto from 'crypto';", "import crypto from 'node:crypto';") + RUN
    done = subprocess.run(
        [node, "--input-type=module", "-e", code, json.dumps(request)], capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def request(header: str | None = None, cookie: str | None = None) -> dict[str, Any]:
    return {
        "headers": {} if header is None else {"x-api-key": {"value": header}},
        "cookies": {} if cookie is None else {"tapewatch_token": {"value": cookie}},
    }


def test_the_right_token_passes_and_nothing_else() -> None:
    """F705: refused at the edge, before any function runs."""
    stored = hashlib.sha256(TOKEN.encode()).hexdigest()
    assert "statusCode" not in ask(request(header=TOKEN), stored)
    assert "statusCode" not in ask(request(cookie=TOKEN), stored)
    for wrong in (request(), request(header=""), request(header="x"), request(cookie=stored), request("x", TOKEN)):
        answer = ask(wrong, stored)
        assert answer["statusCode"] == 401
        assert json.loads(answer["body"]["data"])["code"] == "unauthorized"


def test_without_a_stored_hash_nobody_passes() -> None:
    assert ask(request(header=TOKEN), "")["statusCode"] == 401
    assert ask(request(), "")["statusCode"] == 401


def test_a_browser_that_follows_a_report_s_link_is_asked_for_the_token_first() -> None:
    stored = hashlib.sha256(TOKEN.encode()).hexdigest()
    asked: dict[str, Any] = {**request(), "uri": "/api/reports/2026-01-02T000500Z"}
    asked["headers"]["accept"] = {"value": "text/html,application/xhtml+xml"}
    answer = ask(asked, stored)
    assert answer["statusCode"] == 302
    assert answer["headers"]["location"]["value"] == "/?next=%2Fapi%2Freports%2F2026-01-02T000500Z"
    assert "statusCode" not in ask(asked | {"cookies": request(cookie=TOKEN)["cookies"]}, stored)
    for uri in ("/api/reports", "/api/reports/../health", "//evil/api/reports/1", "/api/health", "/api/reports/a%0d"):
        assert ask(asked | {"uri": uri}, stored)["statusCode"] == 401
    program = {**asked, "headers": {"accept": {"value": "application/json"}}}
    assert ask(program, stored)["statusCode"] == 401
