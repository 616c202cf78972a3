"""Telegram behind a queue has the outages of the direct channel: nothing lost, nothing twice, red when it is dead."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from alert_examples import NOON_MS, trade_spike
from alert_faults import KeepingChannel
from delivery_world import World

from shared.alerts.channels.channel import Receipt
from shared.alerts.channels.queued import QueueChannel
from shared.alerts.digest import Digest, daily_digest
from shared.alerts.model import Alert
from shared.alerts.pace import Health
from shared.alerts.queue_end import PROBE_MS, QueueEnd
from shared.alerts.service import AlertService
from shared.clock import MINUTE_MS
from shared.errors import DeliveryError
from shared.settings import AlertSettings, Settings, StormSettings
from shared.storage.alerts import AlertRepository
from shared.storage.channel_states import ChannelStateRepository

SETTINGS = Settings(alerts=AlertSettings(storm=StormSettings(notifications=20)))


@dataclass
class Sqs:
    """A queue: what is taken and not answered for stays."""

    bodies: list[tuple[str, str]] = field(default_factory=list)
    number: int = 0

    def send_message(self, *, QueueUrl: str, MessageBody: str) -> dict[str, str]:  # noqa: N803
        self.number += 1
        self.bodies.append((str(self.number), MessageBody))
        return {"MessageId": str(self.number)}


@dataclass
class Phone:
    """Telegram as the far end's channel; `verdict` may refuse, each call takes `call_s` of `left_s`."""

    name: str = "telegram"
    fingerprint: str = "token and chat"
    got: list[str] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    tries: int = 0
    error: DeliveryError | None = None
    bad: str = ""
    call_s: float = 0.0
    left_s: float = 60.0

    def send(self, alert: Alert) -> Receipt:
        self._call("text")
        if alert.symbol == self.bad:
            raise DeliveryError("BUTTON_DATA_INVALID", retryable=False)
        self.got.append(alert.symbol)
        return Receipt("1")

    def send_digest(self, digest: Digest) -> None:
        self._call("digest")
        self.digests.append(digest)

    def follow_up(self, alert: Alert, receipt: Receipt) -> None:
        self.charts.append(alert.symbol)
        self.order.append("chart")

    def _call(self, what: str) -> None:
        self.tries += 1
        self.left_s -= self.call_s
        if self.left_s <= 0:
            raise KeyboardInterrupt  # the function's time is over: it is killed
        if self.error is not None:
            raise self.error
        self.order.append(what)


class Deployment:
    """A near end, a queue and a far end on one state."""

    def __init__(self) -> None:
        self.world = World(NOON_MS, SETTINGS)
        self.sqs, self.phone, self.other = Sqs(), Phone(), KeepingChannel("console")
        client: Any = self.sqs
        self.near = QueueChannel(client, "https://queue", "telegram", place="place")
        self.world.channels = [self.near, self.other]
        self.service = self.world.service()
        far = AlertService.on_table(self.world.state, [self.phone], SETTINGS, self.world.clock)
        self.end = QueueEnd(self.phone, far.delivery, "place")

    def say(self, *symbols: str) -> list[str]:
        return [self.service.handle(trade_spike(self.world.clock.now_ms(), one)).alert_id for one in symbols]

    def invoke(self) -> list[str]:
        """Let the function take three of the queue."""
        self.phone.left_s = 60.0
        batch = self.sqs.bodies[:3]
        again = self.end.take(batch, lambda: self.phone.left_s)
        self.sqs.bodies = [one for one in self.sqs.bodies if one not in batch or one[0] in again]
        return again

    def drain(self) -> None:
        while self.sqs.bodies:
            assert self.invoke() == []

    def pass_minutes(self, minutes: int) -> None:
        for _ in range(minutes):
            self.world.pass_minutes(1, self.service)
            self.drain()

    def state(self, alert_id: str) -> str:
        note = AlertRepository(self.world.state).deliveries(alert_id).get("telegram")
        return "pending" if note is None else note.state

    def health(self) -> Health:
        return ChannelStateRepository(self.world.state, lambda: "x").get("telegram").health

    def told(self) -> list[str]:
        return [one.direction.value for one in self.other.got if one.detector.value == "system" and one.direction]

    def pending(self) -> int:
        return len(AlertRepository(self.world.state).pending("telegram"))


@pytest.fixture
def aws() -> Deployment:
    return Deployment()


def test_an_alert_is_pending_until_the_far_end_has_sent_it(aws: Deployment):
    [one] = aws.say("AUSDT")
    assert (aws.state(one), aws.pending()) == ("pending", 1)
    aws.world.pass_minutes(20, aws.service)
    assert len(aws.sqs.bodies) == 1  # it is the far end's: nobody queues it again
    aws.drain()
    assert (aws.state(one), aws.pending(), aws.phone.got, aws.phone.charts) == ("sent", 0, ["AUSDT"], ["AUSDT"])


def test_f507_an_outage_of_forty_minutes_ends_with_one_digest(aws: Deployment):
    aws.phone.error = DeliveryError("no answer from Telegram: ConnectTimeout")
    ids = []
    for minute in range(40):
        ids += aws.say(f"S{minute}USDT")
        aws.pass_minutes(1)
    assert (aws.phone.got, aws.phone.digests, aws.health(), aws.told()) == ([], [], Health.FAILING, ["DOWN"])
    assert aws.phone.tries < 120
    aws.phone.error = None
    aws.pass_minutes(12)
    assert len(aws.phone.digests) == 1
    assert {aws.state(one) for one in ids} <= {"sent", "digest"}
    alone = [symbol for symbol in aws.phone.got if symbol.startswith("S")]
    assert len(alone) == len(set(alone)) == sum(aws.state(one) == "sent" for one in ids)
    assert (aws.pending(), aws.health(), aws.told()) == (0, Health.OK, ["DOWN", "UP"])


def test_f505_a_blocked_bot_is_dead_and_not_tried_until_it_is_probed(aws: Deployment):
    aws.phone.error = DeliveryError("Telegram: the bot was blocked", fatal=True)
    ids = aws.say("AUSDT", "BUSDT", "CUSDT", "DUSDT")
    aws.pass_minutes(50)
    assert (aws.phone.tries, aws.health(), aws.told()) == (1, Health.DEAD, ["DOWN"])
    assert {aws.state(one) for one in ids} == {"pending"}
    aws.pass_minutes(PROBE_MS // MINUTE_MS)
    assert (aws.phone.tries, aws.health(), aws.told()) == (2, Health.DEAD, ["DOWN"])
    aws.phone.error = None
    aws.pass_minutes(PROBE_MS // MINUTE_MS + 2)
    assert {aws.state(one) for one in ids} == {"digest"}
    assert (len(aws.phone.digests), aws.health(), aws.told()) == (1, Health.OK, ["DOWN", "UP"])


def test_f505_a_chat_that_shows_itself_revives_it_at_once(aws: Deployment):
    aws.phone.error = DeliveryError("Telegram: the bot was blocked", fatal=True)
    [one] = aws.say("AUSDT")
    aws.pass_minutes(30)
    aws.phone.error = None
    aws.service.revive("telegram")
    aws.pass_minutes(1)
    assert aws.state(one) == "digest"


def test_f505_a_corrected_setting_revives_it(aws: Deployment):
    aws.phone.error = DeliveryError("Telegram: chat not found", fatal=True)
    [one] = aws.say("AUSDT")
    aws.pass_minutes(30)
    aws.phone.error = None
    aws.world.channels[0] = replace(aws.near, place="corrected")
    aws.service, aws.end = aws.world.service(), replace(aws.end, place="corrected")
    aws.pass_minutes(1)
    assert aws.state(one) == "digest"


def test_one_that_is_refused_for_good_fails_no_other(aws: Deployment):
    aws.phone.bad = "S0USDT"
    ids = aws.say(*[f"S{number}USDT" for number in range(10)])
    aws.drain()
    assert [aws.state(one) for one in ids] == ["dead", *["sent"] * 9]
    assert aws.phone.got == [f"S{number}USDT" for number in range(1, 10)]
    assert aws.health() is Health.OK


def test_a_message_that_comes_twice_is_sent_once(aws: Deployment):
    aws.say("AUSDT")
    twice = list(aws.sqs.bodies)
    aws.drain()
    assert aws.end.take(twice, lambda: 60.0) == []
    assert aws.phone.got == ["AUSDT"]


def test_a_message_whose_alert_was_given_back_is_passed_over(aws: Deployment):
    """Its deletion was lost: the alert is pending again, and the outbox's."""
    aws.phone.error = DeliveryError("503")
    [one] = aws.say("AUSDT")
    stale = list(aws.sqs.bodies)
    aws.drain()
    aws.phone.error = None
    assert aws.end.take(stale, lambda: 60.0) == []
    assert aws.phone.got == []
    aws.pass_minutes(2)
    assert (aws.phone.got, aws.state(one)) == (["AUSDT"], "sent")


def test_what_the_queue_lost_comes_again(aws: Deployment):
    [one] = aws.say("AUSDT")
    aws.sqs.bodies.clear()
    aws.pass_minutes(34)
    assert aws.phone.tries == 0
    aws.pass_minutes(3)
    assert aws.state(one) == "digest"


def test_texts_go_before_charts(aws: Deployment):
    aws.say("AUSDT", "BUSDT", "CUSDT")
    aws.drain()
    assert aws.phone.order == ["text"] * 3 + ["chart"] * 3


@pytest.mark.parametrize("call_s", [7.0, 19.0, 24.0])
def test_a_slow_telegram_is_never_cut_off_and_gets_each_alert_once(aws: Deployment, call_s: float):
    aws.phone.call_s = call_s
    ids = aws.say(*[f"S{number}USDT" for number in range(10)])
    aws.drain()
    aws.pass_minutes(30)
    assert {aws.state(one) for one in ids} <= {"sent", "digest"}
    alone = [f"S{number}USDT" for number, one in enumerate(ids) if aws.state(one) == "sent"]
    assert sorted(one for one in aws.phone.got if one.startswith("S")) == alone


def test_the_days_report_is_brought_again_by_the_queue_alone(aws: Deployment):
    report = {"counts": {}, "since": "2026-01-12T00:00:00Z", "until": "2026-01-13T00:00:00Z", "top_symbols": []}
    aws.service.announce(daily_digest(report, None))
    aws.phone.error = DeliveryError("503")
    assert aws.invoke() == ["1"]
    aws.phone.error = None
    assert aws.invoke() == []
    assert len(aws.phone.digests) == 1


def test_nonsense_in_the_queue_holds_up_nothing(aws: Deployment):
    aws.sqs.bodies.append(("x", "{"))
    aws.say("AUSDT")
    assert aws.invoke() == ["x"]
    assert aws.phone.got == ["AUSDT"]
