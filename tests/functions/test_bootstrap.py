"""Production dependencies against an emulated account: nothing but the settings decides what is built."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from fakes import START_MS, FakeContext
from moto import mock_aws

from functions import redelivery
from functions.bootstrap import event_bridge, production_dependencies, queue_depth
from shared.detection.reading import Detector, Direction, Signal
from shared.errors import ConfigurationError, StorageUnavailable
from shared.market.model import Market


@pytest.fixture
def account() -> Iterator[dict[str, str]]:
    with mock_aws():
        boto3.client("dynamodb").create_table(
            TableName="watch",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        topic = boto3.client("sns").create_topic(Name="alerts")["TopicArn"]
        queue = boto3.client("sqs").create_queue(QueueName="inbox")["QueueUrl"]
        arn = boto3.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"])
        yield {
            "TAPEWATCH_STORAGE__TABLE_NAME": "watch",
            "TAPEWATCH_ALERTS__SNS__TOPIC_ARN": topic,
            "TAPEWATCH_AWS__REGION": "eu-central-1",
            "QUEUE": queue,
        }


def test_an_alert_reaches_the_topics_subscriber(account: dict[str, str]) -> None:
    deps = production_dependencies(account)
    now_ms = deps.clock.now_ms()
    signal = Signal(
        detector=Detector.SYSTEM,
        market=Market.SPOT,
        symbol="streamer",
        event_ms=now_ms,
        known_ms=now_ms,
        values={"message": "streamer is silent"},
        thresholds={},
        direction=Direction.DOWN,
    )
    deps.alerts.handle(signal)
    assert deps.alerts.settle(10.0)  # the first call of a client takes longer than a handler waits
    assert deps.alerts.handle(signal).deliveries == {"sns": "sent"}
    received = boto3.client("sqs").receive_message(QueueUrl=account["QUEUE"])["Messages"]
    assert "streamer is silent" in received[0]["Body"]
    assert deps.alerts.handle(signal).created is False


def test_a_handler_runs_on_the_emulated_account(account: dict[str, str]) -> None:
    handle = redelivery.make_handler(lambda: production_dependencies(account))
    assert handle({"scheduled_time": "2026-01-01T00:01:00Z"}, FakeContext())["sent"] == 0


def test_events_go_to_the_bus(account: dict[str, str]) -> None:
    deps = production_dependencies(account)
    deps.emit("bars.stored", {"minute_ms": START_MS})


class Bus:
    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.entries: list[Any] = []

    def put_events(self, Entries: list[Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.entries += Entries
        return self.answer


def test_an_event_says_source_type_and_detail() -> None:
    bus = Bus({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]})
    event_bridge(lambda: bus)("bars.stored", {"minute_ms": START_MS})  # type: ignore[arg-type,return-value]
    [entry] = bus.entries
    assert (entry["Source"], entry["DetailType"]) == ("tapewatch", "bars.stored")
    assert json.loads(entry["Detail"]) == {"minute_ms": START_MS}


def test_a_refused_event_fails_the_run_so_that_it_is_tried_again() -> None:
    bus = Bus({"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]})
    with pytest.raises(StorageUnavailable, match="ThrottlingException"):
        event_bridge(lambda: bus)("bars.stored", {})  # type: ignore[arg-type,return-value]


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="TAPEWATCH_STORAGE__TABEL_NAME"):
        production_dependencies({"TAPEWATCH_STORAGE__TABEL_NAME": "watch"})


def test_the_dead_letters_of_all_queues_are_counted(account: dict[str, str]) -> None:
    client = boto3.client("sqs")
    other = client.create_queue(QueueName="other")["QueueUrl"]
    urls = ",".join((account["QUEUE"], other))
    deps = production_dependencies(account | {"TAPEWATCH_AWS__DEAD_LETTER_URLS": urls})
    assert deps.dead_letters is not None
    assert deps.dead_letters() == 0
    for url in (account["QUEUE"], other, other):
        client.send_message(QueueUrl=url, MessageBody="{}")
    client.receive_message(QueueUrl=other)  # one is in flight: it counts
    assert deps.dead_letters() == 3
    assert production_dependencies(account).dead_letters is None
    with pytest.raises(StorageUnavailable):
        queue_depth(lambda: client, ("https://sqs.eu-central-1.amazonaws.com/123456789012/none",))()
