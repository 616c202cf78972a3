"""Send the alerts of the queue to Telegram; what it does not take comes back, and ends in the dead-letter queue."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from functions.handler import Handler, once
from shared.alerts.channels.queued import unpack
from shared.alerts.model import Alert
from shared.errors import DeliveryError
from shared.observability import make_logger

if TYPE_CHECKING:
    from shared.alerts.channels.telegram import TelegramChannel

logger = make_logger()
_one_at_a_time = threading.Lock()


def make_handler(channel: Callable[[], TelegramChannel]) -> Handler:
    """Return a handler of SQS events that answers which messages must come again."""
    get = once(channel)

    @logger.inject_lambda_context
    def handle(event: Any, context: Any) -> dict[str, Any]:
        failed: list[dict[str, str]] = []
        with _one_at_a_time:
            for record in event.get("Records", []):
                # After a refusal the rest waits too: sent now, it would overtake what was refused.
                if failed or not _sent(get(), record):
                    failed.append({"itemIdentifier": str(record["messageId"])})
        logger.info("telegram_done", extra={"messages": len(event.get("Records", [])), "failed": len(failed)})
        return {"batchItemFailures": failed}

    return handle


def _sent(channel: TelegramChannel, record: Mapping[str, Any]) -> bool:
    try:
        message = unpack(str(record["body"]))
        if isinstance(message, Alert):
            channel.follow_up(message, channel.send(message))
        else:
            channel.send_digest(message)
    except (DeliveryError, ValueError) as exc:
        logger.warning("telegram_refused", extra={"message_id": record.get("messageId"), "reason": str(exc)})
        return False
    return True


def production_channel(environ: Mapping[str, str] | None = None) -> TelegramChannel:
    """Build the channel from the settings; the token is read from its store.

    Raises:
        ConfigurationError: the settings or the token cannot be used.
    """
    import boto3

    from shared.alerts.wiring import telegram
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
    return telegram(
        settings, clock, table, lambda name, setting: read_secret(name, setting, region=region), drawing.png
    )


lambda_handler = make_handler(production_channel)
