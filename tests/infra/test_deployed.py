"""The template created on moto, and used: an alert comes out at the end, once, and no call goes beyond a role."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from local.exchange.market import SimulatedMarket
from local.exchange.scenarios import volume_spike
from local.exchange.server import LocalExchange
from shared.clock import HOUR_MS, MINUTE_MS, SystemClock, floor_minute_ms
from shared.settings_loader import parse_settings
from tests.infra.deployed import REGION, Deployment, deployed
from tests.infra.synths import make_synth

pytestmark = [pytest.mark.aws, pytest.mark.slow]

INBOX = "arn:aws:sqs:eu-central-1:123456789012:inbox"


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    # Without the front door: moto knows no function addresses and no distributions.
    tree = {"aws": {"subscriptions": [{"protocol": "sqs", "endpoint": INBOX}]}, "api": {"enabled": False}}
    settings = parse_settings(tree)
    return make_synth(settings, tmp_path_factory.mktemp("deployed") / "code").both


@pytest.fixture(scope="module")
def world(templates: tuple[dict[str, Any], dict[str, Any]]) -> Iterator[tuple[Deployment, dict[str, str], int]]:
    now_ms = floor_minute_ms(time.time_ns() // 1_000_000)
    planted = [volume_spike("BTCUSDT", now_ms - MINUTE_MS)]
    market = SimulatedMarket(seed=7, start_ms=now_ms - HOUR_MS, plan=planted)
    exchange = LocalExchange(market, SystemClock())
    exchange.start()
    over = {
        "TAPEWATCH_EXCHANGE__SPOT_REST_URL": exchange.rest_url,
        "TAPEWATCH_EXCHANGE__FUTURES_REST_URL": exchange.rest_url,
        "TAPEWATCH_VOLUME_SPIKE__GATE": "ratio",
    }
    try:
        with mock_aws(), deployed(templates) as made:
            boto3.client("sqs", region_name=REGION).create_queue(QueueName="inbox")
            subscribe(made)
            yield made, over, now_ms
    finally:
        exchange.stop()


def subscribe(made: Deployment) -> None:
    """Do what the template says about subscriptions, which moto's CloudFormation passes over."""
    sns = boto3.client("sns", region_name=REGION)
    for one in made.templates[1]["Resources"].values():
        if one["Type"] == "AWS::SNS::Subscription":
            told = one["Properties"]
            sns.subscribe(
                TopicArn=made.physical[told["TopicArn"]["Ref"]],
                Protocol=told["Protocol"],
                Endpoint=told["Endpoint"],
                Attributes={"RawMessageDelivery": str(told.get("RawMessageDelivery", False)).lower()},
            )


def received() -> list[dict[str, Any]]:
    sqs = boto3.client("sqs", region_name=REGION)
    url = sqs.get_queue_url(QueueName="inbox")["QueueUrl"]
    found: list[dict[str, Any]] = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for one in messages:
            found.append(json.loads(one["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    return found


def test_the_deployed_parts_work_together(world: tuple[Deployment, dict[str, str], int]) -> None:
    made, over, now_ms = world
    assert made.schedule("volume_spike", now_ms, **over)["alerts"] == 1
    [alert] = received()
    assert (alert["detector"], alert["symbol"]) == ("volume_spike", "BTCUSDT")
    # A second identical run sends nothing.
    assert made.schedule("volume_spike", now_ms, **over)["alerts"] == 0
    assert received() == []
    name = made.environment("report")["TAPEWATCH_STORAGE__TABLE_NAME"]
    table = boto3.client("dynamodb", region_name=REGION).scan(TableName=name)["Items"]
    cooldowns = [item for item in table if "cooldown" in item["pk"]["S"].lower()]
    assert cooldowns
    told = made.templates[0]["Resources"][made.logical[name]]["Properties"]
    expires = told["TimeToLiveSpecification"]["AttributeName"]
    assert all(int(item[expires]["N"]) > now_ms // 1000 for item in cooldowns)


def test_every_job_runs_within_its_own_rights(world: tuple[Deployment, dict[str, str], int]) -> None:
    made, over, now_ms = world
    stamp = {"scheduled_time": time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(now_ms / 1000))}
    assert made.invoke("backfill", {**stamp, "hours": 1}, **over)["bars"] > 0
    assert made.schedule("kline_bars", now_ms, **over)["bars"] > 0  # features and sector follow by its events
    for module in ("order_book", "redelivery", "watchdog", "report", "outcomes", "open_interest"):
        made.schedule(module, now_ms, **over)
    assert {call.function for call in made.calls} >= {
        "backfill",
        "kline_bars",
        "features",
        "sector",
        "order_book",
        "open_interest",
        "outcomes",
        "redelivery",
        "watchdog",
        "report",
        "volume_spike",
    }
    assert made.refused() == []
    [digest] = [one for one in received() if one.get("kind") == "daily"]
    bucket = made.environment("report")["TAPEWATCH_STORAGE__BUCKET_NAME"]
    assert digest["link"].startswith(f"s3://{bucket}/reports/")  # without the front door: the object itself
    boto3.client("s3", region_name=REGION).get_object(Bucket=bucket, Key=digest["link"].split("/", 3)[3])
    print(f"{len(made.calls)} calls to AWS, all within the rights of their functions")


def test_what_is_not_granted_is_refused(world: tuple[Deployment, dict[str, str], int]) -> None:
    """The simulator bites: the same calls under another function's role are not allowed."""
    made, over, now_ms = world
    made.schedule("volume_spike", now_ms + MINUTE_MS, **over)
    before = list(made.calls)
    try:
        for call in made.calls:
            call.function = "report"
        assert any("PutItem" in text or "BatchWriteItem" in text for text in made.refused())
    finally:
        made.calls[:] = before
