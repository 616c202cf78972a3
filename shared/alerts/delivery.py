"""Delivery: each channel for itself, from the outbox, until it is confirmed, in a digest, too late or dead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial

from shared.alerts.channels.channel import Channel, DigestChannel, FollowedChannel, Receipt
from shared.alerts.lanes import Inline, Lanes
from shared.alerts.model import Alert
from shared.alerts.pace import ChannelState, Gather, Health, PaceRule, reserve, turned
from shared.clock import Clock
from shared.detection.reading import Detector
from shared.errors import DeliveryError, StorageError
from shared.storage.alerts import AlertRepository
from shared.storage.channel_states import ChannelStateRepository
from shared.storage.outbox import OutboxItem

LEASE_MS = 60_000
_MARGIN_MS = 20_000  # of a lease, left for one attempt: a channel may take 15 s
_PATIENCE_S = 0.5  # a channel that takes longer goes on by itself
_FIRST_RETRY_S = 5.0
_LONGEST_RETRY_S = 300.0
_CONFIRM_ATTEMPTS = 3


class DeliveryState(StrEnum):
    SENT = "sent"
    PENDING = "pending"
    DIGEST = "digest"
    """It left as one of many, in a digest."""
    TOO_LATE = "too_late"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """`max_age_ms` is how old an alert may be that is sent by itself, `dead_after_ms` how long a digest may wait."""

    max_age_ms: int
    dead_after_ms: int
    pace: PaceRule


@dataclass(frozen=True, slots=True)
class Delivery:
    """Send alerts and note how it ended.

    Sending comes before noting: a crash in between sends twice (with the same alert id), the other order would lose.
    """

    alerts: AlertRepository
    channels: Sequence[Channel]
    rules: DeliveryRules
    clock: Clock
    new_token: Callable[[], str]
    states_of_channels: ChannelStateRepository
    lanes: Lanes = field(default_factory=Inline)
    _rest_until_ms: dict[str, int] = field(default_factory=dict)  # after a failure, in this process
    _seen_failing: set[str] = field(default_factory=set)

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
        """Send a new alert on every channel; neither a failure nor a delay on one keeps it from the others.

        A channel that has not ended when our patience does is pending; it goes on by itself.
        """
        by_name = {channel.name: channel for channel in self.channels}
        tasks = {item.channel: partial(self._send_new, by_name[item.channel], alert, item) for item in items}
        pending = {item.channel: DeliveryState.PENDING for item in items}
        return pending | self.lanes.each(tasks, patience_s=_PATIENCE_S)

    def states(self, alert_id: str) -> dict[str, DeliveryState]:
        """Return each channel's state of an alert; pending until something else is noted."""
        notes = self.alerts.deliveries(alert_id)
        known = {name: DeliveryState(note.state) for name, note in notes.items()}
        return {channel.name: DeliveryState.PENDING for channel in self.channels} | known

    # --- one alert on one channel -----------------------------------------------------------------------------
    def _send_new(self, channel: Channel, alert: Alert, item: OutboxItem) -> DeliveryState:
        """Send a new alert unless its channel rests, is dead, or gathers what comes."""
        try:
            wait = self._wait(channel, alert)
            if wait is not None:
                next_ms, why = wait
                untried = replace(item, attempts=item.attempts - 1)
                self.alerts.outbox.postpone(untried, next_attempt_ms=next_ms, error=why)
                return DeliveryState.PENDING
        except StorageError:
            pass  # the pace is a courtesy, the alert is the promise: send it
        state = self.send(channel, alert, item)
        if state is DeliveryState.SENT and channel.name in self._seen_failing:
            self._works(channel.name)
        return state

    def _works(self, name: str) -> None:
        """Note that a failing channel has taken an alert; redelivery does it for what it sends itself."""
        now_ms = self.clock.now_ms()
        try:
            self.states_of_channels.change(
                name, lambda state: turned(state, Health.OK, now_ms) if state.health is Health.FAILING else None
            )
            self._seen_failing.discard(name)
        except StorageError:
            pass  # the next alert shows it again

    def _wait(self, channel: Channel, alert: Alert) -> tuple[int, str] | None:
        """Return until when an alert must wait and why, None when it may leave now."""
        now_ms = self.clock.now_ms()
        resting_until_ms = self._rest_until_ms.get(channel.name, 0)
        if now_ms < resting_until_ms:
            return resting_until_ms, "the channel has just failed"
        if not isinstance(channel, DigestChannel):
            return None
        answer: Gather | None = None
        dead: ChannelState | None = None

        def ask(state: ChannelState) -> ChannelState | None:
            nonlocal answer, dead
            answer = dead = None
            (self._seen_failing.add if state.health is Health.FAILING else self._seen_failing.discard)(channel.name)
            if state.dead(channel.fingerprint):
                dead = state
                return None
            if alert.detector is Detector.SYSTEM:
                return None
            answer, after = reserve(state, now_ms, self.rules.pace)
            return after

        self.states_of_channels.change(channel.name, ask)
        if dead is not None:
            return now_ms, dead.error
        return None if answer is None else (answer.due_ms, "gathered with others")

    def send(self, channel: Channel, alert: Alert, item: OutboxItem) -> DeliveryState:
        """Send one leased alert and note the result. Never raises for what a channel or the state did."""
        if self.clock.now_ms() >= item.claimed_until_ms - _MARGIN_MS:
            return DeliveryState.PENDING  # the lease might end while we send: redelivery sends it
        try:
            receipt = channel.send(alert)
        except DeliveryError as exc:
            return self._failed(channel, item, exc)
        except Exception as exc:  # a channel's bug must neither stop the other channels nor lose the alert
            return self._failed(channel, item, DeliveryError(f"{channel.name} broke: {type(exc).__name__}"))
        self._rest_until_ms.pop(channel.name, None)
        try:
            self.note([item], DeliveryState.SENT, reference=receipt.reference if receipt else "")
        except StorageError:
            return DeliveryState.PENDING  # sent, but not noted: it is sent again when the lease ends
        if isinstance(channel, FollowedChannel):
            self.lanes.later(channel.name, partial(_follow_up, channel, alert, receipt or Receipt()))
        return DeliveryState.SENT

    def _failed(self, channel: Channel, item: OutboxItem, error: DeliveryError) -> DeliveryState:
        now_ms = self.clock.now_ms()
        wait_s = max(retry_after_s(item.attempts), error.retry_after_s or 0.0)
        try:
            if error.fatal and isinstance(channel, DigestChannel):
                fingerprint = channel.fingerprint
                self.states_of_channels.change(
                    channel.name, lambda state: turned(state, Health.DEAD, now_ms, str(error), fingerprint)
                )
            elif not error.retryable:
                self.note([item], DeliveryState.DEAD, error=str(error))
                return DeliveryState.DEAD
            self._rest_until_ms[channel.name] = now_ms + round(max(_FIRST_RETRY_S, error.retry_after_s or 0.0) * 1000)
            self.alerts.outbox.postpone(item, next_attempt_ms=now_ms + round(wait_s * 1000), error=str(error))
        except StorageError:
            pass  # the item stays leased to us, and is due when the lease ends
        return DeliveryState.PENDING

    def note(self, items: Sequence[OutboxItem], state: DeliveryState, *, error: str = "", reference: str = "") -> None:
        """Note the end of deliveries; asked again a few times, because an unnoted one is sent twice.

        Raises:
            StorageError: no answer to any of them.
        """
        for attempt in range(1, _CONFIRM_ATTEMPTS + 1):
            try:
                self.alerts.finish(items, state.value, self.clock.now_ms(), error, reference)
                return
            except StorageError:
                if attempt == _CONFIRM_ATTEMPTS:
                    raise


def retry_after_s(attempts: int) -> float:
    """Return the pause after so many attempts: 5 s, 10 s, 20 s, up to 5 min."""
    return min(_FIRST_RETRY_S * 2.0 ** min(max(attempts, 1) - 1, 10), _LONGEST_RETRY_S)


def _follow_up(channel: FollowedChannel, alert: Alert, receipt: Receipt) -> None:
    try:
        channel.follow_up(alert, receipt)
    except Exception:
        # A picture that fails costs nobody the alert, which has been sent and noted; the channel counts it.
        return
