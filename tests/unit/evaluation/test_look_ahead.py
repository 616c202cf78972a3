"""Cutting the input changes nothing that was said before: the detectors that need an event to be made for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from local.evaluation.engine import look_ahead, override
from local.evaluation.null_market import FUTURES, START_MS, NullSymbol, make_minutes, write_bars
from local.evaluation.units import Unit, evaluate_unit, make_units
from local.recordings import discover
from shared.detection.reading import Detector
from shared.settings import Settings
from shared.times import MINUTE_MS

ALL = frozenset(Detector)
COINS = (*FUTURES, NullSymbol("UNIUSDT", 9.1, 20.0, 0.9), NullSymbol("AAVEUSDT", 170.0, 20.0, 0.9))
SHOT, CRASH, MINUTES = 1050, 1250, 1440


@pytest.fixture(scope="module")
def futures(tmp_path_factory: pytest.TempPathFactory) -> Unit:
    """Two sectors over a day: one coin shoots up and two follow within 20 minutes; later everything falls."""
    folder = tmp_path_factory.mktemp("planted")
    for minutes in make_minutes(COINS, 1, 11):
        returns, activity, buyers = minutes.returns.copy(), minutes.activity.copy(), minutes.buyers.copy()
        starts = {"XMRUSDT": SHOT, "ZECUSDT": SHOT + 10, "DASHUSDT": SHOT + 20}
        if minutes.symbol.symbol in starts:
            at = starts[minutes.symbol.symbol]
            returns[at : at + 3] += 0.015
            activity[at : at + 3] *= 30
            buyers[at : at + 15] = 0.85
        returns[CRASH : CRASH + 2] -= 0.02
        activity[CRASH : CRASH + 2] *= 40
        write_bars(replace(minutes, returns=returns, activity=activity, buyers=buyers), folder, "usdm", 11)
    return make_units(discover([folder]), [])[0]


def sectors() -> Settings:
    return override(
        Settings(),
        {
            "universe.sectors": json.dumps(
                {"Privacy": ["ZECUSDT", "DASHUSDT", "XMRUSDT"], "Defi": ["UNIUSDT", "AAVEUSDT"]}
            )
        },
    )


def test_sector_and_market_rules_do_not_look_ahead(futures: Unit) -> None:
    minutes = (SHOT + 12, CRASH + 1, MINUTES - 60)  # between the shot and its followers, amid the crash, after it
    checks = look_ahead(futures, sectors(), ALL, [minute / (MINUTES - 1) for minute in minutes])
    assert [check.broken for check in checks] == [()] * len(minutes)
    assert not checks[0].said.get("sector_diffusion")
    assert {"sector_initiator", "sector_diffusion", "market_wide"} <= checks[-1].said.keys()


def test_market_wide_can_be_evaluated_alone(futures: Unit) -> None:
    settings = override(sectors(), {"sector.market_wide_share": "0.6"})
    result = evaluate_unit(futures, settings, frozenset({Detector.MARKET_WIDE}))
    assert {alarm.detector for alarm in result.alarms} == {Detector.MARKET_WIDE}
    assert any(abs(alarm.event_ms - (START_MS + CRASH * MINUTE_MS)) <= 2 * MINUTE_MS for alarm in result.alarms)


@pytest.fixture
def books(tmp_path: Path) -> Unit:
    """Ten minutes of a book that leans to one side for half a minute at a time, one sample a second."""
    rng = np.random.default_rng(4)
    path = tmp_path / "spot_BTCUSDT_20260101T0000Z.frames.jsonl"
    with path.open("w") as out:
        for second in range(600):
            lean = 0.8 * np.sin(second / 30) + 0.05 * rng.standard_normal()
            sizes = (f"{1 + lean:.4f}", f"{1 - lean:.4f}")
            bids = [[f"{99 - n}.0", sizes[0]] for n in range(5)]
            asks = [[f"{101 + n}.0", sizes[1]] for n in range(5)]
            book = {"lastUpdateId": second + 1, "bids": bids, "asks": asks}
            frame = {"stream": "btcusdt@depth5", "data": book}
            out.write(json.dumps({"recv_ns": (START_MS + second * 1000) * 1_000_000, "frame": frame}) + "\n")
    return make_units(discover([path]), [])[0]


def test_the_order_book_rule_does_not_look_ahead(books: Unit) -> None:
    """It is off by default; the check switches it on, and cuts by the time of the sample."""
    cuts = (0.1, 0.17, 0.33, 0.5, 0.9)
    checks = look_ahead(books, Settings(), ALL, cuts)
    assert [check.broken for check in checks] == [()] * len(cuts)
    assert checks[-1].said["order_book_imbalance"] >= 3
    assert checks[0].said.get("order_book_imbalance", 0) < checks[-1].said["order_book_imbalance"]


def test_a_cut_book_recording_is_cut(books: Unit) -> None:
    half = START_MS + 300_000
    settings = override(Settings(), {"order_book.alert_enabled": "true"})
    whole = evaluate_unit(books, settings, ALL)
    cut = evaluate_unit(books, settings, ALL, until_ms=half)
    assert cut.alarms == [alarm for alarm in whole.alarms if alarm.known_ms < half]
    assert 0 < len(cut.alarms) < len(whole.alarms)
