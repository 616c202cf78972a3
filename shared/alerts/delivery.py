"""Delivery: each channel for itself, from the outbox, until it is confirmed, too late or dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.alerts.channels.channel import Channel
from shared.alerts.model import Alert
from shared.clock import Clock
from shared.errors import DeliveryError, StorageUnavailable
from shared.storage.alerts import AlertRepository
from shared.storage.outbox import OutboxItem

LEASE_MS = 60_000  # longer than any channel may take for one alert
_FIRST_RETRY_S = 5.0
_LONGEST_RETRY_S = 300.0
_CONFIRM_ATTEMPTS = 3
_MOST_PER_RUN = 500  # per channel; the rest is for the next run
_FAILURES_PER_RUN = 3  # after so many, a channel rests until the next run


class DeliveryState(StrEnum):
    SENT = "sent"
    PENDING = "pending"
    TOO_LATE = "too_late"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class RedeliveryReport:
    """Counts of one run over all channels. `waiting` are leased by another run or not due yet."""

    sent: int = 0
    failed: int = 0
    too_late: int = 0
    dead: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """Send alerts and note how it ended.

    Sending comes before noting: a crash in between sends twice (with the same alert id), the other order would lose.
    """

    alerts: AlertRepository
    channels: Sequence[Channel]
    max_age_ms: int
    clock: Clock
    new_token: Callable[[], str]

    def new_items(self, alert: Alert, known_ms: int, owner: str, now_ms: int) -> list[OutboxItem]:
        """Return one outbox item per channel, leased to the run that is about to send them."""
        return [
            OutboxItem(
                alert_id=alert.alert_id,
                channel=channel.name,
                known_ms=known_ms,
                detected_ms=alert.detected_ms,
                attempts=1,
                claimed_until_ms=now_ms + LEASE_MS,
                claimed_by=owner,
            )
            for channel in self.channels
        ]

    def send_all(self, alert: Alert, items: Sequence[OutboxItem]) -> dict[str, DeliveryState]:
        """Send a new alert on every channel; what fails on one does not keep it from the others."""
        by_name = {channel.name: channel for channel in self.channels}
        return {item.channel: self._send(by_name[item.channel], alert, item) for item in items}

    def states(self, alert_id: str) -> dict[str, DeliveryState]:
        """Return each channel's state of an alert; pending until something else is noted."""
        notes = self.alerts.deliveries(alert_id)
        known = {name: DeliveryState(note.state) for name, note in notes.items()}
        return {channel.name: DeliveryState.PENDING for channel in self.channels} | known

    def redeliver(self, now_ms: int) -> RedeliveryReport:
        """Send what is pending and due; note as too late what is older than the set age."""
        total: Counter[str] = Counter()
        for channel in self.channels:
            counts: Counter[str] = Counter()
            for item in self.alerts.pending(channel.name, _MOST_PER_RUN):
                resting = counts["failed"] >= _FAILURES_PER_RUN
                counts[self._redeliver_one(channel, item, now_ms, resting)] += 1
            total += counts
        return RedeliveryReport(**total)

    def _redeliver_one(self, channel: Channel, item: OutboxItem, now_ms: int, resting: bool) -> str:
        # Age is judged before the date of the next attempt, so that nothing lingers; never under another's lease.
        too_late = now_ms - item.known_ms > self.max_age_ms
        if item.claimed_until_ms > now_ms or not (too_late or (item.due(now_ms) and not resting)):
            return "waiting"
        until_ms = max(now_ms, self.clock.now_ms()) + LEASE_MS  # a run may take longer than one lease
        try:
            leased = self.alerts.outbox.lease(item, owner=self.new_token(), until_ms=until_ms)
            if leased is None:
                return "waiting"
            if too_late:
                self._note(leased, DeliveryState.TOO_LATE, f"older than {self.max_age_ms // 1000} s")
                return "too_late"
            alert = self.alerts.get(item.alert_id)
            if alert is None:
                self._note(leased, DeliveryState.DEAD, "the alert itself has been removed")
                return "dead"
        except StorageUnavailable:
            return "failed"  # whatever was leased is due again when the lease ends
        state = self._send(channel, alert, leased)
        return "failed" if state is DeliveryState.PENDING else state.value

    def _send(self, channel: Channel, alert: Alert, item: OutboxItem) -> DeliveryState:
        """Send one alert on one channel and note the result. Never raises for what a channel or the state did."""
        if self.clock.now_ms() >= item.claimed_until_ms:
            return DeliveryState.PENDING  # a slow channel before this one has used up the lease: redelivery sends it
        try:
            channel.send(alert)
        except DeliveryError as exc:
            return self._failed(item, exc)
        except Exception as exc:  # a channel's bug must neither stop the other channels nor lose the alert
            return self._failed(item, DeliveryError(f"{channel.name} broke: {type(exc).__name__}"))
        try:
            self._note(item, DeliveryState.SENT)
        except StorageUnavailable:
            return DeliveryState.PENDING  # sent, but not noted: it is sent again when the lease ends
        return DeliveryState.SENT

    def _failed(self, item: OutboxItem, error: DeliveryError) -> DeliveryState:
        try:
            if not error.retryable:
                self._note(item, DeliveryState.DEAD, str(error))
                return DeliveryState.DEAD
            wait_s = min(_FIRST_RETRY_S * 2.0 ** min(item.attempts - 1, 10), _LONGEST_RETRY_S)
            wait_s = max(wait_s, error.retry_after_s or 0.0)
            next_attempt_ms = self.clock.now_ms() + round(wait_s * 1000)
            self.alerts.outbox.postpone(item, next_attempt_ms=next_attempt_ms, error=str(error))
        except StorageUnavailable:
            pass  # the item stays leased to us, and is due when the lease ends
        return DeliveryState.PENDING

    def _note(self, item: OutboxItem, state: DeliveryState, error: str = "") -> None:
        """Note the end of a delivery; asked again a few times, because an unnoted one is sent twice.

        Raises:
            StorageUnavailable: no answer to any of them.
        """
        for attempt in range(1, _CONFIRM_ATTEMPTS + 1):
            try:
                self.alerts.finish(item, state.value, self.clock.now_ms(), error)
                return
            except StorageUnavailable:
                if attempt == _CONFIRM_ATTEMPTS:
                    raise
