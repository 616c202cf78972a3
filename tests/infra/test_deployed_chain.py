"""The deployed chain from bars to an alert out of the subscribed queue; and who else acts: streamer, API, Telegram."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from functions.api import make_handler as api_handler
from functions.api_routes import ROUTES
from functions.bootstrap import production_dependencies
from functions.telegram import make_handler as telegram_handler
from functions.telegram import production_end
from local.exchange.market import SimulatedMarket
from local.exchange.scenarios import sector_shot, trade_spike
from local.exchange.server import LocalExchange
from local.telegram import CHAT, FakeTelegram
from shared.clock import HOUR_MS, MINUTE_MS, SystemClock, floor_minute_ms, iso_utc, parse_utc_ms
from shared.secrets import read_secret
from shared.settings_loader import parse_settings
from streamer.bootstrap import production_service
from tests.fakes import FakeContext
from tests.infra.deployed import INBOX, REGION, Deployment, deployed, received, subscribe
from tests.infra.policies import Resolver, allowed, arn_of
from tests.infra.synths import make_synth

pytestmark = [pytest.mark.aws, pytest.mark.slow]

TOKEN = "/tapewatch/telegram-bot-token"
TREE: dict[str, Any] = {
    "aws": {"subscriptions": [{"protocol": "sqs", "endpoint": INBOX}]},
    "alerts": {"telegram": {"enabled": True, "chat_id": CHAT, "bot_token": TOKEN, "charts": False}},
}
SHOWN = {"symbol": "BTCUSDT", "market": "usdm", "minutes": "5"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, dict[str, str], int]]:
    folder: Path = tmp_path_factory.mktemp("chain")
    whole = Resolver(make_synth(parse_settings(TREE), folder / "whole").both)
    # What is created has no front door: moto knows no function addresses and no distributions.
    made_of = make_synth(parse_settings({**TREE, "api": {"enabled": False}}), folder / "code").both
    now_ms = floor_minute_ms(time.time_ns() // 1_000_000)
    plan = sector_shot("Privacy", "ZECUSDT", now_ms - MINUTE_MS, "UP", confirmed=True)
    plan += [trade_spike("BTCUSDT", now_ms + seconds * 1000) for seconds in range(10, 3000, 5)]
    exchange = LocalExchange(SimulatedMarket(seed=3, start_ms=now_ms - HOUR_MS, plan=plan), SystemClock())
    exchange.start()
    telegram = FakeTelegram().start()
    over = {
        "TAPEWATCH_EXCHANGE__SPOT_REST_URL": exchange.rest_url,
        "TAPEWATCH_EXCHANGE__FUTURES_REST_URL": exchange.rest_url,
        "TAPEWATCH_EXCHANGE__SPOT_WS_URL": exchange.ws_url,
        "TAPEWATCH_EXCHANGE__FUTURES_WS_URL": exchange.ws_url,
        "TAPEWATCH_ALERTS__TELEGRAM__ENABLED": "true",
        "TAPEWATCH_ALERTS__TELEGRAM__CHAT_ID": str(CHAT),
        "TAPEWATCH_ALERTS__TELEGRAM__CHARTS": "false",
        "TAPEWATCH_ALERTS__TELEGRAM__BOT_TOKEN": TOKEN,
        "TAPEWATCH_ALERTS__TELEGRAM__API_URL": telegram.url,
    }
    try:
        with mock_aws(), deployed(made_of) as made:
            boto3.client("sqs", region_name=REGION).create_queue(QueueName="inbox")
            boto3.client("ssm", region_name=REGION).put_parameter(Name=TOKEN, Value=telegram.token, Type="SecureString")
            subscribe(made)
            # The emulator would hand Telegram's queue to a function of its own, which takes everything for done.
            functions = boto3.client("lambda", region_name=REGION)
            for source in functions.list_event_source_mappings()["EventSourceMappings"]:
                functions.update_event_source_mapping(UUID=source["UUID"], Enabled=False)
            for name, module in (("api", "api"), ("telegram", "telegram")):
                [function] = [
                    logical
                    for logical, one in whole.resources.items()
                    if one["Type"] == "AWS::Lambda::Function"
                    and one["Properties"]["Handler"] == f"functions.{module}.lambda_handler"
                ]
                made.roles[name] = whole, whole.role_of(function)
            made.roles["streamer"] = made.resolver, made.task_role()
            yield made, over, now_ms
    finally:
        exchange.stop()
        telegram.stop()


def test_a_sector_event_comes_out_of_the_subscribed_queue_once(world: tuple[Deployment, dict[str, str], int]) -> None:
    """Schedule -> kline bars -> event -> features -> event -> sector detection -> topic -> the subscriber's queue."""
    made, over, now_ms = world
    assert made.invoke("backfill", {"scheduled_time": iso_utc(now_ms - MINUTE_MS), "hours": 17}, **over)["complete"]
    made.calls.clear()
    assert made.schedule("kline_bars", now_ms, **over)["bars"] > 0
    acted = [call.function for call in made.calls]
    assert list(dict.fromkeys(acted)) == ["kline_bars", "features", "sector"]
    [alert] = [one for one in received() if one["symbol"] == "ZECUSDT"]
    assert (alert["detector"], alert["direction"], alert["sector"]) == ("sector_initiator", "UP", "Privacy")
    assert parse_utc_ms(alert["event_time"]) == now_ms - MINUTE_MS
    # A second identical run goes the same way and sends nothing.
    made.calls.clear()
    made.schedule("kline_bars", now_ms, **over)
    assert {call.function for call in made.calls} == {"kline_bars", "features", "sector"}
    assert received() == []
    assert made.refused() == []


def test_every_read_of_the_api_is_within_its_own_rights(world: tuple[Deployment, dict[str, str], int]) -> None:
    made, over, _ = world
    name = made.environment("report")["TAPEWATCH_STORAGE__TABLE_NAME"]
    url = made.environment("sector")["TAPEWATCH_AWS__TELEGRAM_QUEUE_URL"]
    bucket = made.environment("report")["TAPEWATCH_STORAGE__BUCKET_NAME"]
    deployed_env = {
        "TAPEWATCH_STORAGE__TABLE_NAME": name,
        "TAPEWATCH_STORAGE__BUCKET_NAME": bucket,
        "TAPEWATCH_AWS__TELEGRAM_QUEUE_URL": url,
    }
    told = made.roles["api"][0].resources
    [function] = [one["Properties"] for one in told.values() if one["Type"] == "AWS::Lambda::Function"
                  and one["Properties"]["Handler"] == "functions.api.lambda_handler"]  # fmt: skip
    assert function["Environment"]["Variables"].keys() == deployed_env.keys()
    env = {"TAPEWATCH_AWS__REGION": REGION, **deployed_env, **over}
    handle = api_handler(lambda: production_dependencies(env))
    made.calls.clear()
    answered = {}
    with made.acting("api"):
        for route in ROUTES:
            if route.method == "GET":
                path = route.path.replace("{symbol}", "BTCUSDT").replace("{id}", "0" * 32)
                wanted = {one.name: SHOWN[one.name] for one in route.params if one.name in SHOWN}
                query = "&".join(f"{key}={value}" for key, value in wanted.items())
                event = {
                    "version": "2.0", "rawPath": path, "rawQueryString": query, "headers": {},
                    "queryStringParameters": wanted, "requestContext": {"http": {"method": "GET", "path": path},
                                                                        "stage": "$default"},
                }  # fmt: skip
                answered[path] = handle(event, FakeContext())["statusCode"]
    assert set(answered.values()) <= {200, 404}, answered
    assert list(answered.values()).count(200) >= 8, answered
    assert made.calls
    assert made.refused() == []
    assert not {action for call in made.calls for action, _ in call.rights} & {"dynamodb:PutItem", "sns:Publish"}


def waiting(url: str, within_s: float = 20.0) -> list[Any]:
    """Return what lies in a queue, or comes into it in time."""
    sqs, end = boto3.client("sqs", region_name=REGION), time.monotonic() + within_s
    while time.monotonic() < end:
        if found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            return list(found)
        time.sleep(0.2)
    raise AssertionError(f"nothing came into {url} in {within_s} s")


def test_the_telegram_sender_acts_within_its_own_rights(world: tuple[Deployment, dict[str, str], int]) -> None:
    made, over, _ = world
    env = {**made.environment("telegram"), **over, "TAPEWATCH_AWS__REGION": REGION}
    url = made.environment("sector")["TAPEWATCH_AWS__TELEGRAM_QUEUE_URL"]
    queued = waiting(url)  # the sector's alert among them
    records = [{"messageId": one["MessageId"], "body": one["Body"], "eventSource": "aws:sqs"} for one in queued]
    made.calls.clear()
    with made.acting("telegram"):
        answer = telegram_handler(lambda: production_end(env))({"Records": records}, FakeContext())
    assert answer == {"batchItemFailures": []}
    assert "ssm:GetParameter" in {action for call in made.calls for action, _ in call.rights}
    assert made.refused() == []
    # Lambda itself takes the messages, with the same role.
    resolver, role = made.roles["telegram"]
    queue = arn_of("AWS::SQS::Queue", made.logical[url])
    for action in ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"):
        assert allowed(resolver.statements(role), action, queue)
    assert not allowed(resolver.statements(role), "sns:Publish", arn_of("AWS::SNS::Topic", "foreign"))
    assert json.loads(records[0]["body"])


def test_the_streamer_acts_within_its_own_rights(world: tuple[Deployment, dict[str, str], int]) -> None:
    made, over, _ = world
    fast = {
        "TAPEWATCH_AWS__REGION": REGION,
        "TAPEWATCH_WINDOW_ANOMALY__WINDOW_SECONDS": "2",
        "TAPEWATCH_STREAMER__FLUSH_SECONDS": "1",
        "TAPEWATCH_STREAMER__HEARTBEAT_SECONDS": "1",
        "TAPEWATCH_STREAMER__WARMUP_TRADES": "false",
        "TAPEWATCH_TRADE_SPIKE__WINDOW_TRADES": "20",
        "TAPEWATCH_TRADE_SPIKE__ALERT_RARITY_MAX": "1",
        "TAPEWATCH_TRADE_SPIKE__ALERT_RECORD_HOURS": "0",
        "TAPEWATCH_ALERTS__TELEGRAM__COMMANDS": "false",  # their reader would live on beyond this test
    }
    env = {**made.task_environment(), **over, **fast}  # read by the starter's role, not the task's
    made.calls.clear()
    with made.acting("streamer"):
        service = production_service(env)
        read_secret(TOKEN, "alerts.telegram.bot_token", region=REGION)  # what the commands' reader does first
        service.run_in_thread()
        ends_s = time.monotonic() + 60
        wanted = {"dynamodb:PutItem", "dynamodb:ConditionCheckItem", "ssm:GetParameter"}
        while time.monotonic() < ends_s and not wanted <= {a for call in made.calls for a, _ in call.rights}:
            time.sleep(0.2)
        assert service.stop(20)
    called = {action for call in made.calls for action, _ in call.rights}
    assert wanted <= called, called
    assert made.refused() == []
    own = made.resolver.statements(made.task_role())
    table = next(resource for call in made.calls for a, resource in call.rights if a == "dynamodb:PutItem")
    url = made.environment("sector")["TAPEWATCH_AWS__TELEGRAM_QUEUE_URL"]
    topic = made.task_environment()["TAPEWATCH_ALERTS__SNS__TOPIC_ARN"]
    # An alert of its own leaves by these two; whether one comes in so short a time is the market's affair.
    assert allowed(own, "sqs:SendMessage", arn_of("AWS::SQS::Queue", made.logical[url]))
    assert allowed(own, "sns:Publish", arn_of("AWS::SNS::Topic", made.logical[topic]))
    for action, resource in (
        ("dynamodb:DeleteTable", table),
        ("dynamodb:PutItem", arn_of("AWS::DynamoDB::Table", "other")),
        ("sns:Publish", arn_of("AWS::SNS::Topic", "foreign")),
        ("ssm:GetParameter", f"arn:aws:ssm:{REGION}:123456789012:parameter/other"),
        ("s3:GetObject", "arn:aws:s3:::reports/x"),
    ):
        assert not allowed(own, action, resource), action
