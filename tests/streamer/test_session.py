"""What the session must do with what comes in, whatever it is and wherever it was cut."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detection.forest import FlatForest
from shared.detection.reading import Detector, Signal, Status
from shared.detection.window_anomaly import FitRequest, WindowAnomalyDetector, WindowVerdict
from shared.exchange.binance.events import Gap
from shared.market.model import Market, Trade, TradeKind
from shared.settings import PumpSettings, Settings
from shared.storage.windows import window_row
from streamer.actions import Action, EmitSignal, FillGap, FitModel, Reconnect, StoreWindows
from streamer.native import load as load_native
from streamer.session import Session
from tests.streamer.streams import frame, settings, trades

Facts = tuple[list[Signal], list[WindowVerdict]]


FITTED: dict[tuple[str, int], FlatForest] = {}


def fit(request: FitRequest) -> FlatForest:
    """Fit once what many runs of the same stream ask for: a fit depends on nothing but its windows."""
    key = (request.symbol, hash(request.features.tobytes()))
    if key not in FITTED:
        FITTED[key] = request.fit()
    return FITTED[key]


PUMPS = msgspec.structs.replace(
    settings(), pump=PumpSettings(enabled=True, threshold=0.001, pause_minutes=0.1, warmup_hours=0.002)
)


def new_session(rules: Settings | None = None) -> Session:
    return Session(rules or settings(), Market.SPOT, ("BTCUSDT", "ETHUSDT"))


def take(session: Session, actions: list[Action], facts: Facts) -> None:
    """Do what a replay does: fit at once, keep the rest."""
    for action in actions:
        if isinstance(action, FitModel):
            session.install(action.symbol, fit(action.request), action.request)
        elif isinstance(action, EmitSignal):
            facts[0].append(action.signal)
        elif isinstance(action, StoreWindows):
            facts[1].extend(action.verdicts)


def facts_of(stream: list[Trade]) -> Facts:
    session, facts = new_session(), ([], [])
    for trade in stream:
        take(session, session.trade(trade), facts)
    return facts


STREAM = sorted([*trades(2400, seed=3), *trades(1600, seed=4, symbol="ETHUSDT")], key=lambda t: (t.event_ms, t.symbol))
GOLDEN = facts_of(STREAM)


def test_the_stream_holds_both_kinds_of_signal() -> None:
    kinds = {signal.detector for signal in GOLDEN[0]}
    assert kinds == {Detector.TRADE_SPIKE, Detector.WINDOW_ANOMALY}
    assert len(GOLDEN[1]) > 100


def test_messages_and_parsed_trades_say_the_same() -> None:
    session, facts = new_session(), ([], [])
    for trade in STREAM:
        take(session, session.receive(frame(trade), trade.recv_ms), facts)
    assert facts == GOLDEN
    assert session.trades == len(STREAM)
    assert not session.rejected
    assert session.models == 2
    assert session.learning() == {}
    assert session.lag_ms == 20


@hypothesis.settings(max_examples=25)
@given(st.lists(st.integers(0, len(STREAM)), min_size=1, max_size=3))
def test_a_restart_anywhere_continues_exactly(cuts: list[int]) -> None:
    session, facts = new_session(), ([], [])
    models: dict[str, tuple[bytes, int]] = {}
    memories: dict[str, dict[str, Any]] = {}
    for at, trade in enumerate(STREAM):
        for _ in range(cuts.count(at)):
            stored = msgspec.msgpack.decode(msgspec.msgpack.encode(session.snapshot()))
            session = new_session()
            for symbol, snapshot in stored.items():
                memory = memories.get(symbol)
                after_ms = memory["through_ms"] if memory else -1
                windows = [v for v in facts[1] if v.window.symbol == symbol and v.window.start_ms > after_ms]
                assert session.restore(
                    symbol, snapshot, models.get(symbol), memory=memory, rows=[window_row(v) for v in windows]
                )
            take(session, session.due_fits(), facts)
        if at % 517 == 0:  # memories are older than the positions that they are used with
            memories = {symbol: session.memory(symbol) for symbol in session.symbols}
        actions = session.receive(frame(trade), trade.recv_ms)
        for action in actions:
            if isinstance(action, FitModel):
                models[action.symbol] = (fit(action.request).to_bytes(), action.request.after_n)
        take(session, actions, facts)
    assert facts == GOLDEN
    assert session.gaps == 0


def test_a_fit_that_was_out_at_the_restart_is_asked_for_again() -> None:
    session = new_session()
    asked = None
    for trade in STREAM:
        asked = next((a for a in session.trade(trade) if isinstance(a, FitModel)), None)
        if asked:
            break
    assert asked is not None
    restored = new_session()
    for symbol, snapshot in session.snapshot().items():
        assert restored.restore(symbol, snapshot, memory=session.memory(symbol))
    (again,) = restored.due_fits()
    assert isinstance(again, FitModel)
    assert again.symbol == asked.symbol
    assert again.request.after_n == asked.request.after_n
    assert (again.request.features == asked.request.features).all()


def test_a_snapshot_of_other_settings_or_nonsense_changes_nothing() -> None:
    session = new_session()
    for trade in STREAM[:500]:
        session.trade(trade)
    good = session.snapshot()["BTCUSDT"]
    fresh = new_session()
    for bad in (
        {},
        {"version": 99},
        {**good, "kind": "aggTrade"},
        {**good, "aggregator": {}},
        {**good, "hole_from_ms": "x"},
    ):
        assert not fresh.restore("BTCUSDT", bad)
    assert fresh.position("BTCUSDT") == (None, 0)
    assert not fresh.restore("XRPUSDT", good)
    assert fresh.restore("BTCUSDT", good, (b"damaged", 30))
    assert fresh.rejected["model_unusable"] == 1


def test_warming_up_learns_and_signals_nothing() -> None:
    stream = trades(4000, seed=5)
    warm, cold, facts = new_session(), new_session(), ([], [])
    for start in range(0, 3000, 1000):
        actions = warm.warm(stream[start : start + 1000])
        assert not any(isinstance(action, EmitSignal) for action in actions)
        take(warm, actions, ([], []))
    for trade in stream[:3000]:
        take(cold, cold.trade(trade), ([], []))
    assert [warm.position("BTCUSDT"), warm.gaps] == [cold.position("BTCUSDT"), 0]
    # The stream overlaps with the past: what was had already is a repeat, then everything goes on.
    for trade in stream[2900:]:
        take(warm, warm.receive(frame(trade), trade.recv_ms), facts)
    assert warm.rejected == {"repeat": 100}
    assert [s.trade_id for s in facts[0] if s.detector is Detector.TRADE_SPIKE] == [
        s.trade_id for s in facts_of(stream)[0] if s.detector is Detector.TRADE_SPIKE and (s.trade_id or 0) >= 4000
    ]


def test_a_page_behind_the_position_leaves_a_hole() -> None:
    stream = trades(3000, seed=6)
    session = new_session()
    session.warm(stream[:1000])
    facts: Facts = ([], [])
    take(session, session.warm([*stream[900:1000], *stream[1200:]]), facts)
    assert (session.gaps, session.missing) == (1, 200)
    lost = {t.event_ms // 2000 for t in stream[1000:1200]}
    holed = {v.window.start_ms // 2000 for v in facts[1] if not v.window.complete}
    assert holed
    assert {v.window.start_ms // 2000 for v in facts[1]} & lost == holed


@pytest.mark.parametrize("late", [True, False])
def test_a_gap_marks_its_windows_unless_the_trades_come_in_time(late: bool) -> None:
    stream = trades(600, seed=7)
    session, facts = new_session(), ([], [])
    for trade in [*stream[:300], *stream[305:310]]:
        actions = session.receive(frame(trade), trade.recv_ms)
        take(session, actions, facts)
        for action in actions:
            if isinstance(action, FillGap):
                assert (action.gap.first_id, action.gap.last_id) == (1300, 1304)
    assert (session.gaps, session.missing) == (1, 5)
    if late:
        take(session, session.fill(stream[298:306]), facts)  # a page holds more than what is missing
        assert session.missing == 0
        assert session.rejected == {"repeat": 3}
    else:
        assert session.position("BTCUSDT")[0] == 1299  # what is behind the hole waits
        take(session, session.abandon(Gap(Market.SPOT, "BTCUSDT", TradeKind.TRADE, 1300, 1304)), facts)
        assert session.missing == 5
    for trade in stream[310:]:
        take(session, session.receive(frame(trade), trade.recv_ms), facts)
    holed = [v for v in facts[1] if not v.window.complete]
    if late:
        whole = facts_of(stream)[1]
        assert [v.window for v in facts[1]] == [v.window for v in whole][-len(facts[1]) :]
    else:
        lost = {t.event_ms // 2000 for t in stream[300:305]}
        assert lost <= {v.window.start_ms // 2000 for v in holed}
        assert all(v.score is None for v in holed)


def _by_symbol(facts: Facts) -> dict[str, tuple[list[object], list[object]]]:
    return {
        symbol: (
            [s for s in facts[0] if s.symbol == symbol],
            [v for v in facts[1] if v.window.symbol == symbol],
        )
        for symbol in ("BTCUSDT", "ETHUSDT")
    }


def _plain(facts: Facts, symbol: str, kind: int) -> list[object]:
    if kind:
        return [v.window for v in facts[1] if v.window.symbol == symbol]
    return [s for s in facts[0] if s.symbol == symbol and s.detector is Detector.TRADE_SPIKE]


@st.composite
def faulty_feeds(draw: st.DrawFn) -> list[bytes]:
    """A real stream with repeats, swaps, holes, poison and nonsense in it."""
    messages = [frame(trade) for trade in STREAM[:1500]]
    for _ in range(draw(st.integers(0, 12))):
        at = draw(st.integers(0, len(messages) - 2))
        what = draw(st.sampled_from(["repeat", "swap", "lose", "cut", "poison", "long", "other", "huge", "raw", "two",
                                     "early", "sent", "stray"]))  # fmt: skip
        match what:
            case "repeat":
                messages.insert(at + draw(st.integers(1, 40)), messages[at])
            case "swap":
                messages[at], messages[at + 1] = messages[at + 1], messages[at]
            case "lose":
                del messages[at : at + draw(st.integers(1, 30))]
            case "cut":
                messages[at] = messages[at][: draw(st.integers(0, 100))]
            case "poison":
                messages[at] = messages[at].replace(b'"q":"', b'"q":"-')
            case "long":
                messages[at] = messages[at].replace(b'"q":"', b'"q":"' + b"0" * 30)
            case "other":
                messages.insert(at, b'{"stream":"x","data":{"e":"newThing","s":"BTCUSDT"}}')
            case "huge":
                messages[at] = messages[at].replace(b'"q":"0', b'"q":"90000000')
            case "stray":
                messages[at] = messages[at].replace(b'"t":', b'"t":1', 1)
            case "early":  # its own message was made so long before it
                happened = re.search(rb'"T":([0-9]+)', messages[at])
                sent = int(happened[1]) - draw(st.sampled_from([4_999, 5_000, 5_001, 50_000])) if happened else 0
                messages[at] = re.sub(rb'"E":[0-9]+', b'"E":%d' % sent, messages[at])
            case "sent":
                word = draw(st.sampled_from([b'"E":0', b'"E":"x"', b'"E":12345678901234567890', b'"F":1', b'"E":null']))
                messages[at] = re.sub(rb'"E":[0-9]+', word, messages[at])
            case "raw":
                messages[at] = messages[at].partition(b'"data":')[2][:-1]
            case _:
                messages[at] = messages[at] + b"\n" + messages[at + 1]
    return messages


def packed(messages: Sequence[bytes]) -> Any:
    """The same messages as the native connection hands them on."""
    module = load_native()
    assert module is not None
    gathered = module.Gather(None, None, 1)
    for message in messages:
        gathered.append(message)
    return gathered.take()


@pytest.mark.parametrize("rules", [settings(), PUMPS], ids=["", "pump"])
@pytest.mark.parametrize("native", ["", "list", "packed"])
@hypothesis.settings(max_examples=30, suppress_health_check=[hypothesis.HealthCheck.differing_executors])
@given(faulty_feeds(), st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_a_batch_says_what_its_messages_say_one_by_one(
    native: str, rules: Settings, messages: list[bytes], sizes: list[int]
) -> None:
    recv_ms = STREAM[-1].recv_ms
    single = new_session(rules)
    together = Session(rules, Market.SPOT, ("BTCUSDT", "ETHUSDT"), together=bool(native))
    if native and together.feed is None:
        pytest.skip("the native loop is not built: python -m streamer.native")
    facts: tuple[Facts, Facts] = (([], []), ([], []))
    at, turn = 0, 0
    while at < len(messages):
        size = sizes[turn % len(sizes)]
        for message in messages[at : at + size]:
            take(single, single.receive(message, recv_ms), facts[0])
        batch = messages[at : at + size]
        take(together, together.receive_many(packed(batch) if native == "packed" else batch, recv_ms), facts[1])
        if native:
            take(together, together.tick(), facts[1])
            take(single, single.tick(), facts[0])
        at, turn = at + size, turn + 1
        for session, one in ((single, facts[0]), (together, facts[1])) if turn % 3 == 0 else ():
            for gap in session.parser.missing():
                take(session, session.abandon(gap), one)
    for session, one in ((single, facts[0]), (together, facts[1])):
        for gap in session.parser.missing():
            take(session, session.abandon(gap), one)
        take(session, session.finish(), one)
    if native:  # judged together at a tick: a model that came in between may say more of a window, but of the same one
        for symbol in ("BTCUSDT", "ETHUSDT"):
            assert [_plain(facts[1], symbol, kind) for kind in (0, 1)] == [
                _plain(facts[0], symbol, kind) for kind in (0, 1)
            ]
    else:
        assert _by_symbol(facts[1]) == _by_symbol(facts[0])
    assert together.snapshot() == single.snapshot()
    assert (together.rejected, together.trades, together.gaps) == (single.rejected, single.trades, single.gaps)
    assert (together.messages, together.newest_ms, together.missing) == (
        single.messages, single.newest_ms, single.missing,
    )  # fmt: skip
    assert together.parser.messages == single.parser.messages


def test_two_messages_in_one_and_none_in_another_are_no_two_messages() -> None:
    """Joined by line ends the batch has as many lines as messages; a message is a line all the same."""
    messages = [frame(trade) for trade in STREAM[:40]]
    messages[20:22] = [b"", messages[20] + b"\n" + messages[21]]
    single, together = new_session(), Session(settings(), Market.SPOT, ("BTCUSDT", "ETHUSDT"))
    for message in messages:
        single.receive(message, STREAM[-1].recv_ms)
    together.receive_many(messages, STREAM[-1].recv_ms)
    assert together.rejected == single.rejected
    assert together.snapshot() == single.snapshot()


@pytest.mark.parametrize("block", [2, 50])
def test_a_shuffled_stream_says_what_the_ordered_one_says(block: int) -> None:
    """F111: the trades reach the detectors in the order of their ids."""
    shuffled, rng = list(STREAM), random.Random(5)
    for start in range(100, len(shuffled), block):
        part = shuffled[start : start + block]
        rng.shuffle(part)
        shuffled[start : start + block] = part
    session, facts = new_session(), ([], [])
    for trade in shuffled:
        take(session, session.receive(frame(trade), trade.recv_ms), facts)
    # Judged by the same models or by the ones before them: a fit comes back when the whole block has gone through.
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for kind in (0, 1):
            assert _plain(facts, symbol, kind) == _plain(GOLDEN, symbol, kind)
    assert session.missing == 0


def test_a_symbol_in_doubt_is_closed_by_its_own_trades_only() -> None:
    session = new_session()
    session.receive(frame(trades(1)[0]), 0)
    session.doubt(["BTCUSDT"])
    later = trades(1, symbol="ETHUSDT", start_ms=trades(1)[0].event_ms + 60_000)[0]
    session.receive(frame(later), later.recv_ms)
    assert session.tick() == []
    assert session.unsure() == [("BTCUSDT", 1000)]
    session.trust("BTCUSDT", 1000, session.newest_ms)
    (stored,) = session.tick()
    assert isinstance(stored, StoreWindows)


def test_swapped_neighbours_leave_no_hole() -> None:
    stream = trades(400, seed=8)
    for at in range(50, 350, 10):
        stream[at], stream[at + 1] = stream[at + 1], stream[at]
    session, facts = new_session(), ([], [])
    for trade in stream:
        take(session, session.receive(frame(trade), trade.recv_ms), facts)
    take(session, session.finish(), facts)
    assert session.missing == 0
    assert all(v.window.complete for v in facts[1])
    assert sum(v.window.trade_count for v in facts[1]) == 400


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"q": "0.00000000"}, "quantity"), ({"q": "NaN"}, "quantity"), ({"p": "-1"}, "price"), ({"T": 1}, "time")],
)
def test_a_poison_trade_advances_the_cursor(changes: dict[str, object], reason: str) -> None:
    stream = trades(100, seed=9)
    session = new_session()
    for at, trade in enumerate(stream):
        session.receive(frame(trade, **(changes if at == 50 else {})), trade.recv_ms)
        assert session.position("BTCUSDT")[0] == trade.trade_id
    assert session.rejected == {reason: 1}
    assert (session.trades, session.gaps) == (99, 0)
    assert session.activity()["BTCUSDT"] == 100


def test_every_message_is_accounted_for() -> None:
    stream = trades(10, seed=10)
    other = replace(stream[0], symbol="XRPUSDT")
    messages = [frame(t) for t in stream]
    odd = [
        b"{", b"[]", b"null", b"\xff\xfe", b'{"e":"trade"}', b'{"e":"newThing","s":"BTCUSDT"}', frame(other),
        frame(stream[3]), msgspec.json.encode({"result": None, "id": 1}),
        frame(stream[0]).replace(b'"trade"', b'"aggTrade"').replace(b'"t":', b'"a":'),
    ]  # fmt: skip
    session = new_session()
    for message in [*messages, *odd]:
        session.receive(message, stream[-1].recv_ms)
    assert session.messages == 20
    assert session.trades == 10
    assert sum(session.rejected.values()) == 9  # the acknowledgement is an answer, not an input
    assert session.rejected["symbol_not_followed"] == 1
    assert session.rejected["other_kind"] == 1
    assert session.rejected["repeat"] == 1


def test_an_announced_end_asks_for_another_connection() -> None:
    session = new_session()
    assert session.receive(b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', 0) == [
        Reconnect("server_shutdown")
    ]


def test_a_new_numbering_goes_on() -> None:
    session = new_session()
    for trade in [*trades(50, first_id=90_000_000), *trades(50, seed=2, first_id=100)]:
        session.receive(frame(trade), trade.recv_ms)
    assert session.trades == 100
    assert session.rejected == {"new_numbering": 1}
    assert session.position("BTCUSDT")[0] == 149


@pytest.mark.parametrize("native", ["", "list", "packed"])
@pytest.mark.parametrize("ahead", [200, 50_000, 900_000])
def test_one_stray_id_far_ahead_freezes_nothing(native: str, ahead: int) -> None:
    stream = trades(1200, seed=31)
    session = Session(settings(), Market.SPOT, ("BTCUSDT",), together=bool(native))
    if native and session.feed is None:
        pytest.skip("the native loop is not built: python -m streamer.native")
    facts: Facts = ([], [])
    for at, trade in enumerate(stream):
        sent = trade if at != 300 else replace(trade, trade_id=(trade.trade_id or 0) + ahead)
        if native:
            batch = [frame(sent)]
            actions = session.receive_many(packed(batch) if native == "packed" else batch, trade.recv_ms)
        else:
            actions = session.receive(frame(sent), trade.recv_ms)
        take(session, actions, facts)
        for action in actions:
            if isinstance(action, FillGap):  # REST has what the exchange really sent by then
                gap = action.gap
                had = [t for t in stream[: at + 1] if gap.first_id <= (t.trade_id or 0) <= gap.last_id]
                take(session, session.fill(had), facts)
                take(session, session.abandon(gap), facts)
    take(session, session.tick(), facts)
    assert session.position("BTCUSDT")[0] == stream[-1].trade_id
    assert session.rejected["stray_id"] == 1
    assert (session.trades, session.missing) == (len(stream) + 1, 0)  # the stray, and its own id from REST
    late = [v for v in facts[1] if v.window.start_ms > stream[400].event_ms]
    assert late
    assert all(v.window.complete for v in late)
    whole = {v.window.start_ms: v.window for v in facts_of(stream)[1]}
    assert [v.window for v in late] == [whole[v.window.start_ms] for v in late]


def _silent(wait_ms: int, *, last_id: int | None = 1000) -> Session:
    """Return a session in which BTCUSDT has been silent for that long, by the others' time."""
    session = new_session()
    session.trade(replace(trades(1)[0], trade_id=last_id))
    assert session.tick() == []
    session.trade(trades(1, symbol="ETHUSDT", start_ms=trades(1)[0].event_ms + wait_ms)[0])
    return session


def test_a_silent_symbols_windows_close_when_the_exchange_has_nothing_newer() -> None:
    session = _silent(10_000)
    assert session.tick() == []
    assert session.unsure() == []  # nothing about its window is odd: its own next trade will close it
    session.trade(trades(1, symbol="ETHUSDT", first_id=1001, start_ms=session.newest_ms + 130_000)[0])
    assert [a for a in session.tick() if "BTCUSDT" in str(a)] == []
    assert ("BTCUSDT", 1000) in session.unsure()
    session.trust("BTCUSDT", 1000, session.newest_ms)
    (stored,) = session.tick()
    assert isinstance(stored, StoreWindows)
    assert stored.verdicts[0].window.complete
    assert [v.window.symbol for v in stored.verdicts] == ["BTCUSDT"]
    assert session.activity() == {"BTCUSDT": 1, "ETHUSDT": 2}  # a window that closes is no sign of life


def test_a_proof_holds_only_up_to_the_moment_of_asking() -> None:
    session = _silent(200_000)
    session.tick()
    assert session.unsure() == [("BTCUSDT", 1000)]
    session.trust("BTCUSDT", 1000, trades(1)[0].event_ms + 1)  # the exchange was asked before the window was over
    assert session.tick() == []


def test_without_an_answer_a_silent_symbols_window_ends_incomplete() -> None:
    (stored,) = _silent(700_000).tick()
    assert isinstance(stored, StoreWindows)
    (verdict,) = stored.verdicts
    assert (verdict.window.complete, verdict.status) == (False, Status.UNSCORABLE)


def test_a_symbol_without_ids_is_closed_by_the_others_time() -> None:
    (stored,) = _silent(10_000, last_id=None).tick()
    assert isinstance(stored, StoreWindows)
    assert [v.window.symbol for v in stored.verdicts] == ["BTCUSDT"]


def test_an_odd_window_of_a_silent_symbol_is_asked_about_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WindowAnomalyDetector, "would_flag", lambda self, window: True)
    session = _silent(10_000)
    assert session.tick() == []
    assert session.unsure() == [("BTCUSDT", 1000)]


def test_a_symbol_cut_off_while_the_others_go_on_says_what_the_whole_stream_says() -> None:
    """F112: the hole shows only when the symbol trades again, long after the others' time has passed its windows."""
    session, facts = new_session(), ([], [])
    for trade in STREAM:
        if not (trade.symbol == "BTCUSDT" and 1200 <= (trade.trade_id or 0) < 1600):
            take(session, session.receive(frame(trade), trade.recv_ms), facts)
            take(session, session.tick(), facts)
        if trade.symbol == "BTCUSDT" and trade.trade_id == 1600:
            held = [t for t in STREAM if t.symbol == "BTCUSDT" and 1200 <= (t.trade_id or 0) < 1600]
            take(session, session.fill(held), facts)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        assert _plain(facts, symbol, 1) == _plain(GOLDEN, symbol, 1)
    assert session.missing == 0


def test_a_recording_of_aggregates_is_followed_by_its_own_kind() -> None:
    session = Session(settings(), Market.SPOT, ("BTCUSDT",), kind=TradeKind.AGG_TRADE)
    for trade in trades(30):
        session.trade(replace(trade, kind=TradeKind.AGG_TRADE, trade_id=None))
    assert session.trades == 30
    assert session.snapshot()["BTCUSDT"]["last_id"] == -1


def test_only_changed_symbols_are_taken_for_a_checkpoint() -> None:
    session = new_session()
    session.trade(trades(1)[0])
    assert list(session.take_dirty()) == ["BTCUSDT"]
    assert session.take_dirty() == {}
    session.trade(trades(2)[1])
    assert session.take_dirty(["ETHUSDT"]) == {}
    assert list(session.take_dirty(["ETHUSDT", "BTCUSDT"])) == ["BTCUSDT"]


@pytest.mark.recorded
@pytest.mark.parametrize("loop", ["one by one", "python", "native", "native, packed"])
def test_recorded_frames_and_recorded_trades_say_the_same(
    recorded_dir: Path, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every path finds the recorded count of spikes at the recorded positions: message by message or in batches."""
    if loop == "python":
        monkeypatch.setenv("TAPEWATCH_NATIVE", "0")
    name, trades_name = "spot_BTCUSDT_20240808T2354Z", "spot_BTCUSDT_trade_20240808T2354Z"
    expected = json.loads((recorded_dir / "expected.json").read_text())["trades"]
    session, spikes = Session(Settings(), Market.SPOT, ("BTCUSDT",), together=loop != "one by one"), []
    if loop.startswith("native") and session.loop != "native":
        pytest.skip("the native loop is not built: python -m streamer.native")
    rng, first_id = random.Random(7), None
    frames: list[tuple[bytes, int]] = []
    with gzip.open(recorded_dir / "ws" / f"{name}.frames.jsonl.gz", "rb") as lines:
        for line in lines:
            row = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
            frames.append((bytes(row["frame"]), int(bytes(row["recv_ns"])) // 1_000_000))
    at = 0
    while at < len(frames):
        size = 1 if loop == "one by one" else rng.randint(1, 200)
        batch, recv_ms = [frame for frame, _ in frames[at : at + size]], frames[at][1]
        at += size
        if loop == "one by one":
            actions = session.receive(batch[0], recv_ms)
        else:
            actions = session.receive_many(packed(batch) if "packed" in loop else batch, recv_ms)
        if first_id is None and (position := session.position("BTCUSDT")[0]) is not None:
            first_id = position - session.trades + 1
        for action in actions:
            if isinstance(action, EmitSignal) and action.signal.detector is Detector.TRADE_SPIKE:
                assert action.signal.trade_id is not None
                assert first_id is not None
                spikes.append(action.signal.trade_id - first_id)
    (known,) = [facts for path, facts in expected.items() if path.endswith(f"{trades_name}.jsonl.gz")]
    assert session.trades == known["n_trades"]
    assert len(spikes) == known["n_spikes_10x_prev200"]
    positions = ",".join(map(str, spikes)).encode()
    assert hashlib.sha256(positions).hexdigest() == known["spikes_index_sha256"]
    assert (session.gaps, session.missing) == (0, 0)
    assert not {reason for reason in session.rejected if not reason.startswith(("ignored:", "not_used:"))}
