"""The policy: distances in event time, gates, bursts, mutes, budget, and what is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from alert_examples import NOON_MS, initiator, order_book, system, trade_spike, volume_spike, window_anomaly
from hypothesis import given
from hypothesis import strategies as st

from shared.alerts.model import Severity
from shared.alerts.policy import Allowed, CooldownState, Held, HeldReason, Mute, Rules, cooldown_key, decide
from shared.clock import DAY_MS, MINUTE_MS, parse_utc_ms
from shared.detection.reading import Detector, Direction, Signal
from shared.settings import (
    AlertSettings,
    OrderBookSettings,
    Settings,
    TradeSpikeSettings,
    VolumeSpikeSettings,
    WindowAnomalySettings,
)

UP, DOWN = Direction.UP, Direction.DOWN
RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


def ask(signal, state=None, *, settings=None, severity=Severity.INFO, mutes=(), now_ms=None, sent_today=0):
    return decide(
        signal,
        severity,
        state or CooldownState(),
        Rules(settings or Settings()),
        mutes,
        signal.known_ms if now_ms is None else now_ms,
        sent_today=sent_today,
    )


def at(clock: str) -> int:
    return parse_utc_ms(f"2026-01-13T{clock}:00Z")


def test_the_example_of_the_rules():
    state, answers = CooldownState(), []
    for clock, direction in [
        ("10:00", UP),
        ("10:30", UP),
        ("10:20", DOWN),
        ("10:25", DOWN),
        ("10:40", UP),
        ("11:00", UP),
    ]:
        decision = ask(initiator(at(clock), direction), state)
        answers.append(isinstance(decision, Allowed))
        state = decision.new_state
    assert answers == [True, False, True, False, False, True]


def test_what_was_held_is_counted_and_told_with_the_next_alert():
    state = ask(initiator(at("10:00"))).new_state
    for clock in ("10:30", "10:20"):
        held = ask(initiator(at(clock)), state)
        assert (held.reason, held.until_ms) == (HeldReason.COOLDOWN, at("11:00"))
        state = held.new_state
    allowed = ask(initiator(at("11:00")), state)
    assert (allowed.suppressed, allowed.suppressed_since_ms) == (2, at("10:20"))
    assert allowed.new_state.held_count == 0
    assert allowed.new_state.held_since_ms is None


def test_the_opposite_direction_needs_the_grace_and_names_its_end():
    state = ask(initiator(at("10:00"))).new_state
    held = ask(initiator(at("10:14"), DOWN), state)
    assert (held.reason, held.until_ms) == (HeldReason.COOLDOWN, at("10:15"))
    assert isinstance(ask(initiator(at("10:15"), DOWN), state), Allowed)


def test_an_older_event_is_held_and_shortens_nothing():
    state = ask(initiator(at("12:00"))).new_state
    held = ask(initiator(at("10:30")), state)
    assert held.reason is HeldReason.COOLDOWN
    assert held.new_state.last_up_ms == at("12:00")
    assert isinstance(ask(initiator(at("12:59")), held.new_state), Held)


def test_a_higher_severity_passes_and_an_equal_one_does_not():
    state = ask(initiator(at("10:00")), severity=Severity.INFO).new_state
    assert isinstance(ask(initiator(at("10:01")), state, severity=Severity.INFO), Held)
    passed = ask(initiator(at("10:01")), state, severity=Severity.WARNING)
    assert isinstance(passed, Allowed)
    assert isinstance(ask(initiator(at("10:02")), passed.new_state, severity=Severity.WARNING), Held)
    assert isinstance(ask(initiator(at("10:02")), passed.new_state, severity=Severity.CRITICAL), Allowed)
    assert isinstance(ask(initiator(at("09:59")), state, severity=Severity.CRITICAL), Held)


def test_keys_keep_symbols_and_detectors_apart():
    assert cooldown_key(initiator()) == "sector_initiator|XMRUSDT"
    assert cooldown_key(volume_spike()) == "volume_spike|spot|BTCUSDT"


def test_a_detector_may_have_its_own_cooldown():
    settings = Settings(alerts=AlertSettings(cooldown_minutes={"volume_spike": 5}))
    state = ask(volume_spike(), settings=settings).new_state
    assert isinstance(ask(volume_spike(NOON_MS + 4 * MINUTE_MS), state, settings=settings), Held)
    assert isinstance(ask(volume_spike(NOON_MS + 5 * MINUTE_MS), state, settings=settings), Allowed)


def test_a_recovery_does_not_wait_and_flapping_is_two_notices_an_hour():
    state, told = CooldownState(), 0
    for minute in range(60):
        direction = DOWN if minute % 2 == 0 else UP
        decision = ask(system(NOON_MS + minute * MINUTE_MS, direction), state, severity=Severity.CRITICAL)
        told, state = told + isinstance(decision, Allowed), decision.new_state
    assert told == 2


# --- age, mutes, budget, switches --------------------------------------------------------------------------------
def test_nothing_older_than_the_set_age_is_sent():
    signal = initiator()
    assert isinstance(ask(signal, now_ms=signal.known_ms + 10 * MINUTE_MS), Allowed)
    late = ask(signal, now_ms=signal.known_ms + 10 * MINUTE_MS + 1)
    assert late.reason is HeldReason.TOO_LATE
    assert (late.new_state.held_count, late.new_state.last_up_ms) == (1, None)


def test_mutes_by_configuration_and_until_a_time():
    signal = volume_spike()
    configured = Settings(alerts=AlertSettings(mutes=("btcusdt",)))
    assert ask(signal, settings=configured).reason is HeldReason.MUTED
    mutes = [Mute("BTCUSDT", signal.known_ms + 1), Mute("BTCUSDT", signal.known_ms + 9), Mute("ETHUSDT")]
    held = ask(signal, mutes=mutes)
    assert (held.reason, held.until_ms) == (HeldReason.MUTED, signal.known_ms + 9)
    assert isinstance(ask(signal, mutes=[Mute("BTCUSDT", signal.known_ms)]), Allowed)
    assert ask(signal, mutes=[*mutes, Mute("BTCUSDT")], severity=Severity.CRITICAL).until_ms is None


def test_the_budget_of_a_day():
    settings = Settings(alerts=AlertSettings(budget_per_day=3))
    assert isinstance(ask(volume_spike(), settings=settings, sent_today=2), Allowed)
    held = ask(volume_spike(), settings=settings, sent_today=3)
    assert (held.reason, held.until_ms) == (HeldReason.BUDGET, NOON_MS // DAY_MS * DAY_MS + DAY_MS)
    assert isinstance(ask(system(), settings=settings, sent_today=3), Allowed)


def test_the_order_book_alerts_only_when_asked_to():
    assert ask(order_book()).reason is HeldReason.DISABLED
    settings = Settings(order_book=OrderBookSettings(alert_enabled=True))
    assert isinstance(ask(order_book(), settings=settings), Allowed)


# --- gates -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("gate", "ratio", "rarity", "expected"),
    [
        ("ratio", 2.0, 0.5, None),
        ("ratio", 2.0, None, None),
        ("rarity", 2.0, 0.01, None),
        ("rarity", 9.0, 0.011, HeldReason.GATE),
        ("both", 2.0, 0.01, None),
        ("both", 9.0, 0.5, HeldReason.GATE),
        ("both", 9.99, None, HeldReason.LEARNING),
        ("both", 10.0, None, None),
        ("rarity", 9.99, None, HeldReason.LEARNING),
    ],
)
def test_volume_spike_gates(gate, ratio, rarity, expected):
    settings = Settings(volume_spike=VolumeSpikeSettings(gate=gate))
    decision = ask(volume_spike(ratio=ratio, rarity=rarity), settings=settings)
    assert (decision.reason if isinstance(decision, Held) else None) == expected
    if expected is not None:
        assert decision.new_state == CooldownState()  # no news is not counted as held back


def test_trade_spikes_need_the_floor_and_a_known_rarity_must_be_small():
    floor = Settings(trade_spike=TradeSpikeSettings(alert_floor_quote=1000.0))
    assert isinstance(ask(trade_spike(price=100.0, volume=10.0), settings=floor), Allowed)
    assert ask(trade_spike(price=100.0, volume=9.99), settings=floor).reason is HeldReason.GATE
    assert isinstance(ask(trade_spike(rarity=None)), Allowed)
    assert isinstance(ask(trade_spike(rarity=0.01)), Allowed)
    assert ask(trade_spike(rarity=0.02)).reason is HeldReason.GATE
    assert ask(replace(trade_spike(), snapshot={"rarity": 0.02})).reason is HeldReason.GATE


@pytest.mark.parametrize("make", [trade_spike, window_anomaly])
def test_an_alert_must_be_the_record_of_the_day(make):
    for hours, expected in ((None, None), (24.0, None), (23.9, HeldReason.GATE), (0.0, HeldReason.GATE)):
        decision = ask(replace(make(), snapshot={"record_hours": hours}))
        assert (decision.reason if isinstance(decision, Held) else None) == expected
    anything = Settings(
        trade_spike=TradeSpikeSettings(alert_record_hours=0.0),
        window_anomaly=WindowAnomalySettings(alert_record_hours=0.0),
    )
    assert isinstance(ask(replace(make(), snapshot={"record_hours": 0.0}), settings=anything), Allowed)


def test_a_young_watch_has_no_records_only_what_is_expected_once_in_their_time():
    for since, returns, expected in (
        (None, 24.0, None),
        (None, 23.9, HeldReason.LEARNING),
        (3.0, None, HeldReason.GATE),
        (None, None, None),
    ):
        decision = ask(replace(trade_spike(), snapshot={"record_hours": since, "return_hours": returns}))
        assert (decision.reason if isinstance(decision, Held) else None) == expected


def test_a_volume_spike_must_surprise_among_its_minutes_of_the_hour():
    for surprise, expected in ((None, None), (5.0, None), (4.99, HeldReason.GATE)):
        decision = ask(replace(volume_spike(rarity=0.0), snapshot={"surprise": surprise}))
        assert (decision.reason if isinstance(decision, Held) else None) == expected
    by_ratio = Settings(volume_spike=VolumeSpikeSettings(gate="ratio"))
    assert isinstance(ask(replace(volume_spike(), snapshot={"surprise": 0.0}), settings=by_ratio), Allowed)


# --- bursts ------------------------------------------------------------------------------------------------------
def answers_of(seconds: list[int], settings: Settings) -> list[str]:
    state, answers = CooldownState(), []
    for second in seconds:
        decision = ask(trade_spike(NOON_MS + second * 1000), state, settings=settings)
        answers.append(decision.reason.value if isinstance(decision, Held) else "sent")
        state = decision.new_state
    return answers


def test_hits_of_one_burst_are_one_event():
    no_cooldown = Settings(alerts=AlertSettings(cooldown_minutes={"trade_spike": 0}))
    hits = [0, 59, 118, 178, 237]
    assert answers_of(hits, no_cooldown) == ["sent", "burst", "burst", "sent", "burst"]
    assert answers_of([0, 30, 100, 3600], Settings()) == ["sent", "burst", "cooldown", "sent"]


def test_a_burst_that_outlasts_the_cooldown_is_told_again_with_its_count():
    settings = Settings(alerts=AlertSettings(cooldown_minutes={"trade_spike": 10}))
    answers = answers_of(list(range(0, 1200, 30)), settings)
    assert [i for i, answer in enumerate(answers) if answer == "sent"] == [0, 20]
    assert set(answers) == {"sent", "burst"}


def test_a_much_larger_hit_passes_its_burst():
    state = ask(trade_spike(), severity=Severity.INFO).new_state
    assert isinstance(ask(trade_spike(NOON_MS + 5), state, severity=Severity.CRITICAL), Allowed)


# --- whatever comes, in whatever order -----------------------------------------------------------------------------
events = st.lists(
    st.tuples(
        st.integers(0, 240),
        st.sampled_from([UP, DOWN, None]),
        st.sampled_from(list(Severity)),
        st.sampled_from([Detector.SECTOR_INITIATOR, Detector.WINDOW_ANOMALY]),
    ),
    max_size=40,
)


def feed(steps, settings: Settings) -> tuple[list[tuple[int, Signal, Severity]], int, int]:
    """Feed events (minutes past noon) to the policy; return the sent ones, and how many were counted and held."""
    states: dict[str, CooldownState] = {}
    sent, told, held = [], 0, 0
    for order, (minute, direction, severity, detector) in enumerate(steps):
        signal = replace(initiator(NOON_MS + minute * MINUTE_MS), direction=direction, detector=detector)
        key = cooldown_key(signal)
        decision = ask(signal, states.get(key), settings=settings, severity=severity)
        if isinstance(decision, Allowed):
            sent.append((order, signal, severity))
            told += decision.suppressed
        else:
            held += 1
        states[key] = decision.new_state
    return sent, told + sum(state.held_count for state in states.values()), held


@given(events, st.sampled_from([60.0, 20.0]), st.sampled_from([15.0, 0.0, 30.0]))
def test_no_two_sent_events_are_closer_than_allowed_unless_more_severe(steps, cooldown, grace):
    settings = Settings(alerts=AlertSettings(cooldown_minutes_per_symbol=cooldown, direction_swap_grace_minutes=grace))
    sent, _, _ = feed(steps, settings)
    for i, (_, first, weaker) in enumerate(sent):
        for _, second, stronger in sent[i + 1 :]:
            if first.detector is not second.detector:
                continue
            opposite = None not in (first.direction, second.direction) and first.direction != second.direction
            allowed_ms = (grace if opposite else cooldown) * MINUTE_MS
            if abs(first.event_ms - second.event_ms) < allowed_ms:
                assert RANK[stronger] > RANK[weaker]


@given(events)
def test_with_one_severity_no_pair_is_closer_than_allowed(steps):
    sent, _, _ = feed([(m, d, Severity.WARNING, k) for m, d, _, k in steps], Settings())
    for i, (_, first, _) in enumerate(sent):
        for _, second, _ in sent[i + 1 :]:
            if first.detector is second.detector:
                opposite = None not in (first.direction, second.direction) and first.direction != second.direction
                assert abs(first.event_ms - second.event_ms) >= (15 if opposite else 60) * MINUTE_MS


@given(events)
def test_everything_held_is_counted_once(steps):
    _, counted, held = feed(steps, Settings())
    assert counted == held


@given(st.lists(st.integers(0, 2_000), max_size=60), st.sampled_from([0.0, 10.0]))
def test_sent_hits_of_a_symbol_are_never_inside_one_burst(seconds, cooldown):
    settings = Settings(alerts=AlertSettings(cooldown_minutes={"trade_spike": cooldown}))
    state, last_hit, last_sent = CooldownState(), None, None
    for second in sorted(seconds):
        decision = ask(trade_spike(NOON_MS + second * 1000), state, settings=settings)
        state = decision.new_state
        if isinstance(decision, Allowed):
            fresh = last_sent is not None and (cooldown == 0 or second - last_sent < cooldown * 60)
            assert not (fresh and last_hit is not None and second - last_hit < 60)
            last_sent = second
        last_hit = second
