from __future__ import annotations

import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from local.cli import main
from local.evaluation.engine import Task, look_ahead, override, run_all
from local.evaluation.figures import alerts_by_day, figures
from local.evaluation.null_books import write_books
from local.evaluation.null_market import SPOT, START_MS, make_minutes, opens, write_market, write_trades
from local.evaluation.outcomes import Path as PricePath
from local.evaluation.truth import Protocol
from local.evaluation.units import Alarm, UnitResult, evaluate_unit, make_units
from local.recordings import discover
from shared.detection.reading import Detector
from shared.errors import ConfigurationError, UsageError
from shared.market.model import Market
from shared.settings import Settings
from shared.times import DAY_MS
from streamer import native

BARS = frozenset({Detector.VOLUME_SPIKE, Detector.SECTOR_INITIATOR, Detector.SECTOR_DIFFUSION})


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("null")
    write_market(folder, days=1.5, seed=3)
    return folder


def test_the_market_without_events_is_its_seed(tmp_path: Path, market: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    for folder, seed in ((again, 3), (other, 4)):
        folder.mkdir()
        write_trades(make_minutes(SPOT[:1], 0.1, seed)[0], folder, seed)
    name = "BTCUSDT-trades-2026-01.csv"
    first = (again / name).read_text()
    assert first != (other / name).read_text()
    assert all(START_MS <= int(line.split(",")[4]) < START_MS + 0.1 * DAY_MS for line in first.splitlines())


def test_it_has_heavy_tails_clusters_and_the_clocks_bursts() -> None:
    minutes = make_minutes(SPOT[:1], 20, 1)[0]
    returns = minutes.returns / minutes.returns.std()
    assert (returns**4).mean() > 8  # a normal distribution has 3
    size = abs(returns)
    assert ((size[1:] - size.mean()) * (size[:-1] - size.mean())).mean() / size.var() > 0.1
    by_minute = minutes.activity.reshape(-1, 60).mean(axis=0)
    assert by_minute[0] > 1.5 * by_minute[20:29].mean()
    assert by_minute[30] > 1.3 * by_minute[20:29].mean()


def test_units_spread_over_processes_say_the_same(market: Path) -> None:
    units = make_units(discover([market]), [])
    assert len(units) == 2 + 2 + 2 + 1  # trades, bars and books of two spot symbols; all futures together
    tasks = [Task(unit, Settings(), BARS | {Detector.TRADE_SPIKE}) for unit in units]
    one, two = run_all(tasks, jobs=1), run_all(tasks, jobs=2)
    assert [r.alarms for r in one] == [r.alarms for r in two]
    assert [r.files for r in one] == [r.files for r in two]
    assert sum(len(r.alarms) for r in one) > 100


@pytest.mark.skipif(native.load() is None, reason="the C loop is not built: no compiler")
def test_a_long_file_shows_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.evaluation.engine._TELL_BYTES", 1)
    monkeypatch.setattr("local.inflating.BLOCK", 10_000)
    path = write_trades(make_minutes(SPOT[:1], 0.1, 1)[0], tmp_path, 1)
    said: list[tuple[int, int, str]] = []
    tasks = [Task(unit, Settings(), frozenset({Detector.TRADE_SPIKE})) for unit in make_units(discover([path]), [])]
    run_all(tasks, jobs=1, progress=lambda *words: said.append(words))
    size = path.stat().st_size
    assert len(said) > 5
    assert [done for done, *_ in said] == sorted(done for done, *_ in said)
    assert said[0][0] < size // 2
    assert said[-1] == (size, size, path.name)


@pytest.mark.slow
def test_nothing_said_before_a_cut_changes(market: Path) -> None:
    """Every detector over bars and trades; the window detector with small forests so that it speaks within the day."""
    few = {
        "trees": "10",
        "first_fit": "100",
        "calibration_min": "50",
        "calibration_scores": "200",
        "refit_every": "3000",
    }
    settings = override(Settings(), {f"window_anomaly.{name}": value for name, value in few.items()})
    settings = override(settings, {"sector.thresholds.taker_dominance_min": "0.5"})
    said: set[Detector] = set()
    for unit in make_units(discover([market]), []):
        checks = look_ahead(unit, settings, frozenset(Detector), (0.8, 0.97))
        assert [check.broken for check in checks] == [(), ()]
        said |= {alarm.detector for alarm in evaluate_unit(unit, settings, frozenset(Detector)).alarms}
    assert said >= {Detector.TRADE_SPIKE, Detector.VOLUME_SPIKE, Detector.WINDOW_ANOMALY, Detector.SECTOR_INITIATOR}


def test_a_detector_that_looks_ahead_is_caught(market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from local.replay import Replay

    run = Replay.run

    def peeking(self: Replay, recordings: object) -> object:
        found = list(run(self, recordings))  # type: ignore[arg-type]
        return found[: len(found) // 2]  # how many it says depends on what comes later

    monkeypatch.setattr(Replay, "run", peeking)
    unit = next(u for u in make_units(discover([market]), []) if u.recordings[0].path.name.startswith("spot_"))
    assert any(check.broken for check in look_ahead(unit, Settings(), BARS, (0.9,)))


def test_alerts_by_day_counts_whole_days_and_what_a_deployment_sends() -> None:
    def alarm(detector: Detector, market: Market, at_ms: int, sent: bool = True) -> Alarm:
        return Alarm(detector, market, "BTCUSDT", at_ms, at_ms, 0, True, sent)

    day = [START_MS + n * DAY_MS for n in range(4)]
    alarms = [
        alarm(Detector.TRADE_SPIKE, Market.SPOT, day[0] + 1),
        alarm(Detector.TRADE_SPIKE, Market.SPOT, day[0] + 2, sent=False),
        alarm(Detector.SECTOR_INITIATOR, Market.USDM, day[2]),
        alarm(Detector.VOLUME_SPIKE, Market.SPOT, day[2] + 5),
        alarm(Detector.VOLUME_SPIKE, Market.USDM, day[1]),  # nobody watches futures for these
        alarm(Detector.TRADE_SPIKE, Market.SPOT, day[3] + 1),  # a day that the recording only begins
    ]
    result = UnitResult(alarms=alarms, spans=[(Market.SPOT, "BTCUSDT", day[0] + 30_000, day[3] + 3_600_000)])
    assert list(alerts_by_day([result]).values()) == [1, 0, 2]
    assert alerts_by_day([UnitResult()]) == {}


def test_a_detector_is_judged_on_the_days_of_its_own_files_after_the_warm_up() -> None:
    """The same two days as bars and as trades: a rate per day and symbol is over two days, not over four."""
    last = START_MS + 2 * DAY_MS
    hours = [1, 12, 30, 36]
    alarms = [
        Alarm(Detector.TRADE_SPIKE, Market.SPOT, "BTCUSDT", at, at, 0, True, True)
        for at in (
            START_MS + hour * 3_600_000 + minute * 60_000 for minute, hour in zip((0, 15, 7, 8), hours, strict=True)
        )
    ]
    of_trades = frozenset({Detector.TRADE_SPIKE})
    prices = np.exp(np.cumsum(np.random.default_rng(1).normal(0, 1e-4, 2 * 1440)))
    trades = UnitResult(
        alarms=alarms, spans=[(Market.SPOT, "BTCUSDT", START_MS, last)], speaks=of_trades,
        paths=[(Market.SPOT, "BTCUSDT", PricePath(START_MS, 60_000, prices))],
    )  # fmt: skip
    bars = UnitResult(spans=[(Market.SPOT, "BTCUSDT", START_MS, last)], speaks=BARS)
    rows = figures(
        [trades, bars], (Detector.TRADE_SPIKE,), Settings(), protocol=Protocol(warmup_ms=6 * 3_600_000), labels=None,
        horizon_ms=300_000,
    )  # fmt: skip
    assert rows[0]["symbol_days"] == 1.75
    assert rows[0]["per_symbol_day"] == 3 / 1.75
    assert (rows[0]["alarms"], rows[0]["lift"]["alarms"]) == (3, 3)
    assert (sum(rows[0]["clock"]), rows[0]["at_quarters"]) == (3, 5.0)  # the one at :00 came in the warm-up


def test_override_sets_dotted_paths() -> None:
    changed = override(Settings(), {"trade_spike.multiple": "12", "volume_spike.gate": "ratio"})
    assert (changed.trade_spike.multiple, changed.volume_spike.gate) == (12.0, "ratio")
    with pytest.raises(UsageError, match="no setting"):
        override(Settings(), {"trade_spike.multipel": "12"})
    with pytest.raises(ConfigurationError):
        override(Settings(), {"trade_spike.multiple": "-1"})


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onload", "onclick"}


def test_the_command_writes_json_and_a_page(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("symbol,time\nBTCUSDT,2026-01-01T12:00:00Z\n")
    out = tmp_path / "out" / "seen"
    spot = str(next(market.glob("spot_BTCUSDT_1m*")))
    words = ["evaluate", spot, "--labels", str(labels), "--sweep", "volume_spike.threshold=2,4", "--jobs", "1"]
    assert main([*words, "--output", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.with_suffix(".json").read_text())
    assert {row["setting"] for row in printed["results"]} == {"threshold=2", "threshold=4"}
    row = printed["results"][0]
    assert (row["detector"], row["level"], row["labels"]["events"]) == ("volume_spike", "signals", 1)
    assert row["lift"]["low"] <= row["lift"]["lift"] <= row["lift"]["high"]
    assert re.fullmatch(r"[0-9a-f]{64}", printed["data_sha256"])
    assert printed["look_ahead"]
    page = out.with_suffix(".html").read_text()
    tags = Tags()
    tags.feed(page)
    assert "svg" in tags.seen
    assert "http" not in page.replace("http-equiv", "")


def test_labels_that_lie_in_no_recording_are_told(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    rows = [
        "symbol,time",
        "BTCUSDT,2026-01-01T12:00:00Z",
        "BTCUSDT,2027-01-01T12:00:00Z",
        "BTC-USDT,2026-01-01T12:00:00Z",
    ]
    labels.write_text("\n".join(rows))
    spot = str(next(market.glob("spot_BTCUSDT_1m*")))
    words = ["evaluate", spot, "--labels", str(labels), "--jobs", "1", "--look-ahead", "none"]
    assert main([*words, "--output", str(tmp_path / "e")]) == 0
    told = "labels: 2 of 3 events lie in no recording after its warm-up, so nothing is said about them"
    assert told in capsys.readouterr().out
    report = json.loads((tmp_path / "e.json").read_text())
    assert (report["labels_given"], report["labels_outside"]) == (3, 2)
    assert told in (tmp_path / "e.html").read_text()


def test_each_file_counts_once_and_is_named_whatever_its_folder(market: Path, tmp_path: Path) -> None:
    whole = next(market.glob("usdm_*"))
    text = gzip.decompress(whole.read_bytes()) if whole.suffix == ".gz" else whole.read_bytes()
    half = b"\n".join(text.splitlines()[:600]) + b"\n"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / whole.name).write_bytes(whole.read_bytes())
    (tmp_path / "b" / whole.name).write_bytes(gzip.compress(half) if whole.suffix == ".gz" else half)
    reports = []
    for paths in (["a", "b"], ["a", "b", f"b/{whole.name}"], ["a"]):
        words = [str(tmp_path / path) for path in paths]
        rest = ["--detector", "volume_spike", "--look-ahead", "none", "--jobs", "1", "--output", str(tmp_path / "e")]
        assert main(["evaluate", *words, *rest]) == 0
        reports.append(json.loads((tmp_path / "e.json").read_text()))
    both, again, one = reports
    assert list(both["files"]) == [whole.name, f"{whole.name} (2)"]
    assert (again["files"], again["inputs"]) == (both["files"], both["inputs"])
    assert (list(one["files"]), one["data_sha256"] == both["data_sha256"]) == ([whole.name], False)


@pytest.mark.parametrize("asked", ["some", "all"])
def test_files_too_large_for_the_look_ahead_check_are_told(
    asked: str, market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.evaluation.report.CHECKED_BYTES", 1000)
    words = ["evaluate", str(next(market.glob("spot_BTCUSDT_1m*"))), "--jobs", "1", "--look-ahead", asked]
    assert main([*words, "--output", str(tmp_path / "e")]) == 0
    told = "klines not checked, every file is too large to be checked unasked"
    assert (told in capsys.readouterr().out, told in (tmp_path / "e.html").read_text()) == ((asked == "some"),) * 2
    report = json.loads((tmp_path / "e.json").read_text())
    assert (bool(report["look_ahead"]), report["look_ahead_left_out"]) == (
        (False, ["klines"]) if asked == "some" else (True, [])
    )


@pytest.mark.recorded
@pytest.mark.parametrize("named", [False, True])
def test_a_rule_that_is_off_is_judged_all_the_same(
    named: bool, recorded_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(recorded_dir / "pump/trades/SNGLSBTC_20180803T1500Z.aggtrades.jsonl.gz")]
    words += ["--output", str(tmp_path / "e"), "--look-ahead", "none", *(["--detector", "pump"] if named else [])]
    assert main(words) == 0
    report = json.loads((tmp_path / "e.json").read_text())
    counts = {row["level"]: row["alarms"] for row in report["results"] if row["detector"] == "pump"}
    assert counts == ({"signals": 1, "news": 1, "alerts": 1} if named else {"signals": 1, "news": 0, "alerts": 0})
    assert report["switched_off"] == ([] if named else ["pump"])
    told, printed = "pump: no alerts, because alerts of it are switched off", capsys.readouterr().out
    assert (told in printed, told in (tmp_path / "e.html").read_text()) == (not named, not named)
    assert f"written: {tmp_path / 'e'}.json, {tmp_path / 'e'}.html" in printed


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--null", "1", "somewhere"],
        ["--null", "0"],
        ["absent.csv"],
        ["--null", "1", "--set", "threshold"],
        ["--null", "0.1", "--detector", "horoscope"],
        ["--null", "0.1", "--jobs", "0"],
        ["--null", "0.1", "--seed", "-1"],
        ["--null", "0.1", "--sweep", "volume_spike.threshold=2", "--sweep", "volume_spike.threshold=3"],
    ],
)
def test_wrong_usage_is_told(words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["evaluate", *words, "--output", str(tmp_path / "e")]) == 2
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["code"] == "usage"
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_could_not_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["evaluate", "--null", "300", "--output", str(tmp_path / "file" / "deep" / "e")]) == 2
    assert "nothing can be written into" in capsys.readouterr().err


def test_books_alone_add_no_days_to_the_rules_of_trades(tmp_path: Path) -> None:
    minutes = make_minutes(SPOT[:1], 0.5, 3)[0]
    write_trades(minutes, tmp_path, 3)
    write_books("BTCUSDT", opens(minutes), START_MS, tmp_path, 3)
    settings = override(Settings(), {"order_book.alert_enabled": "true", "pump.enabled": "true"})
    rules = (Detector.TRADE_SPIKE, Detector.ORDER_BOOK_IMBALANCE, Detector.PUMP)
    results = [evaluate_unit(unit, settings, frozenset(rules)) for unit in make_units(discover([tmp_path]), [])]
    rows = figures(results, rules, settings, protocol=Protocol(warmup_ms=0), labels=None, horizon_ms=300_000)
    days = {row["detector"]: row["symbol_days"] for row in rows}
    assert days == {rule.value: pytest.approx(0.5, abs=0.01) for rule in rules}
    silent = next(row for row in rows if row["detector"] == "pump")
    assert (silent["alarms"], silent["per_symbol_day"]) == (0, 0.0)  # it was on, so its silence is a figure
    assert next(row for row in rows if row["detector"] == "order_book_imbalance")["judged"] == 720
