"""`benchmarks.window_choices`: its features, schedules and sums against slow, obvious ones."""

from __future__ import annotations

import csv
import gzip
from math import log1p
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pytest

from benchmarks import window_choices, window_features
from benchmarks.waking_market import waking_market
from benchmarks.window_judging import Judged, Said, forest_scores, lead, live_scores, said_of, with_flags
from local.evaluation.stored_windows import WindowFile, window_file
from shared.detection.calibration import PacedQuantile, TrailingQuantile
from shared.market.model import Market, Window
from shared.settings import WindowAnomalySettings
from shared.times import iso_utc


def write_windows(windows: list[Window], path: Path) -> WindowFile:
    with gzip.open(path, "wt", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(("timestamp", "trade_count", "volume", "avg_trade_size", "return", "volatility"))
        for w in windows:
            rows.writerow((iso_utc(w.end_ms), w.trade_count, w.volume, w.avg_trade_size, w.return_, w.volatility))
    file = window_file(path)
    assert file is not None
    return file


def any_file() -> WindowFile:
    return WindowFile(Path("BTCUSDT_20s.csv"), Market.SPOT, "BTCUSDT", 20_000)


def test_features_see_only_their_own_window_and_those_before() -> None:
    seen = window_features.bare(waking_market(1, 60))
    size, span = window_features.unsigned(seen), 7
    assert (size[:, window_features.RETURN] == np.abs(seen[:, window_features.RETURN])).all()
    smooth, ratio = window_features.smoothed(size, 0.3), window_features.relative(seen, span)
    above, busy = window_features.one_sided(seen, span), window_features.busier(size, span)
    for column in range(5):
        level = size[0, column]
        for row in range(1, 60):
            level += 0.3 * (size[row, column] - level)
            usual = median(size[max(0, row - span) : row, column].tolist())
            assert smooth[row, column] == pytest.approx(level)
            assert ratio[row, column] == pytest.approx(seen[row, column] / usual)
            assert above[row, column] == pytest.approx(max(0.0, size[row, column] / usual - 1))
            if column == window_features.COUNT:
                other = median(size[max(0, row - span) : row, window_features.VOLATILITY].tolist())
                assert busy[row] == (size[row, 0] > usual and size[row, window_features.VOLATILITY] > other)


def test_a_forest_fed_the_live_features_scores_as_the_live_detector_does() -> None:
    windows = waking_market(2, 200)
    seen = window_features.bare(windows)
    for shown, weight in ((seen, 1.0), (window_features.smoothed(window_features.unsigned(seen), 0.3), 0.3)):
        settings = WindowAnomalySettings(first_fit=60, refit_every=40, buffer=80, trees=10, smoothing=weight)
        np.testing.assert_allclose(forest_scores(shown, settings), live_scores(windows, settings), rtol=1e-9)


def test_the_worth_of_verdicts_is_the_movement_after_them_over_that_after_the_others() -> None:
    windows = waking_market(3, 300)
    rng = np.random.default_rng(3)
    said: Said = [None] * 50 + [bool(flag) for flag in rng.random(250) < 0.05]
    moves = [abs(log1p(window.return_)) for window in windows]
    after = {n: sum(moves[n + 1 : n + 16]) for n in range(50, 300 - 15)}
    usual = fmean(moved for n, moved in after.items() if not said[n])
    worth = Judged(any_file(), windows, WindowAnomalySettings()).worth(said)
    assert worth.lift == pytest.approx(fmean(moved / usual for n, moved in after.items() if said[n]))
    assert (worth.flagged, worth.judged) == (sum(map(bool, said)), 250)
    early, late = Judged(any_file(), windows, WindowAnomalySettings()).halves(said)
    assert (early.judged, late.judged) == (125, 125)
    after = {n: sum(moves[n + 1 : n + 16]) for n in range(50, 175 - 15)}
    usual = fmean(moved for n, moved in after.items() if not said[n])
    assert early.lift == pytest.approx(fmean(moved / usual for n, moved in after.items() if said[n]))
    gap = lead(worth, worth)
    assert gap is not None
    assert (gap.more, gap.low, gap.high) == (0.0, 0.0, 0.0)


def test_a_limit_holds_back_what_comes_too_thick() -> None:
    scores = np.concatenate([np.linspace(1, 2, 40), -np.arange(1.0, 11.0)])  # ten records in a row
    plain = said_of(scores, TrailingQuantile(0.1, 100, 30))
    assert plain[:30] == [None] * 30
    assert plain[40:] == [True] * 10
    assert said_of(scores, TrailingQuantile(0.1, 100, 30), (3, 20))[40:] == [True] * 3 + [False] * 7


def test_choices_are_compared_at_the_same_number_of_flags() -> None:
    scores = np.random.default_rng(4).normal(size=2000)
    said = with_flags(40, lambda rate: said_of(scores, TrailingQuantile(rate)))
    assert abs(sum(map(bool, said)) - 40) <= 1


def test_the_printed_detector_is_the_live_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_choices, "RATES", (0.05,))
    windows = waking_market(5, 1000)
    file = write_windows(windows, tmp_path / "spot_BTCUSDT_20s_test.csv.gz")
    judged = Judged(file, windows, WindowAnomalySettings())
    scores = live_scores(windows, WindowAnomalySettings())
    ours = window_choices.detector_worth(file, windows, judged, 0.05)
    theirs = judged.worth(said_of(scores, PacedQuantile(0.05)))
    assert (ours.flagged, ours.judged, ours.lift) == (theirs.flagged, theirs.judged, pytest.approx(theirs.lift))
    assert ours.judged == 200
    window_choices.print_rates(file, windows, lambda *_: None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 11
    mine = next(line for line in lines if line.startswith("  5.0%  the detector"))
    assert mine.split()[3:6] == [str(ours.flagged), f"{ours.realised:.2%}", f"{ours.lift:.2f}"]
