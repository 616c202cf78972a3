"""`tapewatch demo` shows each of the six kinds within a minute, and Ctrl-C ends it cleanly within five seconds."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "volume_spike",
    "trade_spike",
    "order_book_imbalance",
    "sector_initiator",
    "sector_diffusion",
    "window_anomaly",
}


def test_each_kind_is_shown_within_a_minute() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "local.cli", "demo", "--until-all", "--for", "60", "--json", "--port", "0"],
        cwd=ROOT, text=True, capture_output=True, timeout=90, check=False,
    )  # fmt: skip
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    alerts = [json.loads(line) for line in done.stdout.splitlines()]
    assert {alert["detector"] for alert in alerts} >= KINDS, done.stderr
    assert took < 60
    assert len({alert["alert_id"] for alert in alerts}) == len(alerts)  # none twice
    initiator = next(alert for alert in alerts if alert["detector"] == "sector_initiator")
    assert initiator["values"]["status"] in ("CONFIRMED", "PARTIAL")
    assert "| minutes " in done.stderr  # the status line
    took_by_telegram = re.search(r"Telegram took (\d+) messages and (\d+) charts", done.stderr)
    assert took_by_telegram, done.stderr
    assert int(took_by_telegram[1]) >= 4  # the last ones may still be on their way when the demo ends
    assert int(took_by_telegram[2]) >= 2
    for alert in alerts:
        assert alert["symbol"] in alert["text"]
        assert " UTC" in alert["text"]


@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly_at_any_moment() -> None:
    for wait_s in (0.0, 3.0, 8.0):
        process = subprocess.Popen(
            [sys.executable, "-m", "local.cli", "demo", "--port", "0"],
            cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        assert "Tapewatch demo" in process.stderr.readline()
        time.sleep(wait_s)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - began < 5.0, f"after {wait_s} s"
        assert "Traceback" not in errors
        assert process.returncode in (0, 130)
