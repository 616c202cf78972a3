"""The pump detector: what makes it fire, what does not, and its figures on the labelled events."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from math import exp, log, log1p
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detection.pump import CHUNK_MS, FEATURES, PumpDetector, PumpReading, model
from shared.detection.pump_trees import Blend, Trees
from shared.detection.reading import Detector, Direction, Status
from shared.market.model import Market, Side, Trade, TradeKind
from shared.settings import PumpSettings

HOUR_MS = 3_600_000
START_MS = 1_600_000_000_000
SOON = PumpSettings(warmup_hours=1.0)


def trade(event_ms: int, price: float = 100.0, quantity: float = 1.0, side: Side = Side.BUY) -> Trade:
    return Trade(Market.SPOT, "ABCBTC", TradeKind.AGG_TRADE, None, price, quantity, side, event_ms, event_ms)


def quiet(hours: float) -> list[Trade]:
    """One small trade every 20 s, buyers and sellers in turn."""
    return [
        trade(START_MS + i * 20_000, 100 + (i % 3) / 100, 1.0, Side.BUY if i % 2 else Side.SELL)
        for i in range(round(hours * 180))
    ]


def rush(start_ms: int, seconds: int = 20) -> list[Trade]:
    """Ten sweeping buy orders a second, each of two fills, the price rising by 0.5 % a second."""
    return [trade(start_ms + i * 100, 100 * 1.005 ** (i / 10), 20.0) for i in range(seconds * 10) for _fill in range(2)]


def run(trades: list[Trade], settings: PumpSettings = SOON) -> list[PumpReading]:
    detector = PumpDetector(settings, Market.SPOT, "ABCBTC")
    readings = [detector.step(one) for one in trades]
    readings.append(detector.close(trades[-1].event_ms + CHUNK_MS))
    return [reading for reading in readings if reading is not None]


def fired(readings: list[PumpReading]) -> list[int]:
    return [reading.end_ms for reading in readings if reading.fired]


def test_a_rush_of_buyers_fires_once_within_ten_seconds():
    onset = START_MS + 3 * HOUR_MS
    times = fired(run(quiet(3) + rush(onset)))
    assert len(times) == 1
    assert onset < times[0] <= onset + 10_000


def test_a_quiet_market_is_not_judged():
    assert run(quiet(30)) == []


def test_a_single_large_order_is_no_pump():
    onset = START_MS + 3 * HOUR_MS
    whale = [trade(onset, 100 * (1 + i / 100), 500.0) for i in range(5)]
    assert fired(run(quiet(3) + whale)) == []


def test_selling_alone_is_no_pump():
    onset = START_MS + 3 * HOUR_MS
    sold = [trade(t.event_ms, 200 - t.price, t.quantity, Side.SELL) for t in rush(onset)]
    assert fired(run(quiet(3) + sold)) == []


def test_says_warming_before_it_knows_the_symbol():
    readings = run(quiet(0.5) + rush(START_MS + HOUR_MS // 2))
    assert readings
    assert {(reading.status, reading.score) for reading in readings} == {(Status.WARMING, None)}


def test_pauses_after_an_alert():
    onset = START_MS + 3 * HOUR_MS
    again = [trade(t.event_ms, t.price * 1.1, t.quantity * 3) for t in rush(onset + 60_000)]
    assert len(fired(run(quiet(3) + rush(onset) + again))) == 1


def test_a_chunk_can_be_closed_by_the_clock():
    detector = PumpDetector(SOON, Market.SPOT, "ABCBTC")
    for one in quiet(3) + rush(START_MS + 3 * HOUR_MS, seconds=5):
        detector.step(one)
    assert detector.close(START_MS + 3 * HOUR_MS + CHUNK_MS - 1) is None
    reading = detector.close(START_MS + 3 * HOUR_MS + CHUNK_MS)
    assert reading is not None
    assert reading.end_ms == START_MS + 3 * HOUR_MS + CHUNK_MS
    assert detector.close(START_MS + 4 * HOUR_MS) is None
    assert detector.step(trade(START_MS + 3 * HOUR_MS + CHUNK_MS - 1)) is None
    assert detector.late == 1


def test_late_and_unreadable_trades_are_counted_and_left_out():
    trades = quiet(3) + rush(START_MS + 3 * HOUR_MS)
    detector, clean = PumpDetector(SOON, Market.SPOT, "ABCBTC"), PumpDetector(SOON, Market.SPOT, "ABCBTC")
    for one in trades:
        assert detector.step(trade(one.event_ms, float("nan"))) is None
        assert detector.step(trade(one.event_ms, 100.0, 0.0)) is None
        assert detector.step(one) == clean.step(one)
        assert detector.step(trade(one.event_ms - CHUNK_MS)) is None
    assert (detector.refused, detector.late) == (2 * len(trades), len(trades))


def test_the_signal_holds_every_number_of_the_decision():
    detector = PumpDetector(SOON, Market.SPOT, "ABCBTC")
    reading = next(r for r in run(quiet(3) + rush(START_MS + 3 * HOUR_MS)) if r.fired)
    signal = detector.signal(reading)
    assert signal is not None
    assert (signal.detector, signal.direction) == (Detector.PUMP, Direction.UP)
    assert signal.known_ms - signal.event_ms == CHUNK_MS
    assert set(signal.values) == {"score", "price", *FEATURES}
    assert signal.thresholds == {"score": SOON.threshold}
    assert json.dumps(dict(signal.values))
    assert detector.signal(run(quiet(0.5) + rush(START_MS + HOUR_MS // 2))[0]) is None


@given(cut=st.integers(0, 600))
def test_cutting_the_input_changes_nothing_said_before(cut):
    trades = quiet(2) + rush(START_MS + 2 * HOUR_MS)
    cut = len(trades) - cut
    whole, part = PumpDetector(SOON, Market.SPOT, "ABCBTC"), PumpDetector(SOON, Market.SPOT, "ABCBTC")
    assert [part.step(one) for one in trades[:cut]] == [whole.step(one) for one in trades][:cut]


@given(cut=st.integers(0, 600))
def test_a_restart_changes_nothing(cut):
    trades = quiet(2) + rush(START_MS + 2 * HOUR_MS)
    cut = len(trades) - cut
    whole, before = PumpDetector(SOON, Market.SPOT, "ABCBTC"), PumpDetector(SOON, Market.SPOT, "ABCBTC")
    for one in trades[:cut]:
        before.step(one)
    after = PumpDetector(SOON, Market.SPOT, "ABCBTC")
    after.restore(json.loads(json.dumps(before.snapshot())))
    assert [after.step(one) for one in trades[cut:]] == [whole.step(one) for one in trades][cut:]


@given(rows=st.lists(st.tuples(st.integers(0, 1_500), st.floats(), st.floats(), st.booleans()), max_size=60))
def test_survives_every_float(rows):
    """F602."""
    detector, now = PumpDetector(PumpSettings(warmup_hours=0.0), Market.SPOT, "ABCBTC"), START_MS
    for step, price, quantity, buy in rows:
        now += step
        reading = detector.step(trade(now, price, quantity, Side.BUY if buy else Side.SELL))
        assert reading is None or reading.score is None or 0 <= reading.score <= 1


def test_remembers_a_day_at_most():
    detector = PumpDetector(SOON, Market.SPOT, "ABCBTC")
    for one in quiet(60):
        detector.step(one)
    assert len(detector.past.hours) <= SOON.history_hours + 1
    assert len(detector.past.recent) <= 72
    assert len(detector.past.waiting) <= 13


def test_the_numbers_of_one_chunk():
    """One chunk after two even hours, by hand: three orders, the largest of three fills over two levels."""
    past_ms, onset = START_MS - START_MS % HOUR_MS, START_MS - START_MS % HOUR_MS + 2 * HOUR_MS
    detector = PumpDetector(SOON, Market.SPOT, "ABCBTC")
    for i in range(1440):  # each chunk: one buy and one sell of 1 at 100
        detector.step(trade(past_ms + i * CHUNK_MS, 100.0, 1.0))
        detector.step(trade(past_ms + i * CHUNK_MS + 1, 100.0, 1.0, Side.SELL))
    for at, price, quantity in (
        (0, 100.0, 1.0),
        (10, 100.0, 2.0),
        (10, 101.0, 2.0),
        (10, 102.0, 2.0),
        (20, 102.0, 1.0),
    ):
        detector.step(trade(onset + at, price, quantity))
    detector.step(trade(onset + 30, 101.0, 1.0, Side.SELL))
    reading = detector.close(onset + CHUNK_MS)
    assert reading is not None
    told = dict(zip(FEATURES, reading.features, strict=True))
    largest, bought = 2 * (100 + 101 + 102), 100 + 2 * (100 + 101 + 102) + 102
    want = {
        "sweeps": log(2), "fills": log(3), "levels": log1p(100 * log(1.02)), "largest_share": largest / bought,
        "rise_high": log(1.02), "fallen": log(102 / 101), "rise_25s": log(1.01), "rise_60s": log(1.01),
        "buyers_25s": log(7.5 / 5.5), "order_size": log(bought / 3 / 100), "before_300s": 0.0,
        "trades_record": log(6.5 / 2.5), "sweeps_25s": log(2), "trades_60s": log(28.5 / 24.5),
        "buy_share_25s": (400 + bought) / (400 + bought + 400 + 101),
    }  # fmt: skip
    assert {name: told[name] for name in want} == pytest.approx(want, abs=1e-9)


def test_the_committed_model_is_what_it_was_packed_from():
    blend = model()
    assert Trees.unpacked(blend.trees.packed()) == blend.trees
    assert len(blend.trees.roots) == 60
    assert len(blend.weights) < len(FEATURES)
    leaves = [value for feature, value, _, _ in blend.trees.nodes if feature < 0]
    assert 0 <= min(leaves) < max(leaves) <= 1


def test_trees_send_a_sample_to_its_leaf_and_the_blend_takes_both_halves():
    trees = Trees((0, 3), ((0, 0.5, 1, 2), (-1, 0.25, 0, 0), (-1, 0.75, 0, 0), (-1, 0.5, 0, 0)))
    assert trees.score((0.5,)) == 0.375  # at the value: low
    assert trees.score((0.6,)) == 0.625
    assert Trees.unpacked(trees.packed()) == trees
    blend = Blend((1.0,), (2.0,), (3.0,), 0.5, trees)
    odds = (0.5 + 3.0 * (0.6 - 1.0) / 2.0 + log(0.625 / 0.375)) / 2
    assert blend.score((0.6, 9.0)) == pytest.approx(1 / (1 + exp(-odds)))
    assert 0 < blend.score((-1e300,)) < blend.score((1e300,)) < 1


def test_a_state_of_another_version_is_refused():
    detector = PumpDetector(SOON, Market.SPOT, "ABCBTC")
    state = detector.snapshot()
    with pytest.raises(KeyError):
        detector.restore({**state, "past": {**state["past"], "version": 1}})
    with pytest.raises(KeyError):
        detector.restore({"now": None, "recent": [], "waiting": [], "hours": []})


def recorded_trades(path: Path, symbol: str) -> Iterator[Trade]:
    with gzip.open(path) as lines:
        for line in lines:
            row = json.loads(line)
            side = Side.SELL if row["m"] else Side.BUY
            price, quantity, at = float(row["p"]), float(row["q"]), row["T"]
            yield Trade(Market.SPOT, symbol, TradeKind.AGG_TRADE, None, price, quantity, side, at, at)


def utc_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.recorded
@pytest.mark.slow
def test_figures_on_the_labelled_events(recorded_dir):
    """In-sample figures of the committed weights; the honest ones are in docs/evaluation-pump.md."""
    folder = recorded_dir / "pump"
    with (folder / "events.csv").open() as file:
        events = [row for row in csv.DictReader(file) if row["labelled"] == "1"]
    hits = dict.fromkeys((25, 15, 5), 0)
    alerts, days = 0, 0.0
    for event in events:
        detector, first, last, times = PumpDetector(PumpSettings(), Market.SPOT, event["symbol"]), 0, 0, []
        for one in recorded_trades(folder / "trades" / event["file"], event["symbol"]):
            first, last = first or one.event_ms, one.event_ms
            reading = detector.step(one)
            if reading is not None and reading.fired:
                times.append(reading.end_ms)
        alerts += len(times)
        days += (last - first - 6 * HOUR_MS) / (24 * HOUR_MS)
        for seconds in hits:
            onset = utc_ms(event[f"onset_{seconds}s"])
            hits[seconds] += any(onset - 60_000 <= t <= onset + seconds * 1000 for t in times)
    f1 = {seconds: 2 * n / (alerts + len(events)) for seconds, n in hits.items()}
    assert len(events) == 104
    assert (alerts - hits[25]) / days <= 0.05
    assert f1[25] >= 0.88
    assert f1[15] >= 0.87
    assert f1[5] >= 0.83
