"""Signals, alerts, outbox, cooldowns and mutes on every kind of table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.alerts.model import Alert, Severity, alert_id
from shared.alerts.policy import CooldownState
from shared.alerts.service import AlertService
from shared.clock import MINUTE_MS, ManualClock, parse_utc_ms
from shared.detection.reading import Detector, Direction, Signal
from shared.errors import DeliveryError
from shared.market.model import Market
from shared.settings import AlertSettings, Settings
from shared.storage.alerts import AlertRepository, Claim
from shared.storage.cooldowns import CooldownRepository
from shared.storage.mutes import MuteRepository
from shared.storage.outbox import OutboxItem
from shared.storage.signals import SignalRepository, StoredSignal, decode_signal, encode_signal
from shared.storage.sqlite import SqliteTable

NOON_MS = parse_utc_ms("2026-01-13T12:00:00Z")
NAMES = ["BTCUSDT", "测试币456", "a#b", "<b>", "x" * 5_000, "🚀", "\u202e", "%23"]


def signal(
    at_ms: int = NOON_MS,
    symbol: str = "BTCUSDT",
    detector: Detector = Detector.WINDOW_ANOMALY,
    direction: Direction | None = None,
) -> Signal:
    return Signal(
        detector=detector,
        market=Market.SPOT,
        symbol=symbol,
        event_ms=at_ms,
        known_ms=at_ms,
        values={"score": -0.7, "nested": {"list": [1, None, 1e-300]}, "large": 2**60},
        thresholds={"score": -0.6},
        direction=direction,
        snapshot={"prices": [1.5, 2.5]},
    )


def alert(of: Signal, detected_ms: int | None = None) -> Alert:
    return Alert(
        alert_id=alert_id(of),
        detector=of.detector,
        market=of.market,
        symbol=of.symbol,
        sector=None,
        direction=of.direction,
        severity=Severity.INFO,
        event_ms=of.event_ms,
        detected_ms=of.event_ms + 1 if detected_ms is None else detected_ms,
        title="title",
        text="text",
        values=of.values,
        thresholds=of.thresholds,
        rule_version="1",
    )


def test_a_signal_is_stored_once_and_read_back(table):
    repo = SignalRepository(table)
    first = repo.put(signal(), "gate", owner="a")
    assert repo.put(signal(), None, owner="b") == first
    assert repo.get(signal()) == first
    assert first.signal == signal()
    assert repo.get(signal(NOON_MS + 1)) is None


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_only_names(table, name):
    repo = SignalRepository(table)
    repo.put(signal(symbol=name), "gate")
    latest = repo.latest(Detector.WINDOW_ANOMALY, name)
    assert latest is not None
    assert latest.signal.symbol == name
    assert [row.signal.symbol for row in repo.range(symbol=name)[0]] == [name]
    mutes = MuteRepository(table)
    mutes.put(name, None)
    assert [mute.symbol for mute in mutes.active(0)] == [name.upper()]
    cooldowns = CooldownRepository(table)
    table.transact([cooldowns.write(name, CooldownState(last_up_ms=5), 0)])
    assert cooldowns.get(name).last_up_ms == 5


def test_the_latest_signal_of_a_symbol_and_of_all(table):
    repo = SignalRepository(table)
    assert repo.latest(Detector.TRADE_SPIKE) is None
    assert repo.latest(Detector.TRADE_SPIKE, "BTCUSDT") is None
    for second, symbol in [(0, "BTCUSDT"), (10, "ETHUSDT"), (59, "BTCUSDT"), (61, "ETHUSDT"), (600, "ETHUSDT")]:
        repo.put(signal(NOON_MS + second * 1000, symbol, Detector.TRADE_SPIKE), "gate")

    def second_of(found: StoredSignal | None) -> float | None:
        return None if found is None else (found.signal.event_ms - NOON_MS) / 1000

    assert second_of(repo.latest(Detector.TRADE_SPIKE)) == 600
    assert second_of(repo.latest(Detector.TRADE_SPIKE, "BTCUSDT")) == 59
    assert second_of(repo.latest(Detector.TRADE_SPIKE, "ETHUSDT")) == 600
    other = SignalRepository(table)  # another instance, and an event out of order
    other.put(signal(NOON_MS + 30_000, "ETHUSDT", Detector.TRADE_SPIKE), "gate")
    assert second_of(repo.latest(Detector.TRADE_SPIKE, "ETHUSDT")) == 600


def test_pages_over_several_detectors_neither_repeat_nor_skip(table):
    repo = SignalRepository(table)
    kinds = [Detector.TRADE_SPIKE, Detector.VOLUME_SPIKE]
    for i in range(130):
        repo.put(signal(NOON_MS + i // 3 * 1000, f"S{i % 2}", kinds[i % 2 if i % 5 else 0], Direction.UP), "gate")
    everything, cursor = [], None
    while True:
        page, cursor = repo.range(limit=7, cursor=cursor)
        everything += [row.alert_id for row in page]
        if cursor is None:
            break
    assert len(everything) == len(set(everything)) == len(repo.range(limit=1000)[0])
    times = [row.signal.event_ms for row in repo.range(limit=1000)[0]]
    assert times == sorted(times, reverse=True)


def test_filters_and_half_open_times(table):
    repo = SignalRepository(table)
    for minute, direction in enumerate([Direction.UP, Direction.DOWN, Direction.UP, None]):
        repo.put(signal(NOON_MS + minute * MINUTE_MS, direction=direction), "gate")
    minutes = lambda **by: [(row.signal.event_ms - NOON_MS) // MINUTE_MS for row in repo.range(**by)[0]]  # noqa: E731
    assert minutes() == [3, 2, 1, 0]
    assert minutes(direction=Direction.UP) == [2, 0]
    assert minutes(since_ms=NOON_MS + MINUTE_MS, until_ms=NOON_MS + 3 * MINUTE_MS) == [2, 1]
    assert minutes(detector=Detector.VOLUME_SPIKE) == []
    assert minutes(symbol="ETHUSDT") == []
    assert minutes(limit=1) == [3]


def test_a_cooldown_is_replaced_only_in_the_version_it_was_read(table):
    repo = CooldownRepository(table)
    assert repo.get("key") == CooldownState()
    state = CooldownState(1, 2, 3, 4, 5, 0, Severity.WARNING, Severity.CRITICAL, Severity.INFO, 6)
    assert table.transact([repo.write("key", state, NOON_MS)]).applied
    stored = repo.get("key")
    assert stored == replace(state, version=1)
    assert not table.transact([repo.write("key", state, NOON_MS)]).applied
    assert table.transact([repo.write("key", replace(stored, held_count=9), NOON_MS)]).applied
    assert repo.get("key").held_count == 9


def test_a_claim_is_all_or_nothing_and_knows_itself(table):
    alerts, signals = AlertRepository(table), SignalRepository(table)
    key, state = "key", CooldownState(last_any_ms=NOON_MS)

    def claim(of: Signal, owner: str) -> Claim:
        write = signals.write(StoredSignal(of, alert_id(of), None, None, owner))
        outbox = [OutboxItem(alert_id(of), name, NOON_MS, NOON_MS + 1) for name in ("console", "sns")]
        return alerts.claim(
            write, [alerts.cooldowns.write(key, state, NOON_MS)], owner=owner, alert=alert(of), outbox=outbox
        )

    assert claim(signal(), "a") is Claim.WON
    assert claim(signal(), "b") is Claim.TAKEN
    assert claim(signal(), "a") is Claim.WON
    assert claim(signal(NOON_MS + 1), "c") is Claim.MOVED
    assert signals.get(signal(NOON_MS + 1)) is None
    assert alerts.get(alert_id(signal(NOON_MS + 1))) is None
    assert [len(alerts.pending(name)) for name in ("console", "sns")] == [1, 1]
    assert alerts.get(alert_id(signal())) == alert(signal())


def test_alerts_by_filter_and_their_deliveries(table):
    alerts, signals = AlertRepository(table), SignalRepository(table)
    of = [signal(NOON_MS + i, "AB"[i % 2], direction=Direction.UP if i < 2 else None) for i in range(4)]
    for one in of:
        write = signals.write(StoredSignal(one, alert_id(one), None, None, str(one.event_ms)))
        item = OutboxItem(alert_id(one), "console", NOON_MS, NOON_MS)
        assert alerts.claim(write, [], owner=str(one.event_ms), alert=alert(one), outbox=[item]) is Claim.WON
    times = lambda **by: [found.event_ms - NOON_MS for found in alerts.range(**by)[0]]  # noqa: E731
    assert times() == [3, 2, 1, 0]
    assert times(symbol="B", direction=Direction.UP) == [1]
    assert times(severity=Severity.CRITICAL) == []
    first = alerts.pending("console")[0]
    for _ in range(2):  # asking again is safe
        alerts.finish([first], "sent", NOON_MS + 9)
    assert {name: note.state for name, note in alerts.deliveries(first.alert_id).items()} == {"console": "sent"}
    assert len(alerts.pending("console")) == 3


def test_a_lease_is_one_owners_and_ends(table):
    outbox = AlertRepository(table).outbox
    table.transact([outbox.write(OutboxItem("id", "console", NOON_MS, NOON_MS))])
    (item,) = outbox.pending("console")
    leased = outbox.lease(item, owner="a", until_ms=NOON_MS + 60_000)
    assert leased is not None
    assert outbox.lease(item, owner="b", until_ms=NOON_MS + 60_000) is None
    assert outbox.lease(item, owner="a", until_ms=NOON_MS + 60_000) == leased  # its own write, whose answer was lost
    (stored,) = outbox.pending("console")
    assert not stored.due(NOON_MS + 59_999)
    assert stored.due(NOON_MS + 60_000)
    taken_over = outbox.lease(stored, owner="c", until_ms=NOON_MS + 200_000)
    assert taken_over is not None
    assert not outbox.postpone(leased, next_attempt_ms=0, error="late")
    assert outbox.postpone(taken_over, next_attempt_ms=NOON_MS + 5, error="e" * 9_000)
    (stored,) = outbox.pending("console")
    assert (stored.attempts, stored.next_attempt_ms, stored.claimed_by) == (2, NOON_MS + 5, "")


def test_mutes(table):
    repo = MuteRepository(table)
    forever, short = repo.put("ethusdt", None, "delisted"), repo.put(" BTCUSDT ", NOON_MS, "<b>")
    assert repo.put("BTCUSDT", NOON_MS) == short
    assert [mute.symbol for mute in repo.active(NOON_MS - 1)] == ["BTCUSDT", "ETHUSDT"]
    assert [(m.symbol, m.until_ms, m.mute_id) for m in repo.active(NOON_MS)] == [("ETHUSDT", None, forever)]
    assert repo.remove(forever)
    assert not repo.remove(forever)
    assert repo.active(NOON_MS) == []


def test_the_whole_path_on_this_table(table):
    class Flaky:
        name = "console"

        def __init__(self) -> None:
            self.got: list[str] = []
            self.working = False

        def send(self, alert: Alert) -> None:
            if not self.working:
                raise DeliveryError("down")
            self.got.append(alert.alert_id)

    channel, clock = Flaky(), ManualClock(NOON_MS)
    service = AlertService.on_table(table, [channel], Settings(alerts=AlertSettings(budget_per_day=5)), clock)
    first = service.handle(signal())
    assert first.alert is not None
    assert service.handle(signal()).created is False
    assert service.handle(signal(NOON_MS + 1)).held == "cooldown"
    channel.working = True
    clock.advance(5_000)
    assert service.redeliver(clock.now_ms()).sent == 1
    assert channel.got == [first.alert_id]
    clock.advance(60 * MINUTE_MS)
    second = service.handle(signal(NOON_MS + 60 * MINUTE_MS))
    assert second.alert is not None
    assert second.alert.suppressed_since_last == 1


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), plain, max_size=5), st.text(max_size=30))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_every_json_value_survives(values, symbol):
    given_signal = replace(signal(symbol=symbol), values=values)
    assert decode_signal(encode_signal(given_signal)) == given_signal


def test_a_snapshot_too_large_for_an_item_is_left_out():
    table = SqliteTable(":memory:")
    large = replace(signal(), snapshot={"prices": [1.23456789] * 30_000})
    stored = SignalRepository(table).put(large, "gate")
    assert stored.signal == large
    found = SignalRepository(table).get(large)
    assert found is not None
    assert found.signal == replace(large, snapshot={})
