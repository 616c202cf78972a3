"""Reading recorded files: what their names tell, their rows, and what becomes of bad ones."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from local.recordings import Frame, Recording, RecordingKind, Rejected, discover, read, read_bars, read_trades
from shared.errors import UsageError
from shared.market.model import Bar, Market, Side, Trade, TradeKind

HEADER = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,\n"
KLINE = "1738368000000,10,12,9,11,5.5,1738368059999,60.5,7,3.5,38.5,0\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.with_suffix(".csv").name, text)
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "market", "symbol", "trade_kind"),
    [
        ("spot_BTCUSDT_trade_20240808T2354Z.jsonl.gz", "trades", "spot", "BTCUSDT", "trade"),
        ("usdm_BTCUSDT_260327_aggTrade_x.jsonl", "trades", "usdm", "BTCUSDT_260327", "aggTrade"),
        ("usdm_ZECUSDT_1m_20230718T1200_20230726T0000.ohlcv.csv.gz", "klines", "usdm", "ZECUSDT", None),
        ("ADXBTC_20190705T1700Z.aggtrades.jsonl.gz", "trades", "spot", "ADXBTC", "aggTrade"),
        ("spot_NKN_BLZ_20211012T0028Z.frames.jsonl.gz", "frames", "spot", None, None),
        ("usdm_ETHUSDT_20240808T2354Z.frames.jsonl.gz", "frames", "usdm", "ETHUSDT", None),
        ("BTCUSDT-1m-2025-02-01.zip", "klines", "spot", "BTCUSDT", None),
        ("futures/um/BTCUSDT-1m-2025-02.zip", "klines", "usdm", "BTCUSDT", None),
        ("BTCUSDT-trades-2025-02-01.zip", "trades", "spot", "BTCUSDT", "trade"),
        ("um/币安USDT-aggTrades-2025-02-01.csv", "trades", "usdm", "币安USDT", "aggTrade"),
    ],
)
def test_names_tell_what_a_file_holds(
    tmp_path: Path, name: str, kind: str, market: str, symbol: str | None, trade_kind: str | None
) -> None:
    path = write(tmp_path / name, "")
    told = None if trade_kind is None else TradeKind(trade_kind)
    assert discover([tmp_path]) == [Recording(RecordingKind(kind), Market(market), symbol, path, told)]


def test_symbol_and_market_given_by_hand_win(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1m-2025-02-01.csv", KLINE)
    assert discover([path], symbol="XUSDT", market=Market.USDM)[0].symbol == "XUSDT"
    odd = write(tmp_path / "odd.csv", HEADER + KLINE)
    with pytest.raises(UsageError, match="--symbol"):
        discover([odd])
    assert discover([odd], symbol="XUSDT")[0].kind is RecordingKind.KLINES


@pytest.mark.parametrize("name", ["missing.csv", "notes.txt"])
def test_what_is_no_recording_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "notes.txt", "hello")
    with pytest.raises(UsageError, match=name):
        discover([tmp_path / name])
    with pytest.raises(UsageError, match="no recordings"):
        discover([tmp_path])


def test_klines_with_and_without_header_and_in_microseconds(tmp_path: Path) -> None:
    bar = Bar(Market.SPOT, "AUSDT", 1738368000000, 1738368059999, 10, 12, 9, 11, 5.5, 60.5, 7, 3.5)
    micro = KLINE.replace("1738368000000", "1738368000000000").replace("1738368059999", "1738368059999999")
    for text in (HEADER + KLINE, KLINE, micro):
        path = write(tmp_path / "AUSDT-1m-2025-02-01.zip", text)
        assert list(read_bars(discover([path])[0])) == [(0, bar)]


def test_missing_columns_become_none(tmp_path: Path) -> None:
    path = write(tmp_path / "spot_AUSDT_1m_x.csv.gz", HEADER + "1738368000000,10,12,9,11,5.5,1738368059999,,,,,\n")
    bar = next(read_bars(discover([path])[0]))[1]
    assert isinstance(bar, Bar)
    assert (bar.quote_volume, bar.trades, bar.taker_buy_volume) == (None, None, None)


def test_archived_trades_and_aggregates(tmp_path: Path) -> None:
    spot = write(tmp_path / "BTCUSDT-trades-2025-02-01.zip", "7,100.5,0.25,25.1,1738368000123456,True,True\n")
    agg = write(tmp_path / "um" / "BTCUSDT-aggTrades-2025-02-01.zip", "a,b,c\n9,1.5,3,11,12,1738368000123,false\n")
    assert list(read_trades(discover([spot])[0])) == [
        (0, Trade(Market.SPOT, "BTCUSDT", TradeKind.TRADE, 7, 100.5, 0.25, Side.SELL, 1738368000123, 1738368000123))
    ]
    assert list(read_trades(discover([agg])[0])) == [
        (0, Trade(Market.USDM, "BTCUSDT", TradeKind.AGG_TRADE, 9, 1.5, 3.0, Side.BUY, 1738368000123, 1738368000123))
    ]


def test_bad_rows_are_counted_in_their_place(tmp_path: Path) -> None:
    good = '{"e":"trade","E":1738368000500,"s":"A","t":1,"p":"2.5","q":"1","T":1738368000123,"m":true}'
    lines = [
        good,
        good[:30],
        good.replace('"2.5"', '"nan"'),
        good.replace('"q":"1"', '"q":"-1"'),
        good.replace('"q":"1"', '"q":"x"'),
        good.replace("1738368000123", "17"),
        "",
        good.replace("1738368000123", "1738368000123000"),
    ]
    path = write(tmp_path / "spot_BUSDT_trade_x.jsonl", "\n".join(lines) + "\n")
    rows = list(read_trades(discover([path])[0]))
    assert [i for i, _ in rows] == list(range(7))
    reasons = [row.reason for _, row in rows if isinstance(row, Rejected)]
    assert reasons == ["bad_json", "bad_price", "bad_quantity", "bad_field", "bad_time"]
    trades = [row for _, row in rows if isinstance(row, Trade)]
    assert [(t.symbol, t.trade_id, t.event_ms, t.recv_ms) for t in trades] == [
        ("BUSDT", 1, 1738368000123, 1738368000500)
    ] * 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1738368000000,10,12,9,11\n", "bad_columns"),
        ("x" + KLINE[1:], "bad_field"),
        (KLINE.replace("1738368059999", "1738371599999"), "not_one_minute"),
        (KLINE.replace(",12,", ",8,"), "bad_price"),
        (KLINE.replace(",5.5,", ",inf,"), "bad_quantity"),
        (KLINE.replace("1738368000000", "1738368000001"), "bad_time"),
    ],
)
def test_bad_klines_are_rejected(tmp_path: Path, row: str, reason: str) -> None:
    path = write(tmp_path / "spot_AUSDT_1m_x.csv", KLINE + row + KLINE)
    rows = [value for _, value in read(discover([path])[0])]
    assert [v.reason if isinstance(v, Rejected) else "bar" for v in rows] == ["bar", reason, "bar"]


def test_a_cut_file_ends_with_one_rejection(tmp_path: Path) -> None:
    path = write(tmp_path / "spot_AUSDT_1m_x.csv.gz", KLINE * 2000)
    path.write_bytes(path.read_bytes()[:-40])
    reasons = Counter(v.reason for _, v in read(discover([path])[0]) if isinstance(v, Rejected))
    assert reasons == {"damaged_file": 1}
    zipped = write(tmp_path / "AUSDT-1m-2025-02-01.zip", KLINE)
    zipped.write_bytes(b"PK\x03\x04nonsense")
    assert [v.reason for _, v in read(discover([zipped])[0]) if isinstance(v, Rejected)] == ["damaged_file"]


def test_frames_keep_their_bytes(tmp_path: Path) -> None:
    frame = '{"stream":"a@trade","data":{"p": "1.50"} }'
    line = '{"recv_ns":1723161253937085768,"frame":' + frame + "}\n"
    path = write(tmp_path / "spot_A_20240808T2354Z.frames.jsonl", line)
    ((_, value),) = read(discover([path])[0])
    assert value == Frame(1723161253937085768, frame.encode())
    assert isinstance(value, Frame)
    assert value.recv_ms == 1723161253937


@pytest.mark.recorded
@pytest.mark.slow
def test_every_recorded_row_is_read(recorded_dir: Path) -> None:
    expected = json.loads((recorded_dir / "expected.json").read_text())
    wanted = {k: v["n_trades"] for k, v in expected["trades"].items()}
    wanted |= {k: v["n_bars"] for k, v in expected["klines"].items()}
    wanted |= {k: v["n_frames"] for k, v in expected["ws"].items()}
    read_counts = {}
    for recording in discover([recorded_dir]):
        rows = [not isinstance(value, Rejected) for _, value in read(recording)]
        read_counts[str(recording.path.relative_to(recorded_dir))] = sum(rows)
        assert all(rows)
    assert {k: read_counts[k] for k in wanted} == wanted
