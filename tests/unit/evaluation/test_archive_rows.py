"""An archive's rows in C say what the careful path says: every signal, every window, every count."""

from __future__ import annotations

import gzip
import random
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.inflating import text_blocks
from local.recordings import discover
from local.replay_results import Summary
from local.replay_trades import TRADE_DETECTORS, TradeWalk
from shared.detection.reading import Detector
from shared.settings import PumpSettings, Settings, TradeSpikeSettings, WindowAnomalySettings
from streamer import native
from streamer.actions import StoreWindows

START_US = 1_740_787_200_000_000
RULES = msgspec.structs.replace(
    Settings(),
    trade_spike=TradeSpikeSettings(window_trades=7, multiple=3.0),
    window_anomaly=WindowAnomalySettings(enabled=False),
)
# A pump soon, so that a short archive holds some.
PUMPS = msgspec.structs.replace(
    RULES, pump=PumpSettings(enabled=True, threshold=0.001, pause_minutes=0.1, warmup_hours=0.002)
)
ODD = [
    "", "   ", "id,price,qty,quote_qty,time,is_buyer_maker", "7,nan,1,1,1740787201000,true,True", "x", "1,2,3",
    "8,1.0,0.00000000,1,1740787201000,true,True", "9,1.0,1e3,1,1740787202000,true,True", "10,1.0,2.5,1,99,true,True",
    "11,1.0,2.123456789,1,1740787203000,False,True", "12,+1.5,2.5,1,1740787204000,False,True",
    "13,1.0,123456789.5,1,1740787205000,TRUE,True", "14,1.0,2.5,1,1740787206000,perhaps,True",
    "015,1.0,2.5,1,1740787206000,true,True", "16,1.0,99999999999.5,1,1740787207000,true,True",
    "17,12345678901234567.0,2.5,1,1740787207000,true,True", "18,1.0,2.5,1,4102444800000,true,True",
    "19,1.0,2.5,1,1740787208000,true,True,more,and more", '"20",1.0,2.5,1,1740787208000,true,True', "21,,,,,,", "\xff",
]  # fmt: skip


def walked(
    path: Path, since_ms: int | None = None, until_ms: int | None = None, rules: Settings = RULES
) -> dict[str, Any]:
    """Return everything that a walk says: signals with their positions, windows, counts."""
    [recording] = discover([path])
    summary, windows = Summary(), []

    class Watched(TradeWalk):
        def _execute(self, symbol: str, actions: list[Any], index: int) -> Any:
            windows.extend(v.window for one in actions if isinstance(one, StoreWindows) for v in one.verdicts)
            return super()._execute(symbol, actions, index)

    walk = Watched(rules, recording, TRADE_DETECTORS, summary)
    found = list(walk.run(since_ms, until_ms))
    states = [
        {**session.states[symbol].snapshot("t"), "newest_ms": session.newest_ms, "used": session.states[symbol].used}
        for symbol, session in walk._sessions.items()
    ]
    return {
        "found": [(one.signal, one.index, one.source) for one in found],
        "windows": windows,
        "summary": summary,
        "states": states,
    }


def both(path: Path, monkeypatch: pytest.MonkeyPatch, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    said = []
    for word in ("1", "0"):
        monkeypatch.setenv("TAPEWATCH_NATIVE", word)
        said.append(walked(path, **how))
    return said[0], said[1]


@st.composite
def archives(draw: st.DrawFn) -> tuple[str, bytes]:
    """Mostly plain rows, with gaps and repeats of ids, times out of order and far away, and what is no row."""
    aggregates, futures = draw(st.booleans()), draw(st.booleans())
    source = random.Random(draw(st.integers(0, 10**6)))
    oddness = draw(st.sampled_from([0.0, 0.02, 0.2]))
    unit = draw(st.sampled_from([1, 1000]))
    spread = draw(st.sampled_from([1, 3000]))  # the larger one holds chunks that the pump rule judges
    lines, id_, at_us = [], source.randint(1, 10**12), START_US
    for _ in range(draw(st.integers(1, 400))):
        odd = source.random() < oddness
        if odd and source.random() < 0.5:
            lines.append(source.choice(ODD))
            continue
        id_ += source.choice([0, 2, -1, 500]) if odd else 1
        at_us += (
            source.choice([-30_000_000, 10**14, 90_000_000, 0])
            if odd
            else source.choice([0, source.randint(0, 400_000)])
        )
        size = f"{source.lognormvariate(0, 1.5):.{source.randint(1, 8)}f}" if source.random() < 0.9 else "3"
        price = f"{60_000 + source.random() * spread:.{source.randint(1, 8)}f}"
        flag, best = source.choice(["true", "false", "True", "False"]), [] if futures else ["True"]
        middle = ["17", "18"] if aggregates else ["1.5"]
        lines.append(",".join([str(id_), price, size, *middle, str(at_us // unit), flag, *best]))
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    text = ends.join(lines) + draw(st.sampled_from(["", ends]))
    return ("aggTrades" if aggregates else "trades"), text.encode("latin-1")


needs_native = pytest.mark.skipif(native.load() is None, reason="the C loop is not built: no compiler")


@needs_native
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(archives(), st.none() | st.integers(0, 200), st.none() | st.integers(0, 200), st.sampled_from([RULES, PUMPS]))
def test_rows_in_c_say_what_the_careful_path_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    archive: tuple[str, bytes],
    since: int | None,
    until: int | None,
    rules: Settings,
) -> None:
    kind, text = archive
    path = tmp_path / f"BTCUSDT-{kind}-2025-03.csv"
    path.write_bytes(text)
    monkeypatch.setattr("local.inflating.BLOCK", 700)
    span = {
        name: None if second is None else START_US // 1000 + 1000 * second
        for name, second in (("since_ms", since), ("until_ms", until))
    }
    quick, careful = both(path, monkeypatch, rules=rules, **span)
    assert quick == careful


@needs_native
def test_pumps_are_among_what_both_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders of several fills in a millisecond, a price that runs away: what the property test must not miss."""
    source, lines, price = random.Random(4), list[str](), 100.0
    for n in range(4_000):
        burst = n % 500 > 400
        price *= 1.0006 if burst else (0.94 if n % 500 == 0 else 1.0)
        at_ms = START_US // 1000 + n // 3 * 300 + (n % 3 if n % 2 else 0)
        size = source.lognormvariate(3 if burst else 0, 1)
        lines.append(f"{n},{price:.6f},{size:.5f},1,{at_ms},{source.choice(['true', 'false', 'false'])},True")
    path = tmp_path / "XBTC-trades-2025-03.csv"
    path.write_text("\n".join(lines) + "\n")
    quick, careful = both(path, monkeypatch, rules=PUMPS)
    assert quick == careful
    pumps = [signal for signal, *_ in quick["found"] if signal.detector is Detector.PUMP]
    assert len(pumps) > 3
    assert any(signal.values["sweeps"] > 0 and signal.values["levels"] > 0 for signal in pumps)


@needs_native
def test_plain_rows_are_taken_in_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{n},100.{n % 100:02d},{1 + n % 3}.5,1,{START_US // 1000 + n * 20},true,True" for n in range(20_000)]
    path = tmp_path / "BTCUSDT-trades-2025-03.csv"
    path.write_text("\n".join(lines) + "\n")
    careful = list[int]()
    step = TradeWalk._row

    def counted(self: TradeWalk, row: Any, index: int, *span: Any) -> Any:
        careful.append(index)
        return step(self, row, index, *span)

    monkeypatch.setattr(TradeWalk, "_row", counted)
    said = walked(path)
    assert said["summary"].inputs == 20_000
    assert said["summary"].windows == 20
    assert len(careful) <= 2 * 20 + 1  # the first, and those that open or close a window


@needs_native
def test_wrong_calls_are_refused() -> None:
    module = native.load()
    assert module is not None
    feed = module.Feed(b"trade")
    row = feed.add(b"X", 3)
    for arguments in ((row + 1, b"", 0, 5), (row, b"", 1, 5), (row, b"", -1, 5), (row, b"", 0, 4)):
        with pytest.raises((ValueError, IndexError)):
            feed.take_rows(*arguments, 0, 1, 0)
    with pytest.raises(ValueError):
        module.columns(b"", 7)
    assert module.columns(b"1,1.5,2.5,1,1740787201000,true", 5) is None  # its line has no end
    assert feed.take_rows(row, b"1,1.5,2.5,1,1740787201000,true", 0, 5, 0, 1 << 60, 0) == (0, 0, 0, [], None)


def packed(tmp_path: Path, form: str, text: bytes) -> Path:
    if form == "zip":
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("b.csv", text[: len(text) // 2])
            archive.writestr("c.csv", text[len(text) // 2 :])
            archive.writestr("notes.txt", "no rows")
    elif form == "stored.zip":
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("b.csv", text)
    else:
        path = tmp_path / f"a.{form}"
        path.write_bytes(gzip.compress(text) if form == "csv.gz" else text)
    return path


@pytest.mark.parametrize("form", ["zip", "stored.zip", "csv.gz", "csv"])
def test_blocks_are_the_files_lines(tmp_path: Path, form: str) -> None:
    source = random.Random(2)
    lines = [bytes(source.choices(b"0123456789,.", k=source.randint(0, 90))) for _ in range(30_000)]
    text = b"\n".join(lines)
    path, positions = packed(tmp_path, form, text), list[int]()
    blocks = list(text_blocks(path, positions.append))
    assert len(blocks) > 1
    assert 0 < positions[0] < positions[-1] <= path.stat().st_size or form == "stored.zip"
    assert all(block.endswith(b"\n") for block in blocks)
    split = text[: len(text) // 2] + b"\n" + text[len(text) // 2 :] if form == "zip" else text
    assert b"".join(blocks) == split + b"\n"


def test_a_damaged_member_is_told(tmp_path: Path) -> None:
    path = packed(tmp_path, "zip", bytes(random.Random(3).choices(b"0123456789\n", k=400_000)))
    whole = path.read_bytes()
    for damaged in (whole[:60] + b"\xff" * 40 + whole[100:], whole[:2000] + whole[2003:]):
        path.write_bytes(damaged)
        with pytest.raises(Exception) as told:
            list(text_blocks(path))
        from local.inflating import DAMAGED

        assert isinstance(told.value, DAMAGED)
