"""The mixed run, with real processes, real signals and an exchange between them; and the memory that it all takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak import soak
from benchmarks.soak_takeovers import LeaseSeen, TakeOvers

ROOT = Path(__file__).resolve().parents[2]

MEMORY = """
import json, sys, time
import numpy as np
import sklearn.ensemble, sklearn.preprocessing, boto3
from shared.detection.forest_fit import fit_forest
from shared.market.model import Market, Side, Trade, TradeKind
from shared.settings import Settings
from streamer.actions import StoreWindows
from streamer.session import Session

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

rng = np.random.default_rng(1)
symbols = [f"COIN{n}USDT" for n in range(500)]
session = Session(Settings(), Market.SPOT, symbols, together=True)
blob = fit_forest(rng.lognormal(size=(500, 5)), 100, 42).to_bytes()
for symbol in symbols:
    anomaly = session.states[symbol].anomaly
    for features in rng.lognormal(size=(500, 5)).tolist():
        anomaly.relearn(tuple(features), None)
    for score in rng.normal(size=1500).tolist():
        anomaly._quantile.flags(score)
    anomaly.load_model(blob, 500)
number, boundary_s, resident = 0, [], []
session._at_once = False  # as the stream's own trades are taken: windows wait for the tick
for window in range(60):
    for at in range(4):
        for symbol in symbols:
            now_ms = 1_767_225_600_000 + window * 20_000 + 3_000 + at * 4_000
            session._trade(Trade(Market.SPOT, symbol, TradeKind.TRADE, number, 10 + rng.random(),
                                 1 + rng.random(), Side.BUY, now_ms, now_ms), [])
        number += 1
    began = time.process_time()
    judged = sum(len(a.verdicts) for a in session.tick() if isinstance(a, StoreWindows))
    if judged == 500:
        boundary_s.append(time.process_time() - began)
    resident.append(resident_mb())
grown = resident[-1] - resident[20]
print(json.dumps({"resident": resident[-1], "grown": grown, "boundary_ms": 1000 * min(boundary_s)}))
"""


class Run:
    """A lease and a clock in the hands of the test."""

    def __init__(self) -> None:
        self.now_s, self.lease = 0.0, LeaseSeen("1", 1, 1)
        self.seen = TakeOvers(lambda: self.lease, lambda: self.now_s)
        for pid in (1, 2):
            self.seen.awake(pid)

    def at(self, now_s: float) -> TakeOvers:
        self.seen.look()
        self.now_s = now_s
        return self.seen

    def takes(self, now_s: float, pid: int) -> None:
        self.at(now_s)
        self.lease = LeaseSeen(str(pid), self.lease.fence + 1, self.lease.beat + 1)
        self.seen.look()

    def renews(self, now_s: float) -> None:
        self.at(now_s)
        self.lease = LeaseSeen(self.lease.owner, self.lease.fence, self.lease.beat + 1)
        self.seen.look()


def test_a_take_over_counts_from_the_strike_while_somebody_is_awake_to_make_it() -> None:
    run = Run()
    run.at(10.0).struck(2)  # not the owner
    run.at(10.0).awake(3)
    run.at(20.0).struck(1)
    run.at(20.0).awake(4)
    run.at(21.0).struck(4)
    run.takes(22.5, 3)
    assert (run.seen.took_s, run.seen.unowned_s, run.seen.returned) == ([2.5], [2.5], 0)


def test_a_take_over_counts_from_the_first_awakening_when_all_were_struck() -> None:
    run = Run()
    run.at(20.0).struck(1)
    run.at(21.0).struck(2)
    run.at(22.0).awake(3)
    run.at(23.0).struck(3)  # too early to have taken anything
    run.at(24.0).awake(4)
    run.at(25.0).awake(2)
    run.takes(27.0, 2)
    assert (run.seen.took_s, run.seen.unowned_s) == ([3.0], [7.0])


def test_an_owner_that_wakes_with_its_lease_is_no_take_over() -> None:
    run = Run()
    run.at(20.0).struck(1)
    run.at(20.5).struck(2)
    run.renews(20.6)  # it was under way
    run.at(23.0).awake(1)
    run.at(23.1).look()
    assert run.seen.returned == 0
    run.renews(23.2)
    run.at(30.0).struck(1)
    run.at(30.5).awake(2)
    run.takes(32.5, 2)
    assert (run.seen.took_s, run.seen.unowned_s, run.seen.returned) == ([2.0], [2.5], 1)


@pytest.mark.slow
def test_f407_f408_the_mixed_run_loses_nothing(tmp_path: Path) -> None:
    card = soak(40.0, 3, tmp_path)
    bad = {word: card[word] for word in card if word.split()[-1] in ("missing", "wrong", "extra", "incomplete", "lost")}
    assert set(bad.values()) == {0}, card
    assert card["kills"] + card["pauses"] + card["cuts"] > 5
    assert card["alerts sent twice"] <= card["kills"] + card["pauses"]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_f413_500_symbols_with_full_windows_and_forests() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    assert measured["resident"] <= 350, measured
    assert measured["grown"] <= 5, measured  # 40 windows, 80,000 trades
    assert measured["boundary_ms"] <= 100, measured
    print(measured)
