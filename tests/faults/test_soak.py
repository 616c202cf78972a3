"""The mixed run, with real processes, real signals and an exchange between them; and the memory that it all takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak import soak

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
