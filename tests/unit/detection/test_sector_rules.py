from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.detection.confirmation import (
    Confirmation,
    confirm_funding,
    confirm_liquidations,
    confirm_open_interest,
    label,
)
from shared.detection.features import SymbolFeatures
from shared.detection.reading import Direction, Status
from shared.detection.sector import DiffusionTracker, InitiatorHit, find_initiators
from shared.detection.sector_signals import diffusion_signal, initiator_signal
from shared.market.universe import Universe
from shared.settings import SectorSettings, SectorThresholds

MINUTE = 60_000
HOUR = 60 * MINUTE
T0 = 1_768_314_180_000  # 2026-01-13T14:23:00Z
SETTINGS = SectorSettings()
UNIVERSE = Universe("BTCUSDT", {"Privacy": ("ZECUSDT", "DASHUSDT", "XMRUSDT"), "Pair": ("AAA", "BBB")})


def reading(symbol: str, z_er: float | None = 0.0, z_vol: float | None = 0.0, **changes: Any) -> SymbolFeatures:
    excess = None if z_er is None else z_er / 1000
    base = SymbolFeatures(symbol, T0, 0.001, 0.01, 0.85, excess, z_er, z_vol, 0.685, Status.NORMAL, 720)
    return replace(base, **changes)


def hits(*readings: SymbolFeatures, settings: SectorSettings = SETTINGS) -> list[tuple[str, Direction]]:
    found = find_initiators({one.symbol: one for one in readings}, UNIVERSE, settings)
    return [(hit.symbol, hit.direction) for hit in found]


def test_initiators_need_all_three_and_equality_counts() -> None:
    assert hits(reading("XMRUSDT", 3.0, 3.0, taker_buy_share=0.65)) == [("XMRUSDT", Direction.UP)]
    assert hits(reading("XMRUSDT", -3.0, 3.0, taker_buy_share=0.35)) == [("XMRUSDT", Direction.DOWN)]
    assert hits(reading("XMRUSDT", 2.99, 3.0)) == []
    assert hits(reading("XMRUSDT", 3.0, 2.99)) == []
    assert hits(reading("XMRUSDT", 9.0, -9.0)) == []
    assert hits(reading("XMRUSDT", 9.0, 9.0, taker_buy_share=0.5)) == []
    for missing in ("z_excess_return", "z_volume", "taker_buy_share"):
        assert hits(reading("XMRUSDT", 9.0, 9.0, **{missing: None})) == []


def test_the_benchmark_and_strangers_are_no_initiators() -> None:
    assert hits(reading("BTCUSDT", 9.0, 9.0), reading("DOGEUSDT", 9.0, 9.0)) == []


def test_direction_follows_the_excess_return_and_takers_may_have_to_agree() -> None:
    selling = reading("XMRUSDT", 4.0, 4.0, taker_buy_share=0.2)
    assert hits(selling) == [("XMRUSDT", Direction.UP)]
    assert hits(selling, settings=SectorSettings(takers_agree=True)) == []
    falling = reading("XMRUSDT", 4.0, 4.0, taker_buy_share=0.2, excess_return=-0.001)
    assert hits(falling, settings=SectorSettings(takers_agree=True)) == [("XMRUSDT", Direction.DOWN)]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("confirmed", "confirmed", "unknown"), "CONFIRMED"),
        (("confirmed", "confirmed", "confirmed"), "CONFIRMED"),
        (("unknown", "confirmed", "not_confirmed"), "PARTIAL"),
        (("unknown", "unknown", "unknown"), "UNCONFIRMED"),
        (("not_confirmed", "not_confirmed", "unknown"), "UNCONFIRMED"),
    ],
)
def test_labels_count_what_is_confirmed(states: tuple[Any, Any, Any], expected: str) -> None:
    assert label(Confirmation(states[0], None, states[1], None, states[2], None)) == expected


def test_open_interest_is_judged_by_its_own_history_of_hourly_changes() -> None:
    quiet = [(T0 + i * 5 * MINUTE, 1000.0 + i % 7) for i in range(60)]
    end = quiet[-1][0]
    assert confirm_open_interest(quiet, end, SETTINGS)[0] == "not_confirmed"
    jump = [*quiet, (end + 5 * MINUTE, 1500.0)]
    state, z = confirm_open_interest(jump, end + 5 * MINUTE, SETTINGS)
    assert state == "confirmed"
    assert z is not None
    assert z > 2
    assert confirm_open_interest(jump, end, SETTINGS) == confirm_open_interest(quiet, end, SETTINGS)  # no future
    assert confirm_open_interest(quiet[:20], quiet[19][0], SETTINGS) == ("unknown", None)
    assert confirm_open_interest(quiet, end + HOUR, SETTINGS) == ("unknown", None)  # stale
    assert confirm_open_interest([], end, SETTINGS) == ("unknown", None)
    assert confirm_open_interest([(t, 1000.0) for t, _ in quiet], end, SETTINGS) == ("unknown", None)  # no scale


def test_unknown_is_never_no() -> None:
    assert confirm_liquidations(None, [1.0] * 100, SETTINGS) == ("unknown", None)
    assert confirm_liquidations(5.0, [0.0] * 100, SETTINGS) == ("unknown", None)
    assert confirm_liquidations(5.0, [1.0], SETTINGS) == ("unknown", None)
    assert confirm_liquidations(50.0, [float(i % 9) for i in range(99)], SETTINGS)[0] == "confirmed"
    assert confirm_liquidations(1.0, [float(i % 9) for i in range(99)], SETTINGS)[0] == "not_confirmed"
    assert [confirm_funding(rate, SETTINGS) for rate in (None, float("nan"), 0.001, -0.001, 0.0009)] == [
        "unknown", "unknown", "confirmed", "confirmed", "not_confirmed",
    ]  # fmt: skip


def hit(symbol: str = "XMRUSDT", direction: Direction = Direction.UP) -> InitiatorHit:
    return InitiatorHit(symbol, UNIVERSE.sector_of(symbol) or "", direction, reading(symbol, 3.2, 3.8))


def step(
    tracker: DiffusionTracker, minute: int, *readings: SymbolFeatures, new: tuple[InitiatorHit, ...] = ()
) -> list[Any]:
    return tracker.step(T0 + minute * MINUTE, {one.symbol: one for one in readings}, new)


def test_followers_make_one_event() -> None:
    tracker = DiffusionTracker(SETTINGS, UNIVERSE)
    assert step(tracker, 0, reading("ZECUSDT", 9.0, 9.0), reading("DASHUSDT", 9.0, 9.0), new=(hit(),)) == []
    assert step(tracker, 1, reading("ZECUSDT", 2.0, 2.0), reading("DASHUSDT", -2.0, 2.0)) == []
    assert step(tracker, 2, reading("ZECUSDT", 5.0, 5.0), reading("DASHUSDT", 1.99, 2.0)) == []
    (event,) = step(tracker, 120, reading("DASHUSDT", 2.8, 2.5))
    assert [(one.symbol, one.z_excess_return, one.open_ms) for one in event.followers] == [
        ("ZECUSDT", 2.0, T0 + MINUTE),
        ("DASHUSDT", 2.8, T0 + 120 * MINUTE),
    ]
    assert (event.share, event.others, event.sector, event.initiator_ms) == (1.0, 2, "Privacy", T0)
    assert step(tracker, 120, reading("DASHUSDT", 2.8, 2.5)) == []


def test_after_two_hours_nobody_follows() -> None:
    tracker = DiffusionTracker(SETTINGS, UNIVERSE)
    step(tracker, 0, new=(hit(),))
    assert step(tracker, 121, reading("ZECUSDT", 9.0, 9.0), reading("DASHUSDT", 9.0, 9.0)) == []
    assert tracker.snapshot()["pending"] == []


def test_a_sector_too_small_never_diffuses_and_the_share_counts() -> None:
    tracker = DiffusionTracker(SETTINGS, UNIVERSE)
    step(tracker, 0, new=(hit("AAA"),))
    assert step(tracker, 1, reading("BBB", 9.0, 9.0)) == []
    strict = SectorSettings(thresholds=SectorThresholds(sector_k_min=1, sector_share_min=0.5))
    tracker = DiffusionTracker(strict, UNIVERSE)
    step(tracker, 0, new=(hit(),))
    assert len(step(tracker, 1, reading("ZECUSDT", 9.0, 9.0))) == 1


def test_a_repeated_minute_changes_nothing_more() -> None:
    tracker = DiffusionTracker(SETTINGS, UNIVERSE)
    step(tracker, 0, new=(hit(),))
    step(tracker, 0, new=(hit(),))
    both = (reading("ZECUSDT", 9.0, 9.0), reading("DASHUSDT", 9.0, 9.0))
    assert len(step(tracker, 1, *both)) == 1
    step(tracker, 0, new=(hit(),))
    assert step(tracker, 2, *both) == []


moves = st.lists(
    st.tuples(
        st.integers(1, 70),
        st.dictionaries(st.sampled_from(["ZECUSDT", "DASHUSDT"]), st.sampled_from([-2.0, 0.0, 2.0])),
        st.sampled_from([None, Direction.UP, Direction.DOWN]),
    ),
    max_size=12,
)


@given(moves, st.integers(0, 12))
def test_equals_the_definition_and_survives_a_restart(moves: list[Any], restart: int) -> None:
    tracker = DiffusionTracker(SETTINGS, UNIVERSE)
    minute, history, events = 0, [], []
    for i, (later, scores, direction) in enumerate(moves):
        if i == restart:
            fresh = DiffusionTracker(SETTINGS, UNIVERSE)
            fresh.restore(json.loads(json.dumps(tracker.snapshot())))
            tracker = fresh
        minute += later
        history.append((minute, scores, direction))
        new = (hit("XMRUSDT", direction),) if direction else ()
        readings = [reading(symbol, z, 2.0) for symbol, z in scores.items()]
        events += [(event.initiator_ms, event.open_ms) for event in step(tracker, minute, *readings, new=new)]
    expected = []
    for start, _, direction in history:
        if direction is None:
            continue
        wanted = 2.0 if direction is Direction.UP else -2.0
        followed: set[str] = set()
        for at, scores, _ in history:
            if start < at <= start + 120:
                followed |= {symbol for symbol, z in scores.items() if z == wanted}
                if len(followed) == 2:
                    expected.append((T0 + start * MINUTE, T0 + at * MINUTE))
                    break
    assert sorted(events) == sorted(expected)


def test_signals_hold_what_the_alert_says() -> None:
    confirmation = Confirmation("confirmed", 2.3, "unknown", None, "confirmed", 0.0012)
    signal = initiator_signal(hit(), confirmation, SETTINGS)
    assert (signal.event_ms, signal.known_ms, signal.sector, signal.direction) == (
        T0, T0 + MINUTE, "Privacy", Direction.UP,
    )  # fmt: skip
    assert (signal.values["status"], signal.values["z_excess_return"], signal.values["beta"]) == (
        "CONFIRMED",
        3.2,
        0.85,
    )
    assert signal.values["confirmations"] == {
        "open_interest": {"state": "confirmed", "z": 2.3},
        "liquidations": {"state": "unknown", "z": None},
        "funding": {"state": "confirmed"},
    }
    tracker = DiffusionTracker(SETTINGS, UNIVERSE)
    step(tracker, 0, new=(hit(),))
    (event,) = step(tracker, 5, reading("ZECUSDT", 2.4, 2.1), reading("DASHUSDT", 2.8, 2.5))
    told = diffusion_signal(event, SETTINGS)
    assert (told.symbol, told.event_ms) == ("XMRUSDT", T0 + 5 * MINUTE)
    assert (told.values["initiator_time"], told.values["followers_count"], told.values["share"]) == (
        "2026-01-13T14:23:00Z", 2, 1.0,
    )  # fmt: skip
    json.dumps([dict(signal.values), dict(told.values)], allow_nan=False)
