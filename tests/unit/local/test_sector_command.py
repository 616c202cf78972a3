"""`tapewatch sector`: every sector with its share, learning coins, pending initiators and cooldowns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from local.cli import main
from shared.alerts.model import Severity
from shared.alerts.policy import CooldownState
from shared.clock import parse_utc_ms
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.cooldowns import CooldownRepository
from shared.storage.features import FeatureRepository
from shared.storage.sqlite import SqliteTable

MINUTE = parse_utc_ms("2026-03-03T18:00:00Z")


def row(symbol: str, z: float, bars: int) -> dict[str, Any]:
    return {
        "symbol": symbol, "open_ms": MINUTE, "r_1m": 0.001, "r_15m": 0.02, "beta": 0.8, "excess_return": 0.01,
        "z_excess_return": z, "z_volume": z, "taker_buy_share": 0.7, "status": "normal", "bars": bars,
        "open_time": "2026-03-03T18:00:00Z",
    }  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> str:
    table = SqliteTable(str(tmp_path / "state.sqlite"))
    rows = [row("BTCUSDT", 0.0, 720), row("ZECUSDT", 4.0, 720), row("DASHUSDT", 0.2, 720), row("XMRUSDT", 5.0, 400)]
    FeatureRepository(table).put(MINUTE, {one["symbol"]: one for one in rows})
    pending = {
        "initiator": "ZECUSDT", "direction": "UP", "initiator_ms": MINUTE, "done": False,
        "followers": [["DASHUSDT", 2.5, 2.1, MINUTE]],
    }  # fmt: skip
    state = {"newest_ms": MINUTE, "tracker": {"version": 1, "pending": [pending]}, "signals": []}
    CheckpointRepository(table).put("sector", state)
    told = CooldownState(last_up_ms=MINUTE, up_severity=Severity.INFO)
    cooldowns = CooldownRepository(table)
    table.transact([cooldowns.write("sector_initiator|ZECUSDT", told, MINUTE)])
    table.close()
    path = tmp_path / "tapewatch.yaml"
    path.write_text(f"storage: {{sqlite_path: {tmp_path / 'state.sqlite'}}}\n", encoding="utf-8")
    return str(path)


def test_shows_scores_shares_learning_pending_and_cooldowns(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--config", config, "sector"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 = 50% stand out" in shown
    assert "learning 640/960" in shown
    assert "ZECUSDT UP at 2026-03-03T18:00:00Z: followers DASHUSDT (1 of 2, waiting)" in shown
    assert "sector_initiator ZECUSDT UP: quiet until 2026-03-03T19:00:00Z" in shown


def test_says_the_same_as_json_and_knows_its_sectors(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", config, "sector", "--json", "--sector", "Privacy"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["sectors"]["Privacy"]["XMRUSDT"]["learning"] is True
    assert answer["sectors"]["Privacy"]["ZECUSDT"]["z_volume"] == 4.0
    assert answer["shares"] == {"Privacy": {"stand_out": 1, "coins": 2, "share": 0.5}}
    assert answer["cooldowns"][0]["until"] == "2026-03-03T19:00:00Z"
    assert main(["--config", config, "sector", "--sector", "Nope"]) == 2
