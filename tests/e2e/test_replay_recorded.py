"""`tapewatch replay` over the recorded files finds exactly what `expected.json` lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from local import cli
from local.recordings import discover
from local.replay import Replay
from shared.detection.reading import Detector
from shared.settings_loader import parse_settings

pytestmark = pytest.mark.recorded

FILES = [
    "trades/spot_BRDBTC_aggTrade_pump19d_20181113T1700Z.jsonl.gz",
    "trades/spot_BTCUSDT_trade_20240808T2354Z.jsonl.gz",
    "trades/spot_DUSKBTC_aggTrade_pump19d_20201030T1600Z.jsonl.gz",
    "trades/spot_QLCBTC_aggTrade_pump19d_20210106T1600Z.jsonl.gz",
    "trades/usdm_BTCUSDT_trade_20220811T1427Z.jsonl.gz",
    "trades/usdm_ETHUSDT_trade_20240808T2354Z.jsonl.gz",
]


@pytest.fixture(scope="module")
def expected(request: pytest.FixtureRequest) -> dict[str, Any]:
    root: Path = request.getfixturevalue("recorded_dir")
    loaded: dict[str, Any] = json.loads((root / "expected.json").read_text())
    return loaded


def sha256_of(numbers: Iterable[int]) -> str:
    return hashlib.sha256(",".join(map(str, numbers)).encode()).hexdigest()


def replay_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    assert cli.main(["replay", *words, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return lines[:-1], lines[-1]["summary"]


@pytest.mark.parametrize("name", FILES)
def test_trade_spikes_are_exactly_the_expected_ones(
    name: str, recorded_dir: Path, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    want = expected["trades"][name]
    signals, summary = replay_json(capsys, str(recorded_dir / name), "--detector", "trade_spike")
    assert len(signals) == want["n_spikes_10x_prev200"]
    assert sha256_of(signal["index"] for signal in signals) == want["spikes_index_sha256"]
    assert signals[0]["event_time_ms"] == want["first_spike_T"]
    assert max(signal["values"]["ratio"] for signal in signals) == pytest.approx(want["max_ratio"], abs=5e-5)
    assert summary["inputs"] == want["n_trades"]
    assert summary["rejected"] == {}
    assert summary["signals"] == {"trade_spike": want["n_spikes_10x_prev200"]}


@pytest.mark.parametrize("name", FILES[:2])
def test_the_compatibility_rule_counts_the_trade_itself(
    name: str,
    recorded_dir: Path,
    expected: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAPEWATCH_TRADE_SPIKE__INCLUDE_CURRENT", "true")
    signals, _ = replay_json(capsys, str(recorded_dir / name), "--detector", "trade_spike")
    assert len(signals) == expected["trades"][name]["n_spikes_if_current_trade_is_in_the_200"]


@pytest.mark.slow
def test_every_pump_recording(recorded_dir: Path, expected: dict[str, Any]) -> None:
    names = [name for name in expected["trades"] if name.startswith("pump/")]
    assert len(names) == 105
    for include_current, count in ((False, "n_spikes_10x_prev200"), (True, "n_spikes_if_current_trade_is_in_the_200")):
        settings = parse_settings({"trade_spike": {"include_current": include_current}})
        for name in names:
            replay = Replay(settings, detectors=frozenset({Detector.TRADE_SPIKE}))
            found = [one.index for one in replay.run(discover([recorded_dir / name]))]
            assert len(found) == expected["trades"][name][count], name
            if not include_current:
                assert sha256_of(found) == expected["trades"][name]["spikes_index_sha256"], name


def test_volume_spikes_of_every_kline_file(
    recorded_dir: Path, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, want in expected["klines"].items():
        assert want["n_ties_prev20"] == 0  # so "at least" and "more than" the threshold find the same bars
        signals, summary = replay_json(capsys, str(recorded_dir / name), "--detector", "volume_spike")
        assert sha256_of(signal["event_time_ms"] for signal in signals) == want["open_times_sha256"], name
        assert len(signals) == want["n_vol_gt_2x_mean_prev20"]
        assert (summary["inputs"], summary["rejected"]) == (want["n_bars"], {})


def test_frames_are_all_accounted_for(recorded_dir: Path, expected: dict[str, Any]) -> None:
    for name, want in expected["ws"].items():
        replay = Replay(parse_settings({}), detectors=frozenset({Detector.TRADE_SPIKE}))
        list(replay.run(discover([recorded_dir / name])))
        summary = replay.summary
        assert summary.inputs == want["n_frames"], name
        assert not summary.rejected, name
        assert dict(summary.depth_breaks) == want["n_depth_continuity_breaks"], name
        trades = summary.messages["trade"] + summary.messages["aggTrade"]
        assert trades == sum(want["trades_by_symbol"].values()), name
        assert summary.messages["depthUpdate"] == want["by_type"]["depthUpdate"], name


def test_without_json_it_reads_as_a_list_for_people(recorded_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["replay", str(recorded_dir / FILES[4])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2022-08-11T14:27:06.236Z")
    assert "trade_spike" in lines[0]
    assert "BTCUSDT" in lines[0]
    assert any(line.startswith("signals       trade_spike 26") for line in lines)


def test_frames_and_trades_of_one_recording_tell_the_same(
    recorded_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from_trades, _ = replay_json(capsys, str(recorded_dir / FILES[1]))
    from_frames, _ = replay_json(capsys, str(recorded_dir / "ws/spot_BTCUSDT_20240808T2354Z.frames.jsonl.gz"))

    def bare(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in line.items() if key != "source"} for line in lines]

    assert bare(from_frames) == bare(from_trades)
