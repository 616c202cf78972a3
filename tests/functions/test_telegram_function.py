"""Telegram behind a queue: what goes in comes out at the channel, in order, and comes back if it was refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from fakes import START_MS, FakeContext
from moto import mock_aws

from functions.telegram import make_handler
from shared.alerts.channels.channel import Receipt
from shared.alerts.channels.queued import QueueChannel, unpack
from shared.alerts.digest import Digest, DigestKind, make_digest
from shared.alerts.model import Alert, Severity
from shared.alerts.queue_end import QueueEnd
from shared.alerts.service import AlertService
from shared.alerts.wiring import messengers
from shared.clock import SystemClock
from shared.detection.reading import Detector, Direction
from shared.errors import DeliveryError
from shared.market.model import Market
from shared.settings_loader import parse_settings
from shared.storage.sqlite import SqliteTable


class FakeTelegram:
    """Keeps what it was sent; refuses the titles of `refused`."""

    name = "telegram"
    fingerprint = "here"

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.pictures = 0
        self.refused: set[str] = set()

    def send(self, alert: Alert) -> Receipt:
        if alert.title in self.refused:
            raise DeliveryError("429", retry_after_s=3)
        self.sent.append(alert.title)
        return Receipt("1")

    def follow_up(self, alert: Alert, receipt: Receipt) -> None:
        self.pictures += 1

    def send_digest(self, digest: Digest) -> None:
        self.sent.append(digest.title)


def end_of(telegram: FakeTelegram) -> QueueEnd:
    """An end on an empty state: what comes is not of the outbox."""
    service = AlertService.on_table(SqliteTable(":memory:"), [], parse_settings({}), SystemClock())
    return QueueEnd(telegram, service.delivery, "here")


def alert(number: int) -> Alert:
    return Alert(
        alert_id=f"{number:064x}",
        detector=Detector.VOLUME_SPIKE,
        market=Market.SPOT,
        symbol="BTCUSDT",
        sector=None,
        direction=Direction.UP,
        severity=Severity.WARNING,
        event_ms=START_MS,
        detected_ms=START_MS + 1000,
        title=f"spike {number}",
        text="text",
        values={"ratio": 2.5},
        thresholds={"threshold": 2.0},
        rule_version="1",
    )


@pytest.fixture
def queue() -> Iterator[tuple[Any, str]]:
    with mock_aws():
        sqs = boto3.client("sqs", region_name="eu-central-1")
        yield sqs, sqs.create_queue(QueueName="telegram")["QueueUrl"]


def records(sqs: Any, url: str) -> dict[str, Any]:
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return {"Records": [{"messageId": one["MessageId"], "body": one["Body"]} for one in messages]}


def test_alerts_and_digests_pass_through_the_queue(queue: tuple[Any, str]) -> None:
    sqs, url = queue
    channel, telegram = QueueChannel(sqs, url, "telegram"), FakeTelegram()
    channel.send(alert(1))
    channel.send_digest(make_digest([alert(2), alert(3)], DigestKind.STORM))
    event = records(sqs, url)
    assert unpack(event["Records"][0]["body"]) == alert(1)
    assert make_handler(lambda: end_of(telegram))(event, FakeContext()) == {"batchItemFailures": []}
    assert telegram.sent[0] == "spike 1"
    assert telegram.sent[1].startswith("2 alerts")
    assert telegram.pictures == 1


def test_what_is_refused_comes_again_with_all_that_followed_it() -> None:
    telegram = FakeTelegram()
    telegram.refused = {"spike 2"}
    event = {"Records": [{"messageId": str(number), "body": json_of(number)} for number in (1, 2, 3)]}
    answer = make_handler(lambda: end_of(telegram))(event, FakeContext())
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["2", "3"]
    assert telegram.sent == ["spike 1"]


def json_of(number: int) -> str:
    import msgspec

    return msgspec.json.encode({"alert": alert(number).to_json()}).decode()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"alert": 3}', '{"alert": {}}', '{"digest": {"kind": "x"}}', "\x00"])
def test_nonsense_is_not_sent(text: str) -> None:
    with pytest.raises(ValueError, match="not an alert"):
        unpack(text)


def test_a_queue_that_is_gone_is_a_delivery_error(queue: tuple[Any, str]) -> None:
    sqs, url = queue
    with pytest.raises(DeliveryError, match="queue of telegram"):
        QueueChannel(sqs, url + "x", "telegram").send(alert(1))


def test_the_deployment_puts_the_queue_in_telegrams_place(queue: tuple[Any, str]) -> None:
    _, url = queue
    settings = parse_settings(
        {
            "alerts": {"telegram": {"enabled": True, "chat_id": 7, "bot_token": "/tapewatch/token"}},
            "aws": {"telegram_queue_url": url, "region": "eu-central-1"},
        }
    )
    table = SqliteTable(":memory:")
    [channel] = messengers(settings, SystemClock(), table)
    assert (type(channel), channel.name) == (QueueChannel, "telegram")
    table.close()
