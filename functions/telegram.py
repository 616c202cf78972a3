"""Send the alerts of the queue to Telegram; what it does not take goes back to the outbox."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from functions.handler import Handler, once
from shared.observability import make_logger

if TYPE_CHECKING:
    from shared.alerts.queue_end import QueueEnd

logger = make_logger()
_one_at_a_time = threading.Lock()


def make_handler(end: Callable[[], QueueEnd]) -> Handler:
    """Return a handler of SQS events that answers which messages must come again."""
    get = once(end)

    @logger.inject_lambda_context
    def handle(event: Any, context: Any) -> dict[str, Any]:
        records = [(str(one["messageId"]), str(one["body"])) for one in event.get("Records", [])]
        with _one_at_a_time:
            failed = get().take(records, lambda: context.get_remaining_time_in_millis() / 1000)
        logger.info("telegram_done", extra={"messages": len(records), "failed": len(failed)})
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}

    return handle


def production_end(environ: Mapping[str, str] | None = None) -> QueueEnd:
    """Build the queue's end from the settings; the token is read from its store.

    Raises:
        ConfigurationError: the settings or the token cannot be used.
    """
    import boto3

    from shared.alerts.queue_end import QueueEnd
    from shared.alerts.service import AlertService
    from shared.alerts.wiring import telegram, telegram_place
    from shared.clock import SystemClock
    from shared.exchange.binance.rest import BinanceMarketData
    from shared.exchange.binance.transport import RequestsTransport
    from shared.pictures.drawing import Drawing
    from shared.secrets import read_secret
    from shared.settings_loader import load_settings
    from shared.storage.dynamodb import DynamoTable

    settings = load_settings(environ=os.environ if environ is None else environ).settings
    region, clock = settings.aws.region, SystemClock()
    table = DynamoTable(boto3.client("dynamodb", region_name=region), settings.storage.table_name)
    market_data = BinanceMarketData(settings.exchange, RequestsTransport(settings.exchange.max_connections), clock)
    drawing = Drawing(table, market_data, settings.storage.retention_days)
    channel = telegram(
        settings, clock, table, lambda name, setting: read_secret(name, setting, region=region), drawing.png
    )
    delivery = AlertService.on_table(table, [channel], settings, clock).delivery
    return QueueEnd(channel, delivery, telegram_place(settings))


lambda_handler = make_handler(production_end)
