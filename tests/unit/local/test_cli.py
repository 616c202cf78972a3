"""The command line's manners: help, usage errors, one JSON object for every failure, quiet pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local import cli
from shared.alerts.service import AlertService
from shared.clock import SystemClock
from shared.detection.reading import Detector, Signal
from shared.market.model import Market
from shared.settings import Settings
from shared.storage.sqlite import SqliteTable

ROOT = Path(__file__).resolve().parents[3]


def tapewatch(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local.cli", *words]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: tapewatch {name}")


def test_wrong_usage_is_status_2_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-config", "--nonsense"]) == 2
    error = json.loads(capsys.readouterr().err)
    assert error["code"] == "usage"
    assert error["hint"].startswith("usage: tapewatch")
    assert cli.main([]) == 2


def test_a_bad_configuration_is_status_1_and_never_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("exchange: {foo: 1}")
    assert cli.main(["--config", str(file), "check-config"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.err) == {
        "error": "exchange.foo: unknown key; `tapewatch check-config` lists the known ones",
        "code": "configuration",
    }
    assert captured.out == ""


def test_check_config_shows_values_and_origins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEWATCH_API__PORT", "9999")
    assert cli.main(["check-config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["api.port"] == {"value": 9999, "source": "TAPEWATCH_API__PORT"}
    assert shown["volume_spike.threshold"] == {"value": 2.0, "source": "default"}


def test_a_closed_pipe_ends_quietly() -> None:
    script = f"{sys.executable} -m local.cli check-config | head -1"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=60, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_help_imports_nothing_heavy() -> None:
    heavy = {"numpy", "boto3", "sklearn", "rich", "requests", "msgspec"}
    code = f"import sys; from local import cli; cli.build_parser(None); print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_pipe_that_is_not_utf_8_gets_every_letter(tmp_path: Path, form: list[str]) -> None:
    """cp1252 is what Python takes for a file or pipe on Windows; it has neither the emoji nor the symbol."""
    file, clock = tmp_path / "tapewatch.yaml", SystemClock()
    file.write_text(f"storage: {{sqlite_path: '{tmp_path / 'state.sqlite'}'}}")
    table, now_ms = SqliteTable(str(tmp_path / "state.sqlite")), clock.now_ms()
    signal = Signal(Detector.SYSTEM, Market.SPOT, "x", now_ms, now_ms, {"message": "gone → 币安人生USDT"}, {})
    assert AlertService.on_table(table, [], Settings(), clock).handle(signal).alert_id is not None
    table.close()
    done = tapewatch(
        "--config", str(file), "alerts", *form, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, encoding="utf-8"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "gone → 币安人生USDT" in done.stdout
