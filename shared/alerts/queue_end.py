"""The far end of a channel's queue: send what was handed over, and note the end or give it back to the outbox.

An alert is either in the queue, its outbox row leased under the message's claim, or pending: a message whose claim no
longer holds its row was delivered or given back before, and is passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shared.alerts.channels.channel import DigestChannel, FollowedChannel, Receipt
from shared.alerts.channels.queued import claim_of, unpack
from shared.alerts.delivery import Delivery, DeliveryState, retry_after_s
from shared.alerts.digest import Digest
from shared.alerts.model import Alert
from shared.alerts.pace import ChannelState, Health, turned
from shared.alerts.redelivery import failing, healthy
from shared.errors import DeliveryError, StorageError
from shared.storage.outbox import OutboxItem

logger = logging.getLogger(__name__)

TEXT_S = 25.0
"""One message, sent twice where the first form is refused, and the pause that its chat may need."""
CHART_S = 45.0
PROBE_MS = 3_600_000
"""A dead place is tried so often: nobody but this end can see that its token was corrected."""


@dataclass(frozen=True, slots=True)
class _Message:
    name: str
    content: Alert | Digest
    claimed: bool
    items: Sequence[OutboxItem]


@dataclass(frozen=True, slots=True)
class QueueEnd:
    """`place` is the fingerprint by which the near end knows this destination."""

    channel: DigestChannel
    delivery: Delivery
    place: str

    def take(self, records: Sequence[tuple[str, str]], seconds_left: Callable[[], float]) -> list[str]:
        """Send messages (name, body): all texts, then the charts. Return the names of those that must come again.

        After one that may succeed later, or none at all, the rest waits too: sent now, it would overtake.
        """
        again: list[str] = []
        charts: list[tuple[Alert, Receipt]] = []
        state = self._state()
        stopped: DeliveryError | None = None
        if state.dead(self.place) and self.delivery.clock.now_ms() < state.next_digest_ms:
            stopped = DeliveryError(state.error, fatal=True)
        for name, body in records:
            try:
                message = self._read(name, body)
                if message is None:
                    continue
                if stopped is None and seconds_left() < TEXT_S:
                    stopped = DeliveryError("no time was left for it")
                if stopped is not None:
                    self._give_back(message, stopped, tried=False)
                    continue
                receipt = self._send(message)
            except DeliveryError as exc:
                stopped = exc if exc.retryable else None
                logger.warning("telegram_refused", extra={"message_id": name, "reason": str(exc)})
            except (StorageError, ValueError, _NotOurs) as exc:
                logger.warning("telegram_again", extra={"message_id": name, "reason": str(exc) or "not of the outbox"})
                again.append(name)
                stopped = exc.why if isinstance(exc, _NotOurs) else stopped
            else:
                if state != (well := healthy(state, self.delivery.clock.now_ms())):
                    state = self._change(lambda now: healthy(now, self.delivery.clock.now_ms())) or well
                if isinstance(message.content, Alert):
                    charts.append((message.content, receipt))
        for alert, receipt in charts:
            if isinstance(self.channel, FollowedChannel) and seconds_left() >= CHART_S:
                self.channel.follow_up(alert, receipt)
        return again

    def _read(self, name: str, body: str) -> _Message | None:
        """Return a message with the rows that it stands for, None for one that has nothing left to say."""
        content, claim = unpack(body), claim_of(body)
        if claim is None:  # the day's report, of which the outbox knows nothing
            return _Message(name, content, False, ())
        pending = self.delivery.alerts.pending(self.channel.name)
        items = [item for item in pending if item.claimed_by == claim]
        if isinstance(content, Alert):
            items = [item for item in items if item.alert_id == content.alert_id]
        return _Message(name, content, True, items) if items else None

    def _send(self, message: _Message) -> Receipt:
        content = message.content
        try:
            if isinstance(content, Alert):
                receipt = self.channel.send(content) or Receipt()
            else:
                self.channel.send_digest(content)
                receipt = Receipt()
        except DeliveryError as exc:
            self._failed(message, exc)
            raise
        except Exception as exc:
            broken = DeliveryError(f"the channel broke: {type(exc).__name__}")
            self._failed(message, broken)
            raise broken from None
        ended = DeliveryState.SENT if isinstance(content, Alert) else DeliveryState.DIGEST
        told = "" if isinstance(content, Alert) else f"in the digest {content.digest_id[:12]}"
        if message.items:
            self.delivery.note(message.items, ended, error=told, reference=receipt.reference)
        return receipt

    # --- failures ---------------------------------------------------------------------------------------------
    def _failed(self, message: _Message, error: DeliveryError) -> None:
        now_ms, why = self.delivery.clock.now_ms(), str(error)
        if error.fatal:
            self._change(
                lambda now: replace(turned(now, Health.DEAD, now_ms, why, self.place), next_digest_ms=now_ms + PROBE_MS)
            )
        elif isinstance(message.content, Alert) and not error.retryable:
            if message.items:
                self.delivery.note(message.items, DeliveryState.DEAD, error=why)
            return
        elif isinstance(message.content, Alert):
            self._change(lambda now: failing(now, now_ms, why))
        else:

            def later(now: ChannelState) -> ChannelState:
                wait_ms = round(max(retry_after_s(now.attempts + 1), error.retry_after_s or 0.0) * 1000)
                waiting = replace(failing(now, now_ms, why), attempts=now.attempts + 1)
                return replace(waiting, next_digest_ms=now_ms + wait_ms)

            self._change(later)
        self._give_back(message, error, tried=True)

    def _give_back(self, message: _Message, error: DeliveryError, *, tried: bool) -> None:
        if not message.claimed:
            raise _NotOurs(error)
        now_ms, later = self.delivery.clock.now_ms(), []
        for item in message.items:
            wait_s = max(retry_after_s(item.attempts) if tried else 0.0, error.retry_after_s or 0.0)
            attempts = item.attempts if tried else max(item.attempts - 1, 0)
            next_ms = now_ms + round(wait_s * 1000)
            later.append(replace(item, attempts=attempts, next_attempt_ms=next_ms, last_error=str(error)[:500]))
        self.delivery.alerts.outbox.hold(later, owner="", until_ms=0)  # nobody's: the next run may lease them

    # --- the channel's state ----------------------------------------------------------------------------------
    def _state(self) -> ChannelState:
        try:
            return self.delivery.states_of_channels.get(self.channel.name)
        except StorageError:
            return ChannelState()

    def _change(self, how: Callable[[ChannelState], ChannelState]) -> ChannelState | None:
        try:
            return self.delivery.states_of_channels.change(self.channel.name, how)
        except StorageError:
            return None  # the next one tells


class _NotOurs(Exception):
    """A failed message that the outbox knows nothing of: only the queue can bring it again."""

    def __init__(self, why: DeliveryError) -> None:
        super().__init__(str(why))
        self.why = why
