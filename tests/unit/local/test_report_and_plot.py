"""`tapewatch report --html` and `tapewatch windows scores --plot` on a state file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from local import cli
from shared.storage.sqlite import SqliteTable
from shared.storage.windows import WindowRepository


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state.sqlite"
    monkeypatch.setenv("TAPEWATCH_STORAGE__SQLITE_PATH", str(path))
    table = SqliteTable(path)
    newest_ms = int(time.time()) // 20 * 20_000
    WindowRepository(table).put_many(
        {
            "market": "spot", "symbol": "BTCUSDT", "start_ms": newest_ms - n * 20_000,
            "end_ms": newest_ms - n * 20_000 + 20_000, "trade_count": 2, "volume": 1.0, "avg_trade_size": 0.5,
            "return": 0.001, "volatility": 0.0, "complete": True, "score": 0.1 - 0.001 * (n % 90), "threshold": 0.015,
            "prediction": 1, "status": "normal",
        }
        for n in range(1, 400)
    )  # fmt: skip
    table.close()
    return tmp_path


def test_the_report_is_written_as_a_page(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, data = state / "report.html", state / "report.json"
    assert cli.main(["report", "--html", str(page), "--output", str(data)]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(data.read_text(encoding="utf-8"))["windows"]["BTCUSDT"]["windows"] == 399
    assert "report.html: 0 charts" in capsys.readouterr().out


def test_the_scores_are_drawn(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png, svg = state / "scores.png", state / "scores.svg"
    assert cli.main(["windows", "scores", "--symbol", "btc", "--plot", str(png), "--svg", str(svg)]) == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "Isolation Forest scores of BTCUSDT: 399 windows" in svg.read_text(encoding="utf-8")
    assert capsys.readouterr().out.count("399 scores of BTCUSDT") == 2
    assert cli.main(["windows", "rate", "--plot", str(png)]) == 2
