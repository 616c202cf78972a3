"""`tapewatch run` over a real socket finds what `tapewatch replay` finds in the file: live and replay agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from local import cli
from local.exchange.playback import PlaybackClock
from local.exchange.recorded import RecordedMarket
from local.exchange.server import LocalExchange
from local.recordings import discover
from shared.detection.reading import Detector
from shared.storage.signals import SignalRepository
from shared.storage.sqlite import SqliteTable

ROOT = Path(__file__).resolve().parents[2]
FRAMES = "ws/spot_BTCUSDT_20240808T2354Z.frames.jsonl.gz"
TRADES = 19_904


def configuration(tmp_path: Path, exchange: LocalExchange) -> Path:
    file = tmp_path / "tapewatch.yaml"
    file.write_text(
        f"""
exchange:
  spot_rest_url: {exchange.rest_url}
  spot_ws_url: {exchange.ws_url}
  futures_rest_url: {exchange.rest_url}
  futures_ws_url: {exchange.ws_url}
universe: {{spot_symbols: [BTCUSDT]}}
sector: {{enabled: false}}
volume_spike: {{enabled: false}}
order_book: {{enabled: false}}
api: {{enabled: false}}
storage:
  sqlite_path: {tmp_path / "state.sqlite"}
  objects_path: {tmp_path / "objects"}
"""
    )
    return file


def stored(path: Path, detector: Detector) -> list[dict[str, Any]]:
    table, found, cursor = SqliteTable(str(path)), [], None
    while True:
        page, cursor = SignalRepository(table).range(detector=detector, limit=500, cursor=cursor)
        found += [dict(one.signal.values) for one in page]
        if cursor is None:
            break
    table.close()
    return sorted(found, key=lambda values: values["trade_id"])


@pytest.mark.recorded
def test_live_and_replay_agree(tmp_path: Path, recorded_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = RecordedMarket(discover([recorded_dir / FRAMES]))
    exchange = LocalExchange(source, PlaybackClock(source.first_ms(), None))
    with exchange:
        command = [sys.executable, "-m", "local.cli", "--config", str(configuration(tmp_path, exchange)), "run"]
        process = subprocess.Popen(
            [*command, "--skip-backfill"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        state = tmp_path / "state.sqlite"
        wanted = _replayed(recorded_dir, capsys)
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            if state.is_file() and len(stored(state, Detector.TRADE_SPIKE)) >= len(wanted):
                break
            time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert time.monotonic() - began < 5.0
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    live = stored(state, Detector.TRADE_SPIKE)
    assert len(live) == 467
    assert live == wanted


def _replayed(recorded_dir: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert cli.main(["replay", str(recorded_dir / FRAMES), "--detector", "trade_spike", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return sorted((line["values"] for line in lines[:-1]), key=lambda values: values["trade_id"])


def test_a_second_run_on_the_same_state_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from local.world import own_state
    from shared.settings_loader import load_settings

    file = tmp_path / "tapewatch.yaml"
    file.write_text(f"storage: {{sqlite_path: {tmp_path / 'state.sqlite'}}}")
    table, lock = own_state(load_settings(str(file), {}).settings)
    try:
        script = [sys.executable, "-m", "local.cli", "--config", str(file), "run"]
        done = subprocess.run(script, cwd=ROOT, text=True, capture_output=True, timeout=60, check=False)
    finally:
        table.close()
        lock.release()
    assert done.returncode == 1
    error = json.loads(done.stderr)
    assert error["code"] == "storage_busy"
    assert "another tapewatch run uses" in error["error"]
    assert done.stdout == ""


def test_without_a_network_it_says_so_and_points_to_the_demo(tmp_path: Path) -> None:
    file = tmp_path / "tapewatch.yaml"
    closed = "http://127.0.0.1:9"  # the discard port: nobody listens
    file.write_text(f"exchange: {{spot_rest_url: '{closed}'}}\nstorage: {{sqlite_path: {tmp_path / 's.sqlite'}}}")
    for words in (["run"], ["volume-spike", "--symbol", "btc"], ["order-book", "--symbol", "btc", "--count", "1"]):
        command = [sys.executable, "-m", "local.cli", "--config", str(file), *words]
        done = subprocess.run(
            command, cwd=ROOT, text=True, capture_output=True, timeout=60, check=False, env=dict(os.environ)
        )
        assert done.returncode == 1
        error = json.loads(done.stderr.splitlines()[-1])
        assert error["code"] == "exchange_unavailable"
        assert "tapewatch demo" in error["error"]
        assert error["error"].count(". ") == 0  # one sentence
