"""The webhook (signature, key, retries) and SNS (digests, nobody subscribed)."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from alert_examples import EVERY_KIND, NOON_MS, diffusion, initiator, trade_spike, volume_spike
from botocore.exceptions import ClientError
from delivery_world import World
from moto import mock_aws
from test_alert_render import alert_of

from shared.alerts.channels.sns import SnsChannel, digest_attributes, digest_message
from shared.alerts.channels.webhook import WebhookChannel, signature
from shared.alerts.digest import DigestKind, daily_digest, make_digest
from shared.alerts.pace import Health
from shared.alerts.service import DeliveryState
from shared.clock import ManualClock
from shared.errors import DeliveryError
from shared.secrets import Secret
from shared.storage.channel_states import ChannelStateRepository
from shared.telegram.api import TelegramApi, TelegramError


class Listener:
    """A receiver of webhooks that answers as told and keeps what came."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        keeper = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                keeper.got.append((dict(self.headers), body))
                status, headers = keeper.answers.pop(0) if keeper.answers else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?key=planted"


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.server.shutdown()
    found.server.server_close()


def hook(listener: Listener, clock: ManualClock | None = None) -> WebhookChannel:
    secret = Secret("correct horse battery", "TAPEWATCH_WEBHOOK_SECRET")
    return WebhookChannel(listener.url, secret, clock or ManualClock(NOON_MS), timeout_s=2)


@pytest.mark.parametrize("example", EVERY_KIND)
def test_a_request_is_signed_and_has_its_key(listener, example):
    alert = alert_of(example())
    hook(listener).send(alert)
    ((headers, body),) = listener.got
    assert json.loads(body) == alert.to_json()
    assert headers["Idempotency-Key"] == alert.alert_id
    stamp = headers["X-Tapewatch-Timestamp"]
    assert int(stamp) == NOON_MS // 1000
    expected = hmac.new(b"correct horse battery", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(headers["X-Tapewatch-Signature"], f"v1={expected}")
    assert signature("another", stamp, body) != headers["X-Tapewatch-Signature"]


@pytest.mark.parametrize(
    ("status", "retryable", "fatal", "wait_s"),
    [
        (500, True, False, None), (503, True, False, None), (429, True, False, 7.0), (302, True, False, 120.0),
        (404, True, False, 120.0), (401, True, True, None), (410, True, True, None), (422, False, False, None),
    ],
)  # fmt: skip
def test_what_an_answer_means(listener, status, retryable, fatal, wait_s):
    listener.answers = [(status, {"Retry-After": "7", "Location": "http://127.0.0.1:1/"})]
    with pytest.raises(DeliveryError) as caught:
        hook(listener).send(alert_of(initiator()))
    answer = caught.value
    assert (answer.retryable, answer.fatal) == (retryable, fatal)
    assert answer.retry_after_s == (7.0 if status in (429, 500, 503) else wait_s)
    assert "planted" not in str(answer)
    assert len(listener.got) == 1  # redirects are not followed


def _dripping(server: socket.socket, start: bytes, end: bytes) -> None:
    """Answer one request after another, a byte each 20 ms for 1.5 s: no single read takes long."""
    while True:
        try:
            line, _ = server.accept()
            line.recv(65536)
            line.sendall(start)
            for _ in range(75):
                line.sendall(b" ")
                time.sleep(0.02)
            line.sendall(end)
            line.close()
        except OSError:
            if server.fileno() < 0:
                return


@pytest.fixture
def dripping() -> Iterator[Callable[[bytes, bytes], str]]:
    """Return a starter of a server that drips between two texts."""
    server = socket.create_server(("127.0.0.1", 0))

    def begin(start: bytes, end: bytes) -> str:
        threading.Thread(target=_dripping, args=(server, start, end), daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/hook"

    yield begin
    server.close()


def test_headers_that_drip_are_no_answer(dripping):
    channel = WebhookChannel(
        dripping(b"HTTP/1.1 200 OK\r\nX-A:", b"\r\n\r\n"), Secret("x" * 20), ManualClock(0), timeout_s=0.4
    )
    with pytest.raises(DeliveryError, match="Timeout") as caught:
        channel.send(alert_of(initiator()))
    assert (caught.value.retryable, caught.value.fatal) == (True, False)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX-A:", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"])
def test_a_telegram_that_drips_gives_no_answer(dripping, start):
    end = b'{"ok": true, "result": {}}' if start.endswith(b"\r\n\r\n") else b'\r\n\r\n{"ok": true, "result": {}}'
    api = TelegramApi(Secret("1:x" * 9, "TELEGRAM_BOT_TOKEN"), dripping(start, end))
    with pytest.raises(TelegramError, match="Timeout"):
        api.call("sendMessage", {}, read_s=0.4)
    assert api.call("sendMessage", {}, read_s=5.0) == {}


def test_a_failed_one_is_sent_again_with_the_same_key(listener):
    world = World(NOON_MS)
    world.channels = [hook(listener, world.clock)]
    listener.answers = [(503, {}), (503, {})]
    service = world.service()
    assert service.handle(volume_spike()).deliveries["webhook"] is DeliveryState.PENDING
    world.pass_minutes(3, service)
    assert len(listener.got) == 3
    assert len({headers["Idempotency-Key"] for headers, _ in listener.got}) == 1
    assert len({body for _, body in listener.got}) == 1


def test_nobody_there_is_said_without_the_address():
    channel = WebhookChannel("http://127.0.0.1:9/hook?key=planted", Secret("x" * 20), ManualClock(0), timeout_s=1)
    with pytest.raises(DeliveryError) as caught:
        channel.send(alert_of(initiator()))
    assert "127.0.0.1" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_storm_is_one_request_with_all_its_alerts(listener):
    world = World(NOON_MS)
    world.channels = [hook(listener, world.clock)]
    service = world.service()
    for number in range(20):
        service.handle(trade_spike(NOON_MS, f"S{number}USDT"))
    world.pass_minutes(3, service)
    kinds = [headers["X-Tapewatch-Kind"] for headers, _ in listener.got]
    assert kinds == ["alert", "alert", "digest"]
    body = json.loads(listener.got[-1][1])
    assert (body["kind"], body["count"], len(body["alerts"])) == ("storm", 18, 18)
    assert listener.got[-1][0]["Idempotency-Key"] == body["digest_id"]


# --- SNS ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def topic() -> Iterator[tuple[Any, str]]:
    with mock_aws():
        client = boto3.client("sns")
        yield client, client.create_topic(Name="alerts")["TopicArn"]


def test_f502_a_topic_that_nobody_hears_is_red_with_the_cure_and_loses_nothing(topic):
    """No subscription: SNS would take the message and deliver it to no one. Pending, told, then one digest."""
    client, arn = topic
    world = World(NOON_MS)
    world.channels = [SnsChannel(client, arn, world.clock)]
    service = world.service()
    assert service.handle(volume_spike()).deliveries["sns"] is DeliveryState.PENDING
    world.pass_minutes(12, service)
    state = ChannelStateRepository(world.state, lambda: "x").get("sns")
    assert state.health is Health.FAILING
    assert "confirm" in state.error
    queue = boto3.client("sqs")
    url = queue.create_queue(QueueName="q")["QueueUrl"]
    queue_arn = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
    world.pass_minutes(6, service)
    bodies = [json.loads(m["Body"]) for m in queue.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]]
    digests = [body for body in bodies if "digest_id" in body]
    assert len(digests) == 1
    assert digests[0]["kind"] == "late"


def test_f502_a_topic_that_is_gone_keeps_the_event(topic):
    client, arn = topic
    world = World(NOON_MS)
    world.channels = [SnsChannel(client, arn + "-gone", world.clock)]
    service = world.service()
    assert service.handle(volume_spike()).deliveries["sns"] is DeliveryState.PENDING
    world.pass_minutes(3, service)
    assert "deploy again" in ChannelStateRepository(world.state, lambda: "x").get("sns").error


def test_f502_an_address_that_has_not_confirmed_does_not_count():
    class Pending:
        def list_subscriptions_by_topic(self, **_: Any) -> dict[str, Any]:
            return {"Subscriptions": [{"SubscriptionArn": "PendingConfirmation", "Protocol": "email"}]}

    with pytest.raises(DeliveryError, match="confirm"):
        SnsChannel(Pending(), "arn:aws:sns:x:1:t", ManualClock(NOON_MS)).send(alert_of(initiator()))  # type: ignore[arg-type]


def test_who_may_not_look_publishes_all_the_same():
    class Closed:
        def list_subscriptions_by_topic(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": "AuthorizationError"}}, "ListSubscriptionsByTopic")

        def publish(self, **_: Any) -> dict[str, str]:
            return {"MessageId": "42"}

    receipt = SnsChannel(Closed(), "arn:aws:sns:x:1:t", ManualClock(NOON_MS)).send(alert_of(initiator()))  # type: ignore[arg-type]
    assert receipt is not None
    assert receipt.reference == "42"


def test_a_huge_digest_fits():
    alerts = [alert_of(trade_spike(NOON_MS, f"S{number}USDT")) for number in range(3000)]
    text = digest_message(make_digest(alerts, DigestKind.LATE))
    assert len(text.encode()) < 256 * 1024
    assert json.loads(json.loads(text)["sqs"])["count"] == 3000


FILTERS = {
    "detector": ["sector_diffusion"],
    "symbol": ["XMRUSDT"],
    "sector": ["Privacy"],
    "direction": ["UP"],
    "severity": ["warning"],  # not the gravest of the digest
}


def test_subscribers_with_a_filter_hear_their_alerts_in_a_storm(topic):
    """Beyond the second alert of a window all leave as a digest: it passes each filter that one of them would."""
    client, arn = topic
    queues, urls = boto3.client("sqs"), {}

    def subscribe(name: str, wanted: dict[str, list[str]]) -> None:
        urls[name] = url = queues.create_queue(QueueName=name)["QueueUrl"]
        at = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = {"FilterPolicy": json.dumps(wanted), "RawMessageDelivery": "true"}
        client.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=at, Attributes=policy)

    for name, wanted in FILTERS.items():
        subscribe(name, {name: wanted})
    subscribe("digests", {"detector": ["digest"]})
    subscribe("others", {"symbol": ["NOBODYUSDT"]})
    subscribe("downwards", {"direction": ["DOWN"]})
    world = World(NOON_MS)
    world.channels = [SnsChannel(client, arn, world.clock)]
    service = world.service()
    for number in range(3):
        assert service.handle(trade_spike(NOON_MS, f"S{number}USDT")).alert_id is not None
    assert service.handle(initiator(NOON_MS - 60_000, symbol="ZECUSDT")).alert_id is not None  # critical
    last = service.handle(diffusion(NOON_MS - 60_000)).alert_id
    world.pass_minutes(3, service)

    def heard(name: str) -> list[dict[str, Any]]:
        found = queues.receive_message(QueueUrl=urls[name], MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(one["Body"]) for one in found]

    for name in (*FILTERS, "digests"):
        (digest,) = [body for body in heard(name) if "digest_id" in body]
        assert last in [alert["alert_id"] for alert in digest["alerts"]], name
    assert heard("others") == []
    assert [body for body in heard("downwards") if "digest_id" in body] == []


class Topic:
    """Takes whatever SNS would take: at most 256 KiB with attributes."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []

    def publish(self, **message: Any) -> dict[str, str]:
        size = len(message["Message"].encode())
        for name, one in message["MessageAttributes"].items():
            size += len(f"{name}{one['DataType']}{one['StringValue']}".encode())
        assert size <= 256 * 1024
        self.got.append(message)
        return {"MessageId": str(len(self.got))}


def test_a_digest_of_more_symbols_than_attributes_hold_is_several():
    alerts = [alert_of(trade_spike(NOON_MS, f"SYMBOL{number}USDT")) for number in range(5000)]
    topic = Topic()
    channel = SnsChannel(topic, "arn:aws:sns:x:1:t")  # type: ignore[arg-type]
    channel.send_digest(make_digest(alerts, DigestKind.LATE))
    assert len(topic.got) > 1
    symbols = [json.loads(one["MessageAttributes"]["symbol"]["StringValue"]) for one in topic.got]
    assert sorted(symbol for some in symbols for symbol in some) == sorted(alert.symbol for alert in alerts)
    counts = [json.loads(json.loads(one["Message"])["sqs"])["count"] for one in topic.got]
    assert sum(counts) == 5000
    first, topic.got = topic.got, []
    channel.send_digest(make_digest(alerts, DigestKind.LATE))
    assert topic.got == first  # an attempt that is repeated can be recognised by its ids


def test_the_daily_digest_has_no_more_than_it_is():
    report = {"counts": {}, "top_symbols": [], "since": "2026-01-13T00:00:00Z", "until": "2026-01-14T00:00:00Z"}
    values = {
        name: json.loads(one["StringValue"]) for name, one in digest_attributes(daily_digest(report, None)).items()
    }
    assert values == {"detector": ["digest"], "severity": ["info"]}
