"""The pump rule in the session: the same signals as the rule alone, in batches, across a restart, and only when on."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from local.recordings import discover, read_trades
from local.replay import Replay
from shared.detection.pump import PumpDetector
from shared.detection.reading import Detector, Signal
from shared.market.model import Market, Trade
from shared.settings import PumpSettings, Settings
from streamer.actions import EmitSignal
from streamer.session import Session
from streamer.symbol_state import SymbolState

ON = Settings(pump=PumpSettings(enabled=True))
FILE = "pump/trades/SNGLSBTC_20180803T1500Z.aggtrades.jsonl.gz"


def recorded_trades(root: Path) -> list[Trade]:
    (recording,) = discover([root / FILE])
    return [row for _, row in read_trades(recording) if isinstance(row, Trade)]


def pumps(actions: list[object]) -> list[Signal]:
    return [a.signal for a in actions if isinstance(a, EmitSignal) and a.signal.detector is Detector.PUMP]


def alone(trades: list[Trade]) -> list[Signal]:
    rule, found = PumpDetector(ON.pump, Market.SPOT, trades[0].symbol), []
    readings = [rule.step(trade) for trade in trades]
    readings.append(rule.close(trades[-1].event_ms + 60_000))
    for reading in readings:
        signal = rule.signal(reading) if reading is not None else None
        if signal is not None:
            found.append(signal)
    return found


@pytest.mark.recorded
def test_the_session_says_what_the_rule_alone_says(recorded_dir: Path) -> None:
    trades = recorded_trades(recorded_dir)
    want = alone(trades)
    assert len(want) == 1  # the labelled pump of that day
    session = Session(ON, Market.SPOT, [trades[0].symbol], kind=trades[0].kind)
    found = [signal for trade in trades for signal in pumps(session.trade(trade))]
    found += pumps(session.finish())
    assert found == want


@pytest.mark.recorded
def test_a_restart_in_the_middle_changes_nothing(recorded_dir: Path) -> None:
    trades = recorded_trades(recorded_dir)
    symbol, kind, cut = trades[0].symbol, trades[0].kind, len(trades) * 2 // 3
    first = Session(ON, Market.SPOT, [symbol], kind=kind)
    found = [signal for trade in trades[:cut] for signal in pumps(first.trade(trade))]
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(first.states[symbol].snapshot(kind.value)))
    second = Session(ON, Market.SPOT, [symbol], kind=kind)
    second.states[symbol].restore(kept)
    found += [signal for trade in trades[cut:] for signal in pumps(second.trade(trade))]
    assert found + pumps(second.finish()) == alone(trades)


@pytest.mark.recorded
def test_a_replay_asks_it_only_when_it_is_on_or_named(recorded_dir: Path) -> None:
    def counts(settings: Settings, detectors: frozenset[Detector] | None) -> dict[str, int]:
        replay = Replay(settings, detectors=detectors)
        list(replay.run(discover([recorded_dir / FILE])))
        return dict(replay.summary.signals)

    small = msgspec.structs.replace(
        Settings(), window_anomaly=msgspec.structs.replace(Settings().window_anomaly, enabled=False)
    )
    assert "pump" not in counts(small, None)
    assert counts(small, frozenset({Detector.PUMP})) == {"pump": 1}
    assert counts(msgspec.structs.replace(small, pump=ON.pump), None)["pump"] == 1


def test_off_it_costs_nothing() -> None:
    off, on = (SymbolState(settings, Market.SPOT, "BTCUSDT") for settings in (Settings(), ON))
    assert off.pump is None
    assert on.pump is not None
    assert json.loads(json.dumps(on.snapshot("trade")["pump"])) is not None
    assert off.snapshot("trade")["pump"] is None
