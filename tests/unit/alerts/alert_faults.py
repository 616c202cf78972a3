"""A table that fails on demand, a channel that keeps what it got, and a world made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shared.alerts.model import Alert
from shared.alerts.service import AlertService
from shared.clock import ManualClock
from shared.errors import DeliveryError, StorageUnavailable
from shared.settings import Settings
from shared.storage.sqlite import SqliteTable


class Killed(BaseException):
    """The process died here."""


class FaultyTable:
    """Number the calls of a table; at `at`, fail before it happened or `after` it did (the answer is lost)."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.calls = 0
        self.at = -1
        self.after = False
        self.error: Callable[[], BaseException] = lambda: StorageUnavailable("no answer")
        self.instead: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.table, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number != self.at:
                return real(*args, **kwargs)
            if self.instead is not None:
                self.instead()
                return real(*args, **kwargs)
            if self.after:
                real(*args, **kwargs)
            raise self.error()

        return call


@dataclass
class KeepingChannel:
    """Keep every alert; refuse while `error` is set."""

    name: str = "console"
    got: list[Alert] = field(default_factory=list)
    error: Exception | None = None
    before: Callable[[], None] = lambda: None

    def send(self, alert: Alert) -> None:
        self.before()
        if self.error is not None:
            raise self.error
        self.got.append(alert)

    def ids(self) -> list[str]:
        return [alert.alert_id for alert in self.got]


class World:
    """One state, one clock, two channels, and as many service instances as asked for."""

    def __init__(self, now_ms: int, settings: Settings | None = None) -> None:
        self.clock = ManualClock(now_ms)
        self.settings = settings or Settings()
        self.state = SqliteTable(":memory:")
        self.channels = [KeepingChannel("console"), KeepingChannel("sns")]

    def service(self, table: Any = None) -> AlertService:
        return AlertService.on_table(table or self.state, self.channels, self.settings, self.clock)

    def faulty(self) -> FaultyTable:
        return FaultyTable(self.state)


def broken(retryable: bool = True, retry_after_s: float | None = None) -> DeliveryError:
    return DeliveryError("not today", retryable=retryable, retry_after_s=retry_after_s)
