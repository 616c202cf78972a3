"""`benchmarks.rarity`: equal numbers of alerts, and what follows them, against slow, obvious sums."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise
from math import log
from pathlib import Path
from statistics import fmean

import pytest

from benchmarks import rarity
from local.evaluation.null_market import SPOT, make_minutes, write_bars
from local.recordings import Rejected, discover, read_bars
from shared.detection.reading import Status
from shared.detection.volume_spike import VolumeSpikeReading
from shared.times import MINUTE_MS


def spoken(file: str, minute: int, ratio: float) -> rarity.Spoken:
    at = minute * MINUTE_MS
    reading = VolumeSpikeReading(
        symbol="X", timestamp_ms=at + MINUTE_MS, open_ms=at, volume_current=ratio, ma20=1.0, ratio=ratio, spike=True,
        threshold=2.0, status=Status.ANOMALY, rarity=0.0, surprise=4.0,
    )  # fmt: skip
    return rarity.Spoken(file, reading)


MANY = [spoken("a", 0, 3.0), spoken("a", 1, 9.0), spoken("a", 2, 5.0), spoken("b", 15, 4.0), spoken("b", 16, 2.5)]


def test_as_many_of_each_symbol_or_by_one_threshold() -> None:
    each = rarity.largest_per_symbol(MANY, {"a": 1, "b": 2})
    assert sorted((one.file, one.ratio) for one in each) == [("a", 9.0), ("b", 2.5), ("b", 4.0)]
    assert [one.ratio for one in rarity.largest(MANY, 3)] == [9.0, 5.0, 4.0]


def test_the_clock_is_counted_by_minute_of_the_hour() -> None:
    assert rarity.at_quarters(MANY) == pytest.approx(2 / 5 / (4 / 60))
    assert rarity.clock(MANY)[:3] == [12.0, 12.0, 12.0]
    assert sum(rarity.clock(MANY)) == pytest.approx(60)


def test_the_levels_ask_for_rarity_and_surprise() -> None:
    rules = list(rarity.levels().values())
    assert [rule(MANY[0].reading) for rule in rules] == [True, True, True, True, False]


def test_a_run_over_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for minutes in make_minutes(SPOT, 3, 7):
        write_bars(minutes, tmp_path, "spot", 7)
    found, paths, minutes_read = rarity.read(discover([tmp_path]), lambda *_: None)
    assert minutes_read == 2 * (3 * 1440 - 20)
    assert len(found) == 2 * (2 * 1440 - 20)  # a day of its minute of the hour, from the 21st minute on
    rule = rarity.levels()["ratio >= 2, rarest 3 %"]
    rare = [one for one in found if rule(one.reading)]
    lines, picks, gaps = rarity.compare(found, paths, rule)
    assert [len(picked) for picked in picks] == [len(rare)] * 3
    assert Counter(one.file for one in picks[1]) == Counter(one.file for one in rare)
    assert len(gaps) == 6
    assert lines[0].split()[4] == f"{moved_after(tmp_path, rare):.3f}"

    output = tmp_path / "clock.html"
    monkeypatch.setattr(sys, "argv", ["rarity", str(tmp_path), "--output", str(output)])
    rarity.main()
    assert "differences: " in capsys.readouterr().out
    page = output.read_text(encoding="utf-8")
    assert page.count("font-weight=") == 4  # one heading a strip
    assert "<script" not in page


def moved_after(folder: Path, picked: list[rarity.Spoken]) -> float:
    """Sum the next five minutes' absolute returns after each alert, over the mean after the file's other minutes."""
    shares = []
    for recording in discover([folder]):
        bars = [bar for _, bar in read_bars(recording) if not isinstance(bar, Rejected)]
        moves = [abs(log(b.close / a.close)) for a, b in pairwise(bars)]
        told = {one.reading.open_ms for one in picked if one.file == recording.path.name}
        after = {bar.open_ms: sum(moves[n : n + 5]) for n, bar in enumerate(bars[:-5])}
        usual = fmean(moved for at, moved in after.items() if at not in told)
        shares += [after[at] / usual for at in told if at in after]
    return fmean(shares)


@pytest.mark.slow
@pytest.mark.recorded
def test_the_clock_on_recorded_bars(recorded_dir: Path) -> None:
    found, paths, _ = rarity.read(discover([recorded_dir / "klines"]), lambda *_: None)
    _, picks, _ = rarity.compare(found, paths, rarity.levels()[rarity.SHOWN])
    assert len(picks[0]) == 2135
    assert rarity.at_quarters(picks[0]) < 1.05
    assert min(map(rarity.at_quarters, picks[1:])) > 1.3
