"""Redelivery: what is pending leaves, one by one while it is little and fresh, as one digest otherwise."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from shared.alerts.channels.channel import Channel, DigestChannel
from shared.alerts.delivery import LEASE_MS, Delivery, DeliveryState, retry_after_s
from shared.alerts.digest import DigestKind, make_digest
from shared.alerts.pace import ChannelState, Health, noted, turned
from shared.errors import DeliveryError, StorageError
from shared.storage.outbox import OutboxItem

_MOST_PER_RUN = 500  # per channel that takes alerts one by one only; the rest is for the next run
_MOST_IN_DIGEST = 5_000
_FAILURES_PER_RUN = 3  # after so many, a channel rests until the next run
_PATIENCE_S = 25.0


@dataclass(frozen=True, slots=True)
class RedeliveryReport:
    """Counts of one run over all channels. `waiting` are leased by another run, gathered or not due yet.

    `digests` notifications held `digested` alerts.
    """

    sent: int = 0
    failed: int = 0
    too_late: int = 0
    dead: int = 0
    waiting: int = 0
    digests: int = 0
    digested: int = 0


@dataclass(frozen=True, slots=True)
class Redelivery:
    delivery: Delivery
    _running: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, now_ms: int) -> RedeliveryReport:
        """Serve every channel on its own lane; a channel that is still busy with the last run is passed over.

        Raises:
            StorageUnavailable: an outbox could not be read; ask again.
        """
        tasks = {
            channel.name: partial(self._guarded, channel, now_ms)
            for channel in self.delivery.channels
            if self._enter(channel.name)
        }
        answers = self.delivery.lanes.each(tasks, patience_s=_PATIENCE_S)
        total: Counter[str] = Counter()
        for counts in answers.values():
            total += counts
        return RedeliveryReport(**total)

    def _enter(self, name: str) -> bool:
        with self._lock:
            if name in self._running:
                return False
            self._running.add(name)
            return True

    def _guarded(self, channel: Channel, now_ms: int) -> Counter[str]:
        try:
            now_ms = max(now_ms, self.delivery.clock.now_ms())
            if isinstance(channel, DigestChannel):
                return _PacedRun(self.delivery, channel, now_ms).run()
            return self._one_by_one(channel, now_ms)
        finally:
            with self._lock:
                self._running.discard(channel.name)

    def _one_by_one(self, channel: Channel, now_ms: int) -> Counter[str]:
        counts: Counter[str] = Counter()
        for item in self.delivery.alerts.pending(channel.name, _MOST_PER_RUN):
            # Age is judged before the date of the next attempt, so that nothing lingers; never under another's lease.
            too_late = now_ms - item.known_ms > self.delivery.rules.max_age_ms
            resting = counts["failed"] >= _FAILURES_PER_RUN
            if item.claimed_until_ms > now_ms or not (too_late or (item.due(now_ms) and not resting)):
                counts["waiting"] += 1
            else:
                counts[redeliver_one(self.delivery, channel, item, now_ms, too_late=too_late)] += 1
        return counts


def redeliver_one(
    delivery: Delivery, channel: Channel, item: OutboxItem, now_ms: int, *, too_late: bool = False
) -> str:
    """Lease one item and send it; return the name of the count that it belongs to."""
    until_ms = max(now_ms, delivery.clock.now_ms()) + LEASE_MS  # a run may take longer than one lease
    try:
        leased = delivery.alerts.outbox.lease(item, owner=delivery.new_token(), until_ms=until_ms)
        if leased is None:
            return "waiting"
        if too_late:
            limit_s = delivery.rules.max_age_ms // 1000
            delivery.note([leased], DeliveryState.TOO_LATE, error=f"older than {limit_s} s")
            return "too_late"
        alert = delivery.alerts.get(item.alert_id)
        if alert is None:  # one answer is no proof that it is gone: its age ends it, not a garbled read
            later_ms = delivery.clock.now_ms() + round(retry_after_s(leased.attempts) * 1000)
            delivery.alerts.outbox.postpone(leased, next_attempt_ms=later_ms, error="the alert could not be read")
            return "failed"
    except StorageError:
        return "failed"  # whatever was leased is due again when the lease ends
    state = delivery.send(channel, alert, leased)
    return "failed" if state is DeliveryState.PENDING else state.value


class _PacedRun:
    """One run over one channel that takes digests. It holds the channel, so that two runs make one digest."""

    def __init__(self, delivery: Delivery, channel: DigestChannel, now_ms: int) -> None:
        self._delivery, self._channel, self._now_ms = delivery, channel, now_ms
        self._states = delivery.states_of_channels
        self._counts: Counter[str] = Counter()
        self._token = delivery.new_token()

    def run(self) -> Counter[str]:
        name = self._channel.name
        items = self._pending()
        state = self._states.get(name)
        if not items and state.health is not Health.DEAD and not state.run_by:
            return self._counts
        held = self._states.change(name, self._hold)
        if held is None:
            return Counter(waiting=len(items))
        change: Callable[[ChannelState], ChannelState] = _same
        try:
            change = self._serve(self._pending(), held)
        finally:
            self._states.change(name, lambda now: self._release(change(now)))
        return self._counts

    def _pending(self) -> list[OutboxItem]:
        return self._delivery.alerts.pending(self._channel.name, _MOST_IN_DIGEST)

    def _hold(self, state: ChannelState) -> ChannelState | None:
        if state.run_by and state.run_by != self._token and state.run_until_ms > self._now_ms:
            return None
        return replace(state, run_by=self._token, run_until_ms=self._now_ms + LEASE_MS)

    def _release(self, state: ChannelState) -> ChannelState:
        return replace(state, run_by="", run_until_ms=0) if state.run_by == self._token else state

    # --- deciding ---------------------------------------------------------------------------------------------
    def _serve(self, items: Sequence[OutboxItem], state: ChannelState) -> Callable[[ChannelState], ChannelState]:
        """Send what may be sent; return how the channel's state changes by it."""
        now_ms, rules = self._now_ms, self._delivery.rules
        free = [item for item in items if item.claimed_until_ms <= now_ms]
        given_up = [item for item in free if now_ms - item.known_ms > rules.dead_after_ms]
        if given_up:
            hours = rules.dead_after_ms / 3_600_000
            self._delivery.note(given_up, DeliveryState.DEAD, error=f"not delivered within {hours:g} h")
            self._counts["dead"] += len(given_up)
        rest = [item for item in free if now_ms - item.known_ms <= rules.dead_after_ms]
        self._counts["waiting"] += len(items) - len(free)
        if state.dead(self._channel.fingerprint):
            self._counts["waiting"] += len(rest)
            return _same
        if not items:  # only a sent one shows that a failing channel works; a dead one that has revived may try again
            return partial(_healthy, now_ms=now_ms) if state.health is Health.DEAD else _same
        late = [item for item in rest if now_ms - item.known_ms > rules.max_age_ms]
        due = [item for item in rest if now_ms - item.known_ms <= rules.max_age_ms and item.next_attempt_ms <= now_ms]
        self._counts["waiting"] += len(rest) - len(late) - len(due)
        gathering = state.gather_from_ms is not None and len(due) > 1
        if late or len(due) > rules.pace.notifications or gathering:
            return self._digest(late + due, DigestKind.LATE if late else DigestKind.STORM, state)
        return self._singles(due)

    def _singles(self, due: Sequence[OutboxItem]) -> Callable[[ChannelState], ChannelState]:
        sent = failed = 0
        for item in due:
            counted = redeliver_one(self._delivery, self._channel, item, self._now_ms)
            self._counts[counted] += 1
            sent, failed = sent + (counted == "sent"), failed + (counted == "failed")
        if sent:
            return lambda now: _healthy(noted(now, self._now_ms, self._delivery.rules.pace, sent), self._now_ms)
        if failed:
            why = next((item.last_error for item in self._pending() if item.last_error), "it did not take an alert")
            return lambda now: _failing(now, self._now_ms, why)
        return _same

    def _digest(
        self, items: Sequence[OutboxItem], kind: DigestKind, state: ChannelState
    ) -> Callable[[ChannelState], ChannelState]:
        now_ms = self._now_ms
        if now_ms < state.next_digest_ms:
            self._counts["waiting"] += len(items)
            return _same
        alerts = self._delivery.alerts.get_many([item.alert_id for item in items])
        removed = [item for item in items if item.alert_id not in alerts]
        items = [item for item in items if item.alert_id in alerts]
        self._counts["waiting"] += len(removed)  # one answer is no proof that they are gone; their age ends them
        if not items:
            return _same
        digest = make_digest([alerts[item.alert_id] for item in items], kind)
        try:
            self._channel.send_digest(digest)
        except Exception as exc:
            error = exc if isinstance(exc, DeliveryError) else DeliveryError(f"the channel broke: {type(exc).__name__}")
            self._counts["failed"] += 1
            self._counts["waiting"] += len(items)
            if error.fatal:
                why, fingerprint = str(error), self._channel.fingerprint
                return lambda now: turned(now, Health.DEAD, now_ms, why, fingerprint)
            wait_ms = round(max(retry_after_s(state.attempts + 1), error.retry_after_s or 0.0) * 1000)
            return lambda now: replace(
                _failing(now, now_ms, str(error)), attempts=now.attempts + 1, next_digest_ms=now_ms + wait_ms
            )
        self._delivery.note(items, DeliveryState.DIGEST, error=f"in the digest {digest.digest_id[:12]}")
        self._counts["digests"] += 1
        self._counts["digested"] += len(items)
        return lambda now: _healthy(noted(now, now_ms, self._delivery.rules.pace), now_ms)


def _same(state: ChannelState) -> ChannelState:
    return state


def _healthy(state: ChannelState, now_ms: int) -> ChannelState:
    return replace(turned(state, Health.OK, now_ms), attempts=0, next_digest_ms=0)


def _failing(state: ChannelState, now_ms: int, why: str) -> ChannelState:
    return state if state.health is Health.DEAD else turned(state, Health.FAILING, now_ms, why)
