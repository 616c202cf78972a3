"""The path of an alert: stored signal, decision, claim, delivery, confirmation."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shared.alerts import policy
from shared.alerts.channel_news import news_of
from shared.alerts.channels.channel import Channel, DigestChannel
from shared.alerts.delivery import Delivery, DeliveryRules, DeliveryState
from shared.alerts.digest import Digest
from shared.alerts.lanes import Inline, Lanes
from shared.alerts.model import Alert, Severity, alert_id
from shared.alerts.pace import ChannelState, PaceRule
from shared.alerts.policy import Allowed, CooldownState, Held, Rules
from shared.alerts.redelivery import Redelivery, RedeliveryReport
from shared.alerts.render import render, severity_of
from shared.clock import Clock
from shared.detection.reading import Detector, Signal
from shared.errors import DeliveryError, StorageUnavailable
from shared.settings import Settings
from shared.storage.alerts import AlertRepository, Claim
from shared.storage.channel_states import ChannelStateRepository
from shared.storage.mutes import MuteRepository
from shared.storage.outbox import OutboxItem
from shared.storage.signals import SignalRepository, StoredSignal
from shared.storage.table import Put, Table

__all__ = ["AlertService", "DeliveryState", "Outcome", "RedeliveryReport"]

_MOST_DECISIONS = 12  # each lost race means that another one won, so this many losses mean a broken state
_MOST_UNANSWERED = 2


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


class AlertService:
    """Turn signals into at most one alert each and deliver it. Safe to share between threads and processes.

    `counters` counts this instance's outcomes: `allowed`, `repeated` and the reasons of what was held.
    """

    def __init__(
        self,
        alerts: AlertRepository,
        signals: SignalRepository,
        mutes: MuteRepository,
        channels: Sequence[Channel],
        settings: Settings,
        clock: Clock,
        *,
        new_token: Callable[[], str] = lambda: secrets.token_hex(16),
        lanes: Lanes | None = None,
    ) -> None:
        self._alerts = alerts
        self._signals = signals
        self._mutes = mutes
        self._rules = Rules(settings)
        self._clock = clock
        self._new_token = new_token
        self._channels = channels
        self._states = ChannelStateRepository(alerts.table, new_token)
        self._delivery = Delivery(
            alerts, channels, delivery_rules(settings), clock, new_token, self._states, lanes or Inline()
        )
        self._redelivery = Redelivery(self._delivery)
        self.counters: Counter[str] = Counter()
        self._counting = threading.Lock()

    @classmethod
    def on_table(
        cls,
        table: Table,
        channels: Sequence[Channel],
        settings: Settings,
        clock: Clock,
        *,
        lanes: Lanes | None = None,
    ) -> AlertService:
        """Build a service with all its repositories on one table; without `lanes`, channels are served in turn."""
        days = settings.storage.retention_days
        return cls(
            AlertRepository(table, days),
            SignalRepository(table, days),
            MuteRepository(table),
            channels,
            settings,
            clock,
            lanes=lanes,
        )

    @property
    def delivery(self) -> Delivery:
        """Return what sends and notes, for the far end of a queue."""
        return self._delivery

    def handle(self, signal: Signal) -> Outcome:
        """Store a signal, decide, and send if it is allowed. Handling it again changes and sends nothing.

        A channel that fails is no error of this call: its item stays in the outbox for `redeliver`.

        Raises:
            StorageUnavailable: the state gave no answer; ask again with the same signal.
        """
        outcome = self._handle(signal)
        self._count((outcome.held or "allowed") if outcome.created else "repeated")
        return outcome

    def redeliver(self, now_ms: int) -> RedeliveryReport:
        """Send what is pending, due and not too old; two runs at once send each alert once.

        Raises:
            StorageUnavailable: an outbox could not be read; ask again.
        """
        report = self._redelivery.run(now_ms)
        self._tell_of_channels(now_ms)
        return report

    def settle(self, timeout_s: float) -> bool:
        """Wait for what the channels are still sending; True when all of it ended in time."""
        return self._delivery.lanes.settle(timeout_s)

    def revive(self, channel: str) -> None:
        """Forget that a channel was dead: its destination has shown itself, or a person has acted."""
        self._states.change(
            channel, lambda state: replace(state, fingerprint="", next_digest_ms=0) if state.fingerprint else None
        )

    def _tell_of_channels(self, now_ms: int) -> None:
        """Tell once when a channel stops taking alerts, and once when it works again."""
        names = {channel.name for channel in self._channels}
        for name, state in self._states.all().items():
            signal = news_of(name, state, now_ms) if name in names else None
            if signal is None:
                continue
            self.handle(signal)  # its id comes from the moment of the change: two runs tell it once

            def told(now: ChannelState, seen: ChannelState = state) -> ChannelState | None:
                return replace(now, told=seen.health) if now.health is seen.health else None

            self._states.change(name, told)

    # --- deciding ----------------------------------------------------------------------------------------
    def _handle(self, signal: Signal) -> Outcome:
        reason = policy.not_news(signal, self._rules)
        if reason is not None:  # no state is needed: one write, and most signals end here
            owner = self._new_token()
            stored = self._signals.put(signal, reason.value, owner=owner)
            return self._outcome(stored, created=stored.owner == owner)
        unanswered = 0
        for _ in range(_MOST_DECISIONS):
            try:
                known = self._signals.get(signal)
                if known is not None:
                    self._point_to(signal)
                    return self._outcome(known, created=False)
                outcome = self._decide(signal)
            except StorageUnavailable:
                unanswered += 1
                if unanswered >= _MOST_UNANSWERED:
                    raise
                continue
            if outcome is not None:
                return outcome
        raise StorageUnavailable(f"the cooldown {policy.cooldown_key(signal)!r} kept changing: ask again")

    def _decide(self, signal: Signal) -> Outcome | None:
        """Decide on the present state and claim the decision; None when somebody else moved first."""
        now_ms, owner, key = self._clock.now_ms(), self._new_token(), policy.cooldown_key(signal)
        state = self._alerts.cooldowns.get(key)
        severity, mutes, sent_today = severity_of(signal), self._mutes.active(now_ms), self._sent_today(signal)
        decision = policy.decide(signal, severity, state, self._rules, mutes, now_ms, sent_today=sent_today or 0)
        held = decision if isinstance(decision, Held) else None
        stored = StoredSignal(
            signal,
            alert_id(signal),
            None if held is None else held.reason.value,
            None if held is None else held.until_ms,
            owner,
        )
        states = self._state_writes(signal, key, state, decision, sent_today, now_ms)
        if isinstance(decision, Allowed):
            alert = _alert(signal, severity, decision, now_ms)
            outbox = self._delivery.new_items(alert, signal.known_ms, owner, now_ms)
            claim = self._alerts.claim(self._signals.write(stored), states, owner=owner, alert=alert, outbox=outbox)
        else:
            alert, outbox = None, []
            claim = self._alerts.claim(self._signals.write(stored), states, owner=owner)
        if claim is not Claim.WON:
            return None
        return self._carry_out(stored, alert, outbox)

    def announce(self, digest: Digest, already: Collection[str] = ()) -> dict[str, DeliveryError | None]:
        """Send a digest that stands for no alert of the outbox, once on every channel that takes digests.

        Returns by channel None for what was sent, else why not; channels named in `already` are left out.
        """
        told: dict[str, DeliveryError | None] = {}
        for channel in self._channels:
            if not isinstance(channel, DigestChannel) or channel.name in already:
                continue
            try:
                channel.send_digest(digest)
                told[channel.name] = None
            except DeliveryError as exc:
                told[channel.name] = exc
        return told

    def _carry_out(self, stored: StoredSignal, alert: Alert | None, outbox: Sequence[OutboxItem]) -> Outcome:
        """Send what was claimed; only then renew the pointer, which must not delay an alert."""
        deliveries = {} if alert is None else self._delivery.send_all(alert, outbox)
        self._point_to(stored.signal)
        return Outcome(
            stored.signal, stored.alert_id, alert, stored.held_reason, stored.held_until_ms, deliveries=deliveries
        )

    def _point_to(self, signal: Signal) -> None:
        """Renew the pointer to the newest signal; a failure must not lose an alert, and the next signal repairs it."""
        try:
            self._signals.point_to(signal)
        except StorageUnavailable:
            self._count("pointer_not_renewed")

    def _count(self, name: str) -> None:
        with self._counting:
            self.counters[name] += 1

    def _sent_today(self, signal: Signal) -> int | None:
        """Return the day's count if a budget is set, None (and no read) otherwise."""
        if self._rules.settings.alerts.budget_per_day is None or signal.detector is Detector.SYSTEM:
            return None
        return self._alerts.cooldowns.sent_on(policy.budget_day(signal))

    def _state_writes(
        self,
        signal: Signal,
        key: str,
        state: CooldownState,
        decision: Allowed | Held,
        sent_today: int | None,
        now_ms: int,
    ) -> list[Put]:
        cooldowns = self._alerts.cooldowns
        writes = [] if decision.new_state == state else [cooldowns.write(key, decision.new_state, now_ms)]
        if isinstance(decision, Allowed) and sent_today is not None:
            writes.append(cooldowns.count_write(policy.budget_day(signal), sent_today))
        return writes

    def _outcome(self, stored: StoredSignal, *, created: bool) -> Outcome:
        alert, deliveries = None, {}
        if stored.held_reason is None:
            alert = self._alerts.get(stored.alert_id)
            deliveries = self._delivery.states(stored.alert_id)
        return Outcome(
            stored.signal,
            stored.alert_id,
            alert,
            stored.held_reason,
            stored.held_until_ms,
            created=created,
            deliveries=deliveries,
        )


def delivery_rules(settings: Settings) -> DeliveryRules:
    """Return the part of the settings that delivery needs."""
    alerts = settings.alerts
    return DeliveryRules(
        max_age_ms=round(alerts.max_age_minutes * 60_000),
        dead_after_ms=round(alerts.dead_after_hours * 3_600_000),
        pace=PaceRule(alerts.storm.notifications, round(alerts.storm.window_seconds * 1000)),
    )


def _alert(signal: Signal, severity: Severity, decision: Allowed, now_ms: int) -> Alert:
    text = render(signal, decision.suppressed, decision.suppressed_since_ms)
    return Alert(
        alert_id=alert_id(signal),
        detector=signal.detector,
        market=signal.market,
        symbol=signal.symbol,
        sector=signal.sector,
        direction=signal.direction,
        severity=severity,
        event_ms=signal.event_ms,
        detected_ms=now_ms,
        title=text.title,
        text=text.body,
        values=signal.values,
        thresholds=signal.thresholds,
        rule_version=signal.rule_version,
        suppressed_since_last=decision.suppressed,
    )
