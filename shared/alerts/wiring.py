"""Which channels the settings ask for, built once at the edge: the same on one machine and on AWS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.alerts.channels.channel import Channel
from shared.alerts.model import Alert, Severity
from shared.clock import Clock
from shared.secrets import Secret, read_secret
from shared.settings import Settings
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.table import Table

if TYPE_CHECKING:
    from shared.alerts.channels.telegram import TelegramChannel
    from shared.alerts.channels.webhook import WebhookChannel

_MOVED = "telegram-chat"
Picture = Callable[[Alert], bytes | None]
ReadSecret = Callable[[str, str], Secret]


def messengers(
    settings: Settings, clock: Clock, table: Table, *, picture: Picture | None = None, read: ReadSecret | None = None
) -> list[Channel]:
    """Return Telegram and the webhook, as far as they are switched on.

    Raises:
        ConfigurationError: a secret that they name is not there.
    """
    region = settings.aws.region
    read = read or (lambda name, setting: read_secret(name, setting, region=region))
    found: list[Channel] = []
    if settings.alerts.telegram.enabled:
        queue_url = settings.aws.telegram_queue_url
        found.append(queued(settings, queue_url) if queue_url else telegram(settings, clock, table, read, picture))
    if settings.alerts.webhook.enabled:
        found.append(webhook(settings, clock, read))
    return found


def telegram_place(settings: Settings) -> str:
    """Return what both ends of Telegram's queue call its destination; a corrected setting changes it."""
    wanted = settings.alerts.telegram
    return hashlib.sha256(f"{wanted.chat_id}|{wanted.bot_token}".encode()).hexdigest()[:16]


def queued(settings: Settings, queue_url: str) -> Channel:
    """Build what stands in for Telegram on AWS: `functions/telegram.py` sends what lands in the queue."""
    import boto3

    from shared.alerts.channels.queued import QueueChannel

    client = boto3.client("sqs", region_name=settings.aws.region)
    return QueueChannel(client, queue_url, "telegram", telegram_place(settings))


def telegram(
    settings: Settings, clock: Clock, table: Table, read: ReadSecret, picture: Picture | None = None
) -> TelegramChannel:
    """Build the Telegram channel. A chat that has moved is remembered, so that a restart finds it."""
    from shared.alerts.channels.telegram import TelegramChannel
    from shared.telegram.api import TelegramApi
    from shared.telegram.limits import ChatLimits

    wanted = settings.alerts.telegram
    checkpoints = CheckpointRepository(table)
    known = checkpoints.get(_MOVED) or {}
    configured = wanted.chat_id if wanted.chat_id is not None else 0
    chat = known.get("to", configured) if known.get("from") == str(configured) else configured
    return TelegramChannel(
        api=TelegramApi(read(wanted.bot_token, "alerts.telegram.bot_token"), wanted.api_url),
        chat_id=_chat(chat),
        limits=ChatLimits(clock),
        silent_below=Severity(wanted.silent_below),
        picture=picture if wanted.charts else None,
        moved=lambda to: _remember(checkpoints, str(configured), to),
    )


def webhook(settings: Settings, clock: Clock, read: ReadSecret) -> WebhookChannel:
    from shared.alerts.channels.webhook import WebhookChannel

    wanted = settings.alerts.webhook
    return WebhookChannel(
        wanted.url or "", read(wanted.secret, "alerts.webhook.secret"), clock, timeout_s=wanted.timeout_s
    )


def _chat(value: object) -> int | str:
    text = str(value).strip()
    return int(text) if text.lstrip("-").isdigit() else text


def _remember(checkpoints: CheckpointRepository, configured: str, to: int | str) -> None:
    checkpoints.put(_MOVED, {"from": configured, "to": to})
