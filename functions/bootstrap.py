"""The only place that builds clients: what the handlers stand on in AWS, from the settings and the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.clock import SystemClock
from shared.errors import StorageUnavailable
from shared.jobs.deps import Dependencies, Emit
from shared.settings_loader import load_settings

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sqs import SQSClient

EVENT_SOURCE = "tapewatch"


def production_dependencies(environ: Mapping[str, str] | None = None) -> Dependencies:
    """Read the settings and build every client; called on a function's first event, never at import.

    Raises:
        ConfigurationError: the settings file or a `TAPEWATCH_` variable cannot be used.
    """
    # Imported here: boto3 costs 0.4 s, which a test of a handler or a look at its name should not pay.
    import boto3
    from botocore.config import Config

    from shared.alerts.channels.channel import Channel
    from shared.alerts.channels.sns import SnsChannel
    from shared.alerts.lanes import Threads
    from shared.alerts.service import AlertService
    from shared.alerts.wiring import messengers
    from shared.exchange.binance.rest import BinanceMarketData
    from shared.exchange.binance.transport import RequestsTransport
    from shared.pictures.drawing import Drawing
    from shared.storage.dynamodb import DynamoTable
    from shared.storage.not_before import NotBeforeRepository
    from shared.storage.objects import S3Objects

    settings = load_settings(environ=os.environ if environ is None else environ).settings
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=2,
        read_timeout=5,
        max_pool_connections=max(10, settings.exchange.max_connections),
    )
    region = settings.aws.region
    table = DynamoTable(boto3.client("dynamodb", region_name=region, config=config), settings.storage.table_name)
    clock = SystemClock()
    channels: list[Channel] = []
    sns = settings.alerts.sns
    if sns.enabled and sns.topic_arn:
        channels.append(SnsChannel(boto3.client("sns", region_name=region, config=config), sns.topic_arn, clock))
    market_data = BinanceMarketData(
        settings.exchange,
        RequestsTransport(settings.exchange.max_connections),
        clock,
        ban_store=NotBeforeRepository(table),
    )
    drawing = Drawing(table, market_data, settings.storage.retention_days)
    channels += messengers(settings, clock, table, picture=drawing.png)
    dead_letters = None
    if settings.aws.dead_letter_urls:
        dead_letters = queue_depth(
            lambda: boto3.client("sqs", region_name=region, config=config), settings.aws.dead_letter_urls
        )
    objects = None
    if settings.storage.bucket_name:
        objects = S3Objects(boto3.client("s3", region_name=region, config=config), settings.storage.bucket_name)
    return Dependencies(
        settings=settings,
        market_data=market_data,
        table=table,
        alerts=AlertService.on_table(table, channels, settings, clock, lanes=Threads()),
        clock=clock,
        objects=objects,
        dead_letters=dead_letters,
        emit=event_bridge(
            lambda: boto3.client("events", region_name=region, config=config), settings.aws.event_bus or "default"
        ),
    )


def queue_depth(client: Callable[[], SQSClient], urls: Sequence[str]) -> Callable[[], int]:
    """Return a count of the messages in some queues, those in flight included; its client is built when first asked.

    Raises, when called, StorageUnavailable: a queue did not say.
    """
    built: list[SQSClient] = []
    asked: list[Any] = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def count() -> int:
        from botocore.exceptions import BotoCoreError, ClientError

        if not built:
            built.append(client())
        try:
            answers = [built[0].get_queue_attributes(QueueUrl=url, AttributeNames=asked) for url in urls]
        except (BotoCoreError, ClientError) as exc:
            raise StorageUnavailable(f"a dead-letter queue did not answer: {type(exc).__name__}") from exc
        return sum(int(number) for answer in answers for number in answer["Attributes"].values())

    return count


def event_bridge(client: Callable[[], EventBridgeClient], bus: str = "default") -> Emit:
    """Return an emitter onto an event bus of the account; its client is built with the first event.

    A refused event raises StorageUnavailable, so that the run fails and is tried again: the jobs are idempotent.
    """
    built: list[EventBridgeClient] = []

    def emit(detail_type: str, detail: Mapping[str, Any]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        if not built:
            built.append(client())
        try:
            answer = built[0].put_events(
                Entries=[
                    {
                        "Source": EVENT_SOURCE,
                        "DetailType": detail_type,
                        "Detail": json.dumps(dict(detail)),
                        "EventBusName": bus,
                    }
                ]
            )
        except (BotoCoreError, ClientError, ResponseParserError) as exc:
            raise StorageUnavailable(f"the event {detail_type} was not taken: {type(exc).__name__}") from exc
        if not answer.get("Entries"):  # the SDK takes a body that it cannot parse for an empty answer
            raise StorageUnavailable(f"the event {detail_type} got no usable answer")
        if answer.get("FailedEntryCount"):
            raise StorageUnavailable(f"the event {detail_type} was refused: {answer['Entries'][0].get('ErrorCode')}")

    return emit
