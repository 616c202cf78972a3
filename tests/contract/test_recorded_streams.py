"""Every recorded frame is understood, and what is counted equals what was counted independently."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from shared.exchange.binance.events import (
    BarUpdate,
    BookSnapshot,
    DepthDiff,
    DepthGap,
    Ignored,
    Liquidation,
    Malformed,
    MarkPrice,
    SetAside,
)
from shared.exchange.binance.stream import StreamParser
from shared.market.model import Market, Side, Trade, TradeKind

pytestmark = pytest.mark.recorded


class Line(msgspec.Struct):
    recv_ns: int
    frame: msgspec.Raw


_line = msgspec.json.Decoder(Line)
_WORDS = {"book": "REST depth body", "bookTicker": "bookTicker"}
FILES = (
    "spot_BTCUSDT_20240808T2354Z",
    "spot_NKN_BLZ_LRC_RUNE_20211012T0028Z",
    "usdm_BTCUSDT_20220811T1427Z",
    "usdm_ETHUSDT_20240808T2354Z",
    "usdm_SUSHI_AKRO_KEEP_CTK_20210722T2225Z",
)


@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_understood(recorded_dir: Path, name: str) -> None:
    expected = json.loads((recorded_dir / "expected.json").read_text())["ws"][f"ws/{name}.frames.jsonl.gz"]
    market = Market(name.partition("_")[0])
    parser = StreamParser(market, raw_symbol=name.split("_")[1])
    trades: Counter[str] = Counter()
    breaks: Counter[str] = Counter()
    last_ids: dict[tuple[str, TradeKind], int] = {}
    with gzip.open(recorded_dir / "ws" / f"{name}.frames.jsonl.gz") as lines:
        for text in lines:
            line = _line.decode(text)
            for event in parser.receive(bytes(line.frame), line.recv_ns // 1_000_000):
                assert not isinstance(event, Malformed | SetAside), event
                if isinstance(event, Trade):
                    trades[event.symbol] += 1
                    assert event.trade_id is not None
                    assert event.trade_id > last_ids.get((event.symbol, event.kind), -1)
                    last_ids[event.symbol, event.kind] = event.trade_id
                elif isinstance(event, DepthGap):
                    breaks[event.symbol] += 1
    assert dict(trades) == expected["trades_by_symbol"]
    assert {symbol: breaks[symbol] for symbol in expected["n_depth_continuity_breaks"]} == expected[
        "n_depth_continuity_breaks"
    ]
    by_type = Counter(
        {_WORDS.get(kind, str(kind)): count for kind, count in (parser.messages + parser.ignored).items()}
    )
    wanted = Counter({kind.replace("(no e)", ""): count for kind, count in expected["by_type"].items()})
    assert by_type == wanted
    assert parser.rejected == {}
    assert by_type.total() == expected["n_frames"]
    assert not parser.gaps
    assert not parser.repeats


@pytest.mark.parametrize(
    ("name", "market", "count"),
    [
        ("spot_BTCUSDT_trade_20240808T2354Z", Market.SPOT, 19904),
        ("usdm_ETHUSDT_trade_20240808T2354Z", Market.USDM, 14076),
        ("usdm_BTCUSDT_trade_20220811T1427Z", Market.USDM, 1326),
    ],
)
def test_raw_trade_lines_have_the_values_of_the_wire(recorded_dir: Path, name: str, market: Market, count: int) -> None:
    parser, seen = StreamParser(market), 0
    with gzip.open(recorded_dir / "trades" / f"{name}.jsonl.gz") as lines:
        for text in lines:
            (trade,) = parser.receive(text, recv_ms=0)
            row = json.loads(text)
            side = Side.SELL if row["m"] else Side.BUY
            assert trade == Trade(
                market, row["s"], TradeKind.TRADE, row["t"], float(row["p"]), float(row["q"]), side, row["T"], 0
            )
            seen += 1
    assert seen == count == parser.messages["trade"]


def test_single_messages_are_all_classified(recorded_dir: Path) -> None:
    kinds: Counter[str] = Counter()
    events = []
    for text in (recorded_dir / "ws" / "single_messages.jsonl").read_text().splitlines():
        frame = json.dumps(json.loads(text)["frame"], separators=(",", ":"))
        market = Market.SPOT if '"M":true' in frame else Market.USDM
        (event,) = StreamParser(market, raw_symbol="BTCUSDT").receive(frame, 1_791_391_083_124)
        events.append(event)
        kinds[event.kind if isinstance(event, Ignored) else type(event).__name__] += 1
    assert kinds == {
        "Trade": 5,
        "BarUpdate": 1,
        "MarkPrice": 2,
        "Liquidation": 1,
        "DepthDiff": 2,
        "BookSnapshot": 5,
        "24hrTicker": 3,
        "bookTicker": 1,
        "continuous_kline": 1,
        "ticker_all": 1,
        "openInterest": 2,
        "coin-margined": 14,
    }
    assert next(event for event in events if isinstance(event, MarkPrice)) == MarkPrice(
        "BTCUSDT", 58940.14924532, 0.00058455, 1617321600000, 1617308820003
    )
    (liquidation,) = [event for event in events if isinstance(event, Liquidation)]
    assert liquidation == Liquidation("ILVUSDT", Side.SELL, 3.85642, 116.5, 3.85642 * 116.5, 1791391082119)
    (update,) = [event for event in events if isinstance(event, BarUpdate)]
    assert (update.bar.open_ms, update.bar.close, update.bar.trades, update.closed) == (
        1601630220000,
        10441.8,
        183,
        False,
    )
    books = [event.book for event in events if isinstance(event, BookSnapshot)]
    assert [book.last_update_id for book in books] == [
        1437010882721,
        33933317943,
        1570223094073,
        1570255790655,
        1594316863126,
    ]
    diffs = [event for event in events if isinstance(event, DepthDiff)]
    assert [diff.symbol for diff in diffs] == ["BTCUSDT", "ETHUSDT_210625"]
    live = events[-2]
    assert isinstance(live, Trade)
    assert (live.trade_id, live.price, live.quantity, live.side) == (3478018549, 83434.4, 0.016, Side.SELL)
