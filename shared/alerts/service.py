"""The path of an alert: stored signal, decision, claim, delivery, confirmation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shared.alerts.channels.channel import Channel
from shared.alerts.model import Alert
from shared.clock import Clock
from shared.detection.reading import Signal
from shared.settings import Settings
from shared.storage.alerts import AlertRepository
from shared.storage.mutes import MuteRepository
from shared.storage.signals import SignalRepository


class DeliveryState(StrEnum):
    SENT = "sent"
    PENDING = "pending"
    TOO_LATE = "too_late"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one signal. Either `alert` or `held` is set.

    `created` is False when the signal had been handled before: nothing was stored or sent again.
    """

    signal: Signal
    alert_id: str
    alert: Alert | None
    held: str | None  # the reason, a policy.HeldReason value
    held_until_ms: int | None = None
    created: bool = True
    deliveries: Mapping[str, DeliveryState] = field(default_factory=dict)  # by channel name


@dataclass(frozen=True, slots=True)
class RedeliveryReport:
    """Counts of one redelivery run, over all channels; `waiting` are leased by another run or not due yet."""

    sent: int = 0
    failed: int = 0
    too_late: int = 0
    dead: int = 0
    waiting: int = 0


class AlertService:
    """Turn signals into at most one alert each and deliver it. Safe to share between threads and processes."""

    def __init__(
        self,
        alerts: AlertRepository,
        signals: SignalRepository,
        mutes: MuteRepository,
        channels: Sequence[Channel],
        settings: Settings,
        clock: Clock,
        *,
        new_token: Callable[[], str] | None = None,
    ) -> None:
        raise NotImplementedError

    def handle(self, signal: Signal) -> Outcome:
        """Store a signal, decide, and send. Handling it again changes nothing.

        Raises:
            StorageUnavailable: no answer from the state; ask again with the same signal.
        """
        raise NotImplementedError

    def redeliver(self, now_ms: int) -> RedeliveryReport:
        """Send what is still pending and due."""
        raise NotImplementedError
