from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shared.exchange.binance as package
from shared.exchange.binance.events import (
    Ack,
    BarUpdate,
    BookSnapshot,
    DepthDiff,
    DepthGap,
    Epoch,
    Gap,
    Ignored,
    Liquidation,
    Malformed,
    MarkPrice,
    Repeat,
    ServerShutdown,
    SetAside,
    StreamEvent,
)
from shared.exchange.binance.stream import MAX_MESSAGE, StreamParser
from shared.market.model import BookLevel, Market, Side, Trade, TradeKind

NOW = 1_791_391_082_000


def trade(id_: object, *, symbol: str = "BTCUSDT", **changed: Any) -> dict[str, Any]:
    row = {"e": "trade", "E": NOW, "s": symbol, "t": id_, "p": "61837.63", "q": "0.02", "T": NOW - 1, "m": True}
    return {**row, **changed}


def agg(id_: int, **changed: Any) -> dict[str, Any]:
    row = {"e": "aggTrade", "E": NOW, "s": "ETHUSDT", "a": id_, "p": "2681.62", "q": "1.5", "nq": "1.5", "f": 1, "l": 2,
           "T": NOW - 1, "m": False, "st": 1}  # fmt: skip
    return {**row, **changed}


def combined(data: object, stream: str = "x@y") -> bytes:
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


def feed(parser: StreamParser, *rows: object) -> list[StreamEvent]:
    return [event for row in rows for event in parser.receive(combined(row), NOW)]


def test_a_trade_has_the_values_of_the_wire() -> None:
    wanted = Trade(Market.SPOT, "BTCUSDT", TradeKind.TRADE, 7, 61837.63, 0.02, Side.SELL, NOW - 1, NOW)
    careful, fast = feed(StreamParser(Market.SPOT), trade(6), trade(7))[1], feed(StreamParser(Market.SPOT), trade(7))[0]
    assert careful == fast == wanted
    assert hash(careful) == hash(wanted)
    assert type(careful) is Trade
    with pytest.raises(AttributeError):
        careful.price = 1.0  # type: ignore[misc,union-attr]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_combined_and_raw_bytes_and_text_are_the_same(wrapped: bool, as_text: bool) -> None:
    parser, events = StreamParser(Market.USDM), []
    for id_ in (1, 2, 3):
        data = combined(agg(id_)) if wrapped else json.dumps(agg(id_)).encode()
        events += parser.receive(data.decode() if as_text else data, NOW)
    assert [(event.trade_id, event.side) for event in events if isinstance(event, Trade)] == [
        (1, Side.BUY), (2, Side.BUY), (3, Side.BUY),
    ]  # fmt: skip
    assert parser.messages == {"aggTrade": 3}


def test_ids_are_followed_per_kind_and_symbol() -> None:
    parser = StreamParser(Market.SPOT)
    events = feed(
        parser, trade(1), trade(900, symbol="币安USDT"), agg(50), trade(2), agg(51), trade(901, symbol="币安USDT")
    )
    assert all(isinstance(event, Trade) for event in events)
    assert parser.last_ids() == {"trade:BTCUSDT": 2, "trade:币安USDT": 901, "aggTrade:ETHUSDT": 51}


def test_a_hole_stands_before_the_trade_and_late_trades_are_delivered_once() -> None:
    parser = StreamParser(Market.SPOT)
    events = feed(parser, trade(1), trade(4), trade(3), trade(3), trade(2), trade(5))
    assert [e.trade_id if isinstance(e, Trade) else e for e in events] == [
        1, Gap(Market.SPOT, "BTCUSDT", TradeKind.TRADE, 2, 3), 4, 3, Repeat("BTCUSDT", "trade", 3), 2, 5,
    ]  # fmt: skip
    assert parser.missing() == []
    assert (parser.gaps, parser.repeats) == ({"trade": 2}, {"trade": 1})


def test_numbering_anew_is_told_and_goes_on() -> None:
    parser = StreamParser(Market.SPOT)
    events = feed(parser, trade(3_000_000), trade(1), trade(2), trade(1))
    assert events[1] == Epoch("BTCUSDT", "trade", 3_000_000, 1)
    assert [e.trade_id for e in events if isinstance(e, Trade)] == [3_000_000, 1, 2]
    assert parser.epochs == 1


@given(st.lists(st.integers(1, 60), min_size=1))
def test_trades_and_gaps_cover_every_id_once(ids: list[int]) -> None:
    parser = StreamParser(Market.SPOT)
    seen = [e.trade_id for e in feed(parser, *map(trade, ids)) if isinstance(e, Trade)]
    left = [id_ for gap in parser.missing() for id_ in range(gap.first_id, gap.last_id + 1)]
    assert sorted(seen + left) == list(range(min(ids), max(ids) + 1))


@given(st.permutations(range(1, 51)), st.lists(st.integers(1, 50)))
def test_shuffled_and_repeated_trades_come_out_once(ids: list[int], again: list[int]) -> None:
    parser = StreamParser(Market.SPOT)
    seen = [e.trade_id for e in feed(parser, *map(trade, [*ids, *again])) if isinstance(e, Trade)]
    assert sorted(seen) == list(range(1, 51))
    assert parser.repeats["trade"] == len(again)


# --- poison values: the id advances, the value goes nowhere (F115, F117) ---------------------------------------
POISON = [
    ("p", "price"), ("q", "quantity"),
]  # fmt: skip
VALUES = [
    "NaN",
    "inf",
    "-Infinity",
    "-1.0",
    "0.00000",
    "1e308",
    "9" * 40,
    "1." + "0" * 39,
    "abc",
    "",
    None,
    [],
    {},
    True,
    -2,
]


@pytest.mark.parametrize(("field", "reason"), POISON)
@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_poisoned_value_is_set_aside_and_the_id_counts(field: str, reason: str, value: object) -> None:
    parser = StreamParser(Market.SPOT)
    events = feed(parser, trade(1), trade(2, **{field: value}), trade(3))
    assert events[1] == SetAside(reason, "BTCUSDT", "trade", 2)
    assert [type(event) for event in events] == [Trade, SetAside, Trade]
    assert parser.rejected == {reason: 1}


def test_absurd_length_is_noticed_even_where_the_value_is_not_absurd() -> None:
    row = trade(2, q="0." + "1" * 200)
    assert feed(StreamParser(Market.SPOT), trade(1), row)[1] == SetAside("quantity", "BTCUSDT", "trade", 2)


def test_an_id_that_is_text_counts_as_an_id() -> None:
    events = feed(StreamParser(Market.SPOT), trade(1), trade("2"), trade(3))
    assert [type(event) for event in events] == [Trade, SetAside, Trade]


@pytest.mark.parametrize("id_", [None, "x", "", -1, 2**70, [], {}, True])
def test_an_unusable_id_is_malformed_and_moves_nothing(id_: object) -> None:
    parser = StreamParser(Market.SPOT)
    events = feed(parser, trade(1), trade(id_), trade(2))
    assert [type(event) for event in events] == [Trade, Malformed, Trade]


def test_an_id_written_as_a_float_never_becomes_a_float_id() -> None:
    for event in feed(StreamParser(Market.SPOT), trade(1), trade(2.0), trade(3)):
        assert not isinstance(event, Trade) or type(event.trade_id) is int


@pytest.mark.parametrize("field", ["p", "q", "T", "m", "t", "s"])
def test_a_missing_field_is_malformed_and_leaves_a_hole_to_fill(field: str) -> None:
    row = trade(2)
    del row[field]
    events = feed(StreamParser(Market.SPOT), trade(1), row, trade(3))
    assert [type(event) for event in events] == [Trade, Malformed, Gap, Trade]


def test_microseconds_are_recognised() -> None:
    (event,) = feed(StreamParser(Market.SPOT), trade(1, T=(NOW - 1) * 1000 + 999))
    assert isinstance(event, Trade)
    assert event.event_ms == NOW - 1


@pytest.mark.parametrize("time", [0, -NOW, NOW // 1000, NOW * 10, NOW * 10**6, "soon", None, 1.5])
def test_a_time_of_no_known_unit_is_refused(time: object) -> None:
    assert feed(StreamParser(Market.SPOT), trade(1), trade(2, T=time))[1] == SetAside("time", "BTCUSDT", "trade", 2)


def test_the_future_is_refused_unless_our_clock_is_known_to_be_slow() -> None:
    ahead = NOW + 3_600_000
    parser = StreamParser(Market.SPOT)
    assert feed(parser, trade(1), trade(2, T=ahead))[1] == SetAside("future", "BTCUSDT", "trade", 2)
    parser.clock_ahead_ms = 3_600_000
    assert isinstance(feed(parser, trade(3, T=ahead, E=ahead))[0], Trade)
    assert isinstance(feed(StreamParser(Market.SPOT, max_future_ms=None), trade(1), trade(2, T=ahead))[1], Trade)


@pytest.mark.parametrize("ahead_ms", [5_001, 50_000])
def test_f117_a_trade_later_than_its_own_message_is_set_aside(ahead_ms: int) -> None:
    parser = StreamParser(Market.SPOT)
    assert isinstance(feed(parser, trade(1), trade(2, T=NOW + 5_000))[1], Trade)
    assert feed(parser, trade(3, T=NOW + ahead_ms)) == [SetAside("future", "BTCUSDT", "trade", 3)]
    assert parser.rejected == {"future": 1}
    assert isinstance(feed(parser, trade(4))[0], Trade)


def test_a_message_that_is_itself_ahead_shows_a_fast_clock_not_poison() -> None:
    parser, hour, day = StreamParser(Market.SPOT), 3_600_000, 86_400_000
    for n in range(1, 60):  # a recording played back faster than the wall
        assert isinstance(feed(parser, trade(n, T=NOW + n * hour, E=NOW + n * hour + 3))[0], Trade)
    late = NOW + 60 * hour
    poison = trade(60, T=late + 400 * day, E=late)
    assert feed(parser, poison) == [SetAside("future", "BTCUSDT", "trade", 60)]
    both = trade(61, T=late + 3 * day, E=late + 3 * day)
    assert feed(parser, both) == [SetAside("future", "BTCUSDT", "trade", 61)]
    assert isinstance(feed(parser, trade(62, T=late, E=late))[0], Trade)


# --- broken messages (F114, F116) ------------------------------------------------------------------------------
BROKEN = [
    b"", b" ", b"[]", b"null", b"{}", b"1", b'"x"', b"\x00\xff\xfe", combined(trade(2))[:60], b"[" * 200_000,
    b'{"a":' * 100_000, b'{"data":' + b"[" * 100_000, b'{"stream":"a","data":[]}', b'{"stream":"a","data":null}',
    b'{"stream":"a","data":7}', b'{"e":7}', b'{"e":"trade"}', b"x" * (2 << 20), b'{"e":"kline","s":"A","k":[]}',
    b'{"e":"depthUpdate","s":"A"}', b'{"e":"forceOrder","o":1}', b'{"e":"markPriceUpdate","s":"A","p":"x"}', "\ud800",
    b"[1]",
]  # fmt: skip


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_message_is_one_malformed_and_nothing_else(data: bytes | str) -> None:
    parser = StreamParser(Market.USDM)
    feed(parser, trade(1))
    events = parser.receive(data, NOW)
    assert [type(event) for event in events] == [Malformed]
    assert len(events[0].text) <= 200  # type: ignore[union-attr]
    assert parser.rejected.total() == 1
    assert isinstance(feed(parser, trade(2))[0], Trade)


KEYS = [*"esEtapqTmkoUubAB", "data", "stream", "id", "code", "st", "lastUpdateId"]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=8),
    max_leaves=20,
)


@given(st.binary(max_size=300) | st.text(max_size=300) | ANY_JSON.map(json.dumps))
def test_nothing_that_comes_in_raises(data: bytes | str) -> None:
    parser = StreamParser(Market.USDM, raw_symbol="A")
    assert parser.receive(data, NOW)


@given(
    st.sampled_from(["trade", "aggTrade"]),
    st.dictionaries(
        st.sampled_from(["p", "q", "T", "m", "t", "a", "s", "st"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=45) | st.floats(0).map(str),
    ),
)
def test_whatever_stands_in_a_trade_only_good_values_come_out(kind: str, changed: dict[str, Any]) -> None:
    parser = StreamParser(Market.USDM)
    for id_ in (1, 2):
        row = {**(trade(id_) if kind == "trade" else agg(id_)), **(changed if id_ == 2 else {})}
        for event in feed(parser, row):
            if isinstance(event, Trade):
                assert 0 < event.price < 1e15
                assert 0 < event.quantity < 1e15
                assert 1e12 <= event.event_ms <= NOW + 60_000
                assert type(event.trade_id) is int


def test_unknown_kinds_and_new_fields_do_no_harm() -> None:
    parser = StreamParser(Market.SPOT)
    events = feed(
        parser,
        {"e": "blockTrade", "s": "A"},
        trade(1, new={"x": [1]}),
        {"u": 1, "s": "A", "b": "1", "B": "1", "a": "2", "A": "1"},
    )
    assert events[0] == Ignored("blockTrade")
    assert isinstance(events[1], Trade)
    assert events[2] == Ignored("bookTicker")
    for number in range(300):
        feed(parser, {"e": f"kind{number}"})
    assert len(parser.ignored) <= 101
    assert parser.ignored.total() == 302


# --- other kinds -----------------------------------------------------------------------------------------------
KLINE = {"t": 1601630220000, "T": 1601630279999, "s": "BTCUSDT", "i": "1m", "f": 1, "L": 3, "o": "10", "c": "11",
         "h": "12", "l": "9", "v": "20.5", "n": 3, "x": True, "q": "215", "V": "1.5", "Q": "20", "B": "0"}  # fmt: skip


def kline(**changed: Any) -> dict[str, Any]:
    return {"e": "kline", "E": NOW, "s": "BTCUSDT", "k": {**KLINE, **changed}}


def test_a_kline_is_a_bar_and_says_whether_it_is_closed() -> None:
    (event,) = feed(StreamParser(Market.SPOT), kline())
    assert isinstance(event, BarUpdate)
    assert event.closed
    assert (event.bar.open, event.bar.high, event.bar.low, event.bar.close) == (10, 12, 9, 11)
    assert (event.bar.volume, event.bar.quote_volume, event.bar.trades, event.bar.taker_buy_volume) == (
        20.5,
        215,
        3,
        1.5,
    )
    (micro,) = feed(StreamParser(Market.SPOT), kline(t=1601630220000000, T=1601630279999999, v="0"))
    assert isinstance(micro, BarUpdate)
    assert micro.bar.open_ms == 1601630220000


@pytest.mark.parametrize(
    "changed",
    [{"o": "NaN"}, {"h": "8"}, {"v": "-1"}, {"t": 1601630220001}, {"T": 1}, {"x": 1}, {"n": "3"}, {"t": NOW + 600_000}],
)
def test_a_kline_with_a_wrong_value_is_refused(changed: dict[str, Any]) -> None:
    assert isinstance(feed(StreamParser(Market.SPOT), kline(**changed))[0], Malformed)


def test_other_intervals_are_not_ours() -> None:
    assert feed(StreamParser(Market.SPOT), kline(i="5m")) == [Ignored("kline_5m")]


def depth(first: int, last: int, previous: int | None = None, **changed: Any) -> dict[str, Any]:
    row = {
        "e": "depthUpdate",
        "E": NOW,
        "s": "A",
        "U": first,
        "u": last,
        "b": [["1", "0"]],
        "a": [["2", "3"]],
        **changed,
    }
    return row if previous is None else {**row, "pu": previous}


def test_depth_chains_by_u_on_spot_and_by_pu_on_futures() -> None:
    spot = StreamParser(Market.SPOT)
    events = feed(spot, depth(1, 5), depth(6, 9), depth(11, 12), depth(11, 12))
    assert events[2:] == [
        DepthGap("A", 10, 11),
        DepthDiff("A", 11, 12, None, (BookLevel(1, 0),), (BookLevel(2, 3),), NOW),
        Repeat("A", "depthUpdate", 12),
    ]
    futures = StreamParser(Market.USDM)
    kinds = [type(e) for e in feed(futures, depth(1, 5, 0), depth(9, 12, 5), depth(20, 22, 13))]
    assert kinds == [DepthDiff, DepthDiff, DepthGap, DepthDiff]
    assert futures.depth_gaps == 1


def test_an_unreadable_level_sets_the_difference_aside() -> None:
    events = feed(StreamParser(Market.SPOT), depth(1, 5), depth(6, 7, a=[["NaN", "1"]]), depth(8, 9))
    assert [type(event) for event in events] == [DepthDiff, SetAside, DepthDiff]


def test_partial_books_take_their_symbol_from_the_stream() -> None:
    body = {"lastUpdateId": 7, "bids": [["2", "1"], ["x", "1"]], "asks": []}
    (event,) = StreamParser(Market.SPOT).receive(combined(body, "btcusdt@depth5"), NOW)
    assert isinstance(event, BookSnapshot)
    assert (event.book.symbol, event.book.bids, event.book.skipped_levels) == ("BTCUSDT", (BookLevel(2, 1),), 1)
    assert feed(StreamParser(Market.SPOT)) == []
    raw = json.dumps(body)
    assert StreamParser(Market.SPOT).receive(raw, NOW) == [Ignored("book without a symbol")]
    assert isinstance(StreamParser(Market.SPOT, raw_symbol="A").receive(raw, NOW)[0], BookSnapshot)
    futures = StreamParser(Market.USDM).receive(combined(depth(1, 2, 0), "a@depth10@100ms"), NOW)
    assert isinstance(futures[0], BookSnapshot)


def test_mark_prices_come_alone_or_as_a_list() -> None:
    row = {"e": "markPriceUpdate", "E": NOW, "s": "BTCUSDT", "p": "5.5", "r": "0.0001", "T": NOW + 5, "st": 1}
    wanted = MarkPrice("BTCUSDT", 5.5, 0.0001, NOW + 5, NOW)
    parser = StreamParser(Market.USDM)
    quarterly = {**row, "s": "BTCUSDT_261225", "r": "", "T": 0}
    events = feed(parser, row, [row, {**row, "s": "BTCUSD_PERP", "st": 2}, quarterly])
    assert events == [wanted, wanted, Ignored("coin-margined"), MarkPrice("BTCUSDT_261225", 5.5, None, None, NOW)]
    assert parser.receive(json.dumps([row]), NOW) == [wanted]


def test_coin_margined_messages_are_ignored() -> None:
    order = {"s": "BTCUSDT", "S": "SELL", "ap": "2", "z": "3", "T": NOW}
    parser = StreamParser(Market.USDM)
    assert feed(parser, {"e": "forceOrder", "E": NOW, "o": order, "st": 1}) == [
        Liquidation("BTCUSDT", Side.SELL, 2, 3, 6, NOW)
    ]
    assert feed(parser, {"e": "forceOrder", "E": NOW, "o": {**order, "st": 2}}) == [Ignored("coin-margined")]
    assert feed(parser, {"e": "forceOrder", "E": NOW, "o": order, "st": 2}) == [Ignored("coin-margined")]
    assert feed(parser, agg(1, s="BTCUSD_PERP", st=2), agg(2, s="BTCUSD_PERP")) == [Ignored("coin-margined")] * 2


def test_answers_to_commands_and_the_notice_of_a_shutdown() -> None:
    parser = StreamParser(Market.SPOT)
    assert parser.receive('{"result":null,"id":1}', NOW) == [Ack(1, None)]
    assert parser.receive('{"code":2,"msg":"Invalid request","id":3}', NOW) == [Ack(3, "2 Invalid request")]
    assert parser.receive('{"error":{"code":2,"msg":"no"},"id":"a"}', NOW) == [Ack("a", "2 no")]
    assert parser.receive('{"e":"serverShutdown","E":1}', NOW) == [ServerShutdown()]
    assert parser.receive('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', NOW) == [ServerShutdown()]


# --- restart and filling ---------------------------------------------------------------------------------------
def test_a_restart_shows_what_was_missed_and_keeps_open_holes() -> None:
    before = StreamParser(Market.SPOT)
    feed(before, trade(1), trade(4))
    after = StreamParser(Market.SPOT)
    after.resume(before.last_ids(), before.missing())
    assert feed(after, trade(4)) == [Repeat("BTCUSDT", "trade", 4)]
    events = feed(after, trade(2), trade(7))
    assert [type(event) for event in events] == [Trade, Gap, Trade]
    assert [(gap.first_id, gap.last_id) for gap in after.missing()] == [(3, 3), (5, 6)]


def test_filled_trades_come_out_once_even_when_the_stream_brings_them_too() -> None:
    parser = StreamParser(Market.SPOT)
    feed(parser, trade(1), trade(6), trade(3))
    fetched = [Trade(Market.SPOT, "BTCUSDT", TradeKind.TRADE, i, 1, 1, Side.BUY, NOW, NOW) for i in range(2, 9)]
    events = parser.fill(fetched)
    assert [e.trade_id for e in events if isinstance(e, Trade)] == [2, 4, 5, 7, 8]
    assert feed(parser, trade(7), trade(8), trade(9))[:2] == [
        Repeat("BTCUSDT", "trade", 7),
        Repeat("BTCUSDT", "trade", 8),
    ]
    assert parser.missing() == []


def test_a_hole_that_cannot_be_filled_is_given_up() -> None:
    parser = StreamParser(Market.SPOT)
    gap = feed(parser, trade(1), trade(6))[1]
    assert isinstance(gap, Gap)
    assert (gap.size, parser.abandon(gap), parser.missing()) == (4, 4, [])


def test_a_message_at_the_size_limit_is_still_looked_into() -> None:
    text = json.dumps(trade(1))
    assert isinstance(StreamParser(Market.SPOT).receive(text + " " * (MAX_MESSAGE - len(text)), NOW)[0], Trade)


def test_the_core_is_pure() -> None:
    folder = Path(package.__file__).parent
    core = [
        folder / f"{name}.py"
        for name in ("wire", "messages", "events", "stream", "followed", "ids", "limits", "endpoints")
    ]
    core += [folder.parents[2] / "streamer" / "backoff.py"]
    for path in core:
        imported = {
            name.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for name in node.names
        } | {
            (node.module or "").split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
        }
        assert not imported & {"time", "os", "logging", "asyncio", "socket", "random"}, path
