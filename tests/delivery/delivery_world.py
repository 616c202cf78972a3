"""A state, a clock, channels of every kind and as many service instances as asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from local.telegram import CHAT, FakeTelegram
from shared.alerts.channels.channel import Receipt
from shared.alerts.channels.telegram import TelegramChannel
from shared.alerts.digest import Digest
from shared.alerts.lanes import Lanes
from shared.alerts.model import Alert
from shared.alerts.service import AlertService
from shared.clock import Clock, ManualClock
from shared.detection.reading import Signal
from shared.errors import DeliveryError
from shared.secrets import Secret
from shared.settings import Settings
from shared.storage.sqlite import SqliteTable
from shared.telegram.api import TelegramApi
from shared.telegram.limits import ChatLimits


@dataclass
class PagingChannel:
    """A channel that wakes people: it takes digests. Refuses while `error` is set; keeps everything."""

    name: str = "pager"
    got: list[Alert] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)
    error: Exception | None = None
    before: Callable[[], None] = lambda: None
    fingerprint: str = "here"

    def send(self, alert: Alert) -> Receipt | None:
        self.before()
        if self.error is not None:
            raise self.error
        self.got.append(alert)
        return None

    def send_digest(self, digest: Digest) -> None:
        self.before()
        if self.error is not None:
            raise self.error
        self.digests.append(digest)

    @property
    def notifications(self) -> int:
        return len(self.got) + len(self.digests)

    def heard(self) -> list[str]:
        """Return the ids of all alerts that reached people, one by one or in digests."""
        return [one.alert_id for one in self.got] + [a.alert_id for digest in self.digests for a in digest.alerts]


class World:
    """`service()` is one more process on the same state."""

    def __init__(self, now_ms: int, settings: Settings | None = None, channels: list[Any] | None = None) -> None:
        self.clock = ManualClock(now_ms)
        self.settings = settings or Settings()
        self.state = SqliteTable(":memory:")
        self.channels: list[Any] = channels if channels is not None else [PagingChannel()]

    @property
    def pager(self) -> PagingChannel:
        found = self.channels[0]
        assert isinstance(found, PagingChannel)
        return found

    def service(self, table: Any = None, lanes: Lanes | None = None) -> AlertService:
        return AlertService.on_table(table or self.state, self.channels, self.settings, self.clock, lanes=lanes)

    def pass_minutes(self, minutes: int, service: AlertService | None = None) -> None:
        """Let the redelivery job run each minute."""
        service = service or self.service()
        for _ in range(minutes):
            self.clock.advance(60_000)
            service.redeliver(self.clock.now_ms())


def telegram_to(phone: FakeTelegram, clock: Clock, **more: Any) -> TelegramChannel:
    chat = more.pop("chat_id", CHAT)
    token = more.pop("token", phone.token)
    api = TelegramApi(Secret(token, "TELEGRAM_BOT_TOKEN"), phone.url)
    return TelegramChannel(api=api, chat_id=chat, limits=ChatLimits(clock), **more)


def named(signal: Signal, symbol: str) -> Signal:
    """The same signal of another symbol."""
    return replace(signal, symbol=symbol)


def down(*, fatal: bool = False, retryable: bool = True) -> DeliveryError:
    return DeliveryError("not today", fatal=fatal, retryable=retryable)
