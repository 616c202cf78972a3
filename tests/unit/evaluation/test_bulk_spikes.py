"""The bulk form of the trade-spike rule says what the step form says, and the block reader what the row parser says."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.evaluation.columns import Reader, trade_blocks
from local.evaluation.spikes import spikes_of
from local.recordings import Recording, RecordingKind, Rejected, discover, read_trades
from local.replay import Replay
from shared.detection.reading import Detector
from shared.detection.trade_spike import TradeSpikeDetector
from shared.detection.trade_spike_bulk import find_spikes
from shared.market.model import Market, Side, Trade, TradeKind, units
from shared.settings import Settings, TradeSpikeSettings


def by_steps(sizes: list[int], settings: TradeSpikeSettings) -> list[tuple[int, float]]:
    rule, found = TradeSpikeDetector(settings, Market.SPOT, "X"), []
    for i, size in enumerate(sizes):
        trade = Trade(Market.SPOT, "X", TradeKind.TRADE, i, 1.0, size / 1e8, Side.BUY, i, i)
        reading = rule.step(trade)
        if reading is not None:
            found.append((i, reading.ratio))
    return found


@given(
    st.lists(st.one_of(st.integers(1, 40), st.integers(1, 10**9)), max_size=80),
    st.integers(2, 9),
    st.sampled_from([1.0, 1.5, 2.0, 3.25]),
    st.booleans(),
)
def test_bulk_equals_step_by_step(sizes: list[int], window: int, multiple: float, current: bool) -> None:
    settings = TradeSpikeSettings(window_trades=window, multiple=multiple, include_current=current)
    at, sums = find_spikes(np.array(sizes, dtype=np.int64), settings)
    totals = [s + sizes[i] if current else s for i, s in zip(at.tolist(), sums, strict=True)]
    bulk = [(i, sizes[i] * window / total) for i, total in zip(at.tolist(), totals, strict=True)]
    assert bulk == by_steps(sizes, settings)


def test_sums_that_wrap_around_64_bits_are_still_exact() -> None:
    source = random.Random(3)
    sizes = [source.randint(1, 10**15) for _ in range(30_000)]  # they add up to more than 2**63
    assert sum(sizes) > 2**63
    settings = TradeSpikeSettings(window_trades=20, multiple=1.8)
    at, _ = find_spikes(np.array(sizes, dtype=np.int64), settings)
    assert at.tolist() == [i for i, _ in by_steps(sizes, settings)]
    assert len(at) > 10


def test_products_beyond_64_bits_are_computed_in_pythons_integers() -> None:
    sizes = [1 << 61] * 5 + [(1 << 62) + (1 << 61)] + [1]
    at, sums = find_spikes(np.array(sizes, dtype=np.int64), TradeSpikeSettings(window_trades=5, multiple=3.0))
    assert (at.tolist(), sums) == ([5], [5 << 61])


ROWS = """\
id,price,qty,quote_qty,time,is_buyer_maker,is_best_match
1,100.10000000,0.00100000,0.10,1740787200000001,True,True
2,100.2,5,501.0,1740787200000002,False,True
3,0.00001182,834.12345678,0.00,1740787201000,false,True
"""
ODD = (
    ROWS
    + """\
4,nan,1,1,1740787201000,true,True
5,1.0,0.00000000,1,1740787201000,true,True
6,1.0,1e3,1,1740787201000,true,True
7,1.0,2.5,1,99,true,True
8,1.0,2.5,1
9,1.0,2.123456789,1,1740787201000,perhaps,True

10,1.0,123456789.5,1,1740787202000,TRUE,True
"""
)


@pytest.mark.parametrize("text", [ROWS, ODD, ROWS.replace("\n", "\r\n"), ROWS.rstrip(), ROWS.split("\n", 1)[1], ""])
def test_blocks_hold_what_the_row_parser_reads(tmp_path: Path, text: str) -> None:
    path = tmp_path / "BTCUSDT-trades-2025-03.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("BTCUSDT-trades-2025-03.csv", text)
    recording = discover([path])[0]
    reader = Reader(recording)
    blocks = list(reader.blocks())
    rows = list(read_trades(recording))
    expected = [
        (i, t.trade_id, units(t.price), units(t.quantity), t.event_ms, t.side is Side.SELL)
        for i, t in rows
        if isinstance(t, Trade)
    ]
    got = [
        row
        for b in blocks
        for row in zip(
            *(c.tolist() for c in (b.index, b.ids, b.prices, b.quantities, b.times_ms, b.sells)), strict=True
        )
    ]
    assert got == expected
    assert reader.rows == len(rows)
    assert dict(reader.rejected) == {
        reason: sum(isinstance(r, Rejected) and r.reason == reason for _, r in rows)
        for reason in {r.reason for _, r in rows if isinstance(r, Rejected)}
    }


def test_regular_rows_are_read_as_blocks(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-aggTrades-2025-03-01.csv"
    lines = [f"{n},100.{n % 100:02d},{n + 1}.5,{n},{n},{1_740_787_200_000 + n},{'true' if n % 2 else 'false'},true"
             for n in range(20_000)]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    reader = Reader(discover([path])[0])
    assert sum(map(len, reader.blocks())) == 20_000
    assert reader.slow_rows == 0


def test_a_cut_archive_ends_with_a_rejected_row(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-trades-2025-03.csv.gz"
    path.write_bytes(gzip.compress((ROWS * 3000).encode())[:-200])
    reader = Reader(discover([path])[0])
    assert sum(map(len, reader.blocks())) > 0
    assert reader.rejected["damaged_file"] == 1


def archive(folder: Path, count: int, seed: int) -> Recording:
    source, at = random.Random(seed), 1_740_787_200_000
    path = folder / "ETHUSDT-trades-2025-03.csv"
    with path.open("w") as out:
        for n in range(count):
            at += source.randint(0, 900)
            size = source.lognormvariate(0, 1.5)
            out.write(f"{n},{2000 + n % 7}.00,{size:.5f},1,{at},{source.choice(('true', 'false'))},true\n")
    return discover([path])[0]


def test_bulk_signals_are_the_replays_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.inflating.BLOCK", 4096)  # many blocks: nothing is lost between them
    recording = archive(tmp_path, 8000, 5)
    bulk = list(spikes_of(recording, TradeSpikeSettings()))
    replay = Replay(Settings(), detectors=frozenset({Detector.TRADE_SPIKE}))
    assert [(f.index, f.signal) for f in bulk] == [(f.index, f.signal) for f in replay.run([recording])]
    assert len(bulk) > 20


@pytest.mark.recorded
def test_bulk_finds_the_expected_positions_of_every_recorded_file(recorded_dir: Path) -> None:
    expected = json.loads((recorded_dir / "expected.json").read_text())["trades"]
    files = sorted((recorded_dir / "pump" / "trades").iterdir())[:6] + sorted((recorded_dir / "trades").iterdir())[:3]
    checked = 0
    for recording in discover(files):
        assert recording.kind is RecordingKind.TRADES
        name = str(recording.path.relative_to(recorded_dir))
        at, _ = find_spikes(np.concatenate([part.quantities for part in trade_blocks(recording)]), TradeSpikeSettings())
        digest = hashlib.sha256(",".join(map(str, at.tolist())).encode()).hexdigest()
        assert (len(at), digest) == (expected[name]["n_spikes_10x_prev200"], expected[name]["spikes_index_sha256"])
        checked += 1
    assert checked == 9
