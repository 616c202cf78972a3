"""The channels: what SNS is given, what its refusals mean, and a terminal that goes away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from alert_examples import EVERY_KIND, initiator, volume_spike
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from test_alert_render import HOSTILE, alert_of

from shared.alerts.channels.console import ConsoleChannel
from shared.alerts.channels.sns import SnsChannel, attributes, message, subject
from shared.errors import DeliveryError


@pytest.fixture
def aws() -> Iterator[tuple[SnsChannel, Any]]:
    """A channel to a topic with one SQS subscriber, and a reader of what it received."""
    with mock_aws():
        sns, sqs = boto3.client("sns"), boto3.client("sqs")
        topic = sns.create_topic(Name="alerts")["TopicArn"]
        url = sqs.create_queue(QueueName="listener")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=arn,
            Attributes={"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"severity": ["critical"]})},
        )

        def received() -> list[dict[str, Any]]:
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
            return answer.get("Messages", [])

        yield SnsChannel(sns, topic), received


def test_a_program_gets_json_and_filters_by_attributes(aws):
    channel, received = aws
    channel.send(alert_of(volume_spike(strength=1.0)))  # info: filtered out
    alert = alert_of(initiator())
    channel.send(alert)
    (got,) = received()
    assert json.loads(got["Body"]) == alert.to_json()
    assert {name: value["StringValue"] for name, value in got["MessageAttributes"].items()} == {
        "detector": "sector_initiator",
        "symbol": "XMRUSDT",
        "sector": "Privacy",
        "direction": "UP",
        "severity": "critical",
    }


def test_a_person_gets_text():
    alert = alert_of(initiator())
    forms = json.loads(message(alert))
    assert forms["email"].startswith(alert.text)
    assert forms["default"] == forms["email"]
    assert forms["sms"] == "Sector shot: XMRUSDT UP CONFIRMED"
    assert subject(alert) == "CRITICAL Sector shot: XMRUSDT UP CONFIRMED"


def test_what_an_alert_has_not_is_no_attribute():
    assert set(attributes(alert_of(volume_spike()))) == {"detector", "symbol", "severity"}


@given(st.one_of(st.sampled_from(HOSTILE), st.text()), st.sampled_from(EVERY_KIND))
def test_subject_and_attributes_are_what_sns_takes(name, example):
    alert = alert_of(replace(example(), symbol=name, sector=name))
    assert 0 < len(subject(alert)) < 100
    assert all(" " <= sign <= "~" for sign in subject(alert))
    assert subject(alert)[0].isalpha()
    for attribute in attributes(alert).values():
        assert attribute["StringValue"]
        assert not any(ord(sign) < 32 for sign in attribute["StringValue"])
    assert json.loads(json.loads(message(alert))["sqs"])["alert_id"] == alert.alert_id


def test_a_huge_alert_still_fits():
    alert = alert_of(volume_spike(extra="x" * 300_000))
    text = message(alert)
    assert len(text.encode()) < 256 * 1024
    assert json.loads(json.loads(text)["https"])["values"] == {}


class Refusing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def publish(self, **_: Any) -> None:
        raise self.error


def client_error(code: str, text: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": text}}, "Publish")


@pytest.mark.parametrize(
    ("error", "retryable", "wait_s"),
    [
        (client_error("Throttling"), True, None),
        (client_error("InternalError"), True, None),
        (client_error("NotFound"), True, 120.0),
        (client_error("AuthorizationError"), True, 120.0),
        (client_error("InvalidParameter", "Invalid parameter: TopicArn"), True, 120.0),
        (client_error("InvalidParameter", "Invalid parameter: Subject"), False, None),
        (EndpointConnectionError(endpoint_url="https://sns.example"), True, None),
        (ResponseParserError("garbage"), True, None),
    ],
)
def test_what_a_refusal_means(error, retryable, wait_s):
    with pytest.raises(DeliveryError) as caught:
        SnsChannel(Refusing(error), "arn:aws:sns:eu-central-1:123456789012:alerts").send(alert_of(initiator()))  # type: ignore[arg-type]
    assert (caught.value.retryable, caught.value.retry_after_s) == (retryable, wait_s)


def test_a_topic_that_does_not_exist_is_named(aws):
    channel, _ = aws
    with pytest.raises(DeliveryError, match="deploy again"):
        SnsChannel(channel.client, channel.topic_arn + "-gone").send(alert_of(initiator()))


def test_the_terminal():
    written = []
    ConsoleChannel(written.append).send(alert_of(initiator()))
    assert written == [alert_of(initiator())]

    def closed(_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(DeliveryError):
        ConsoleChannel(closed).send(alert_of(initiator()))
