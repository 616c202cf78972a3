"""Decide whether a signal becomes an alert. Pure: state and times in, decision and new state out.

The rules, in the order in which they are asked:

1. **disabled**: the detector, or its alerts, are switched off.
2. **gate** / **learning**: the signal is no news (`gates.py`). Not counted as held back: nobody would have missed it.
3. **too_late**: it was known more than `max_age_minutes` ago.
4. **muted**: its symbol is muted, by configuration or until a time.
5. **cooldown**: an alert of the same lane is too near in *event* time. UP and DOWN are two lanes: the same direction
   blocks for the whole cooldown, the opposite one for the grace. An alert without a direction stands in every lane.
   An event older than the last alert is blocked as well and never moves the last time back.
6. **burst** (trade spikes): it comes less than the burst gap after the last hit, so it belongs to the same event. A
   burst that outlasts the cooldown is reported once per cooldown; with a cooldown of 0 it is one event, however long.
7. **budget**: the day (UTC, of the event) has had its alerts.

A severity higher than that of every alert in the way passes 5 and 6, if the event is not older than those alerts; so
of two alerts closer than allowed, the later decided one is always the more severe one, and there are at most two such
steps. Nothing passes a mute or the budget. What 3-7 hold back is counted, and the next alert of the key says how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from shared.alerts.gates import gate
from shared.alerts.model import Severity
from shared.detection.reading import Detector, Direction, Signal
from shared.settings import Settings

_MINUTE_MS = 60_000
_DAY_MS = 86_400_000
_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class HeldReason(StrEnum):
    DISABLED = "disabled"
    GATE = "gate"
    LEARNING = "learning"
    TOO_LATE = "too_late"
    MUTED = "muted"
    COOLDOWN = "cooldown"
    BURST = "burst"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Sent:
    """The last alert of one lane."""

    direction: Direction | None
    at_ms: int
    severity: Severity


@dataclass(frozen=True, slots=True)
class CooldownState:
    """What the policy remembers of one key (`cooldown_key`). Times are event times in epoch milliseconds.

    `last_any_ms` is the last alert without a direction. `held_count` counts what was held since the last alert,
    `held_since_ms` is the first of them. `last_hit_ms` is the newest trade-spike hit that passed its gate, sent or
    not. `version` is the stored version, 0 when nothing is stored; the repository moves it.
    """

    last_up_ms: int | None = None
    last_down_ms: int | None = None
    last_any_ms: int | None = None
    held_count: int = 0
    held_since_ms: int | None = None
    version: int = 0
    up_severity: Severity = Severity.INFO
    down_severity: Severity = Severity.INFO
    any_severity: Severity = Severity.INFO
    last_hit_ms: int | None = None

    def sent(self) -> list[Sent]:
        """Return the last alert of each lane that has one."""
        lanes = (
            (Direction.UP, self.last_up_ms, self.up_severity),
            (Direction.DOWN, self.last_down_ms, self.down_severity),
            (None, self.last_any_ms, self.any_severity),
        )
        return [Sent(direction, at_ms, severity) for direction, at_ms, severity in lanes if at_ms is not None]


@dataclass(frozen=True, slots=True)
class Mute:
    """Hold every alert of a symbol; `until_ms` (wall time) None means for ever."""

    symbol: str
    until_ms: int | None = None
    mute_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the policy needs, and nothing read from anywhere else."""

    settings: Settings

    def cooldown_ms(self, detector: Detector) -> int:
        alerts = self.settings.alerts
        return round(alerts.cooldown_minutes.get(detector.value, alerts.cooldown_minutes_per_symbol) * _MINUTE_MS)

    def grace_ms(self, detector: Detector) -> int:
        """Return how long an alert blocks the opposite direction.

        System alerts use DOWN for trouble and UP for recovery, and a recovery must not wait: no grace.
        """
        if detector is Detector.SYSTEM:
            return 0
        return round(self.settings.alerts.direction_swap_grace_minutes * _MINUTE_MS)

    @property
    def max_age_ms(self) -> int:
        return round(self.settings.alerts.max_age_minutes * _MINUTE_MS)

    @property
    def burst_gap_ms(self) -> int:
        return round(self.settings.trade_spike.burst_gap_s * 1000)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Send it. `suppressed` were held since the last alert of this key, the first of them at `suppressed_since_ms`."""

    new_state: CooldownState
    suppressed: int = 0
    suppressed_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Do not send it. `until_ms` is when it would pass, None where no time makes it pass."""

    reason: HeldReason
    until_ms: int | None
    new_state: CooldownState


def cooldown_key(signal: Signal) -> str:
    """Return the name under which alerts keep their distance from each other."""
    if signal.detector in (Detector.SECTOR_INITIATOR, Detector.SECTOR_DIFFUSION):
        return f"{signal.detector.value}|{signal.symbol}"
    return f"{signal.detector.value}|{signal.market.value}|{signal.symbol}"


def budget_day(signal: Signal) -> int:
    """Return the UTC day (days since the epoch) whose budget the signal's alert would use."""
    return signal.event_ms // _DAY_MS


_ENABLED: Mapping[Detector, Callable[[Settings], bool]] = {
    Detector.VOLUME_SPIKE: lambda settings: settings.volume_spike.enabled,
    Detector.TRADE_SPIKE: lambda settings: settings.trade_spike.enabled,
    Detector.ORDER_BOOK_IMBALANCE: lambda settings: settings.order_book.enabled and settings.order_book.alert_enabled,
    Detector.SECTOR_INITIATOR: lambda settings: settings.sector.enabled,
    Detector.SECTOR_DIFFUSION: lambda settings: settings.sector.enabled,
    Detector.MARKET_WIDE: lambda settings: settings.sector.enabled,
    Detector.WINDOW_ANOMALY: lambda settings: settings.window_anomaly.enabled,
    Detector.PUMP: lambda settings: settings.pump.enabled,
}


def alerts_of(detector: Detector, settings: Settings) -> bool:
    """Tell whether signals of this detector may become alerts at all."""
    return _ENABLED[detector](settings)


def not_news(signal: Signal, rules: Rules) -> HeldReason | None:
    """Return why a signal is no news by itself (rules 1 and 2), which needs no state; None lets it on."""
    if signal.detector is Detector.SYSTEM:
        return None
    settings = rules.settings
    if not alerts_of(signal.detector, settings):
        return HeldReason.DISABLED
    answer = gate(signal, settings)
    return None if answer is None else HeldReason(answer)


def decide(
    signal: Signal,
    severity: Severity,
    state: CooldownState,
    rules: Rules,
    mutes: Iterable[Mute],
    now_ms: int,
    *,
    sent_today: int = 0,
) -> Allowed | Held:
    """Decide about one signal against the state of its key.

    `now_ms` is wall time and matters for age and mutes only. `sent_today` counts the alerts of `budget_day(signal)`.
    """
    reason = not_news(signal, rules)
    if reason is not None:
        return Held(reason, None, state)
    if now_ms - signal.known_ms > rules.max_age_ms:
        return Held(HeldReason.TOO_LATE, None, _count(state, signal))
    mute = _muting(signal, rules, mutes, now_ms)
    if mute is not None:
        return Held(HeldReason.MUTED, mute.until_ms, _count(state, signal))
    state, reason, until_ms = _distance(signal, severity, state, rules)
    if reason is not None:
        return Held(reason, until_ms, _count(state, signal))
    budget = rules.settings.alerts.budget_per_day
    if budget is not None and signal.detector is not Detector.SYSTEM and sent_today >= budget:
        return Held(HeldReason.BUDGET, (budget_day(signal) + 1) * _DAY_MS, _count(state, signal))
    return Allowed(_sent(state, signal, severity), state.held_count, state.held_since_ms)


def _distance(
    signal: Signal, severity: Severity, state: CooldownState, rules: Rules
) -> tuple[CooldownState, HeldReason | None, int | None]:
    """Judge cooldown and burst; the returned state has learnt the hit, whatever the answer."""
    cooldown_ms = rules.cooldown_ms(signal.detector)
    blockers = _blockers(signal, state, cooldown_ms, rules.grace_ms(signal.detector))
    reason = HeldReason.COOLDOWN if blockers else None
    until_ms = max((sent.at_ms + wait_ms for sent, wait_ms in blockers), default=None)
    in_the_way = [sent for sent, _ in blockers]
    if signal.detector is Detector.TRADE_SPIKE:
        last_hit_ms, last_sent = state.last_hit_ms, max(state.sent(), key=lambda sent: sent.at_ms, default=None)
        hit_ms = signal.event_ms if last_hit_ms is None else max(last_hit_ms, signal.event_ms)
        state = replace(state, last_hit_ms=hit_ms)
        if last_hit_ms is not None and last_sent is not None:
            fresh = cooldown_ms == 0 or signal.event_ms - last_sent.at_ms < cooldown_ms
            if fresh and signal.event_ms - last_hit_ms < rules.burst_gap_ms:
                reason, until_ms = HeldReason.BURST, max(until_ms or 0, hit_ms + rules.burst_gap_ms)
                in_the_way.append(last_sent)
    if all(_RANK[severity] > _RANK[sent.severity] and signal.event_ms >= sent.at_ms for sent in in_the_way):
        return state, None, None
    return state, reason, until_ms


def _blockers(signal: Signal, state: CooldownState, cooldown_ms: int, grace_ms: int) -> list[tuple[Sent, int]]:
    """Return each lane's last alert that is too near, with how long it blocks."""
    return [
        (sent, wait_ms)
        for sent in state.sent()
        if (wait_ms := grace_ms if _opposite(sent.direction, signal.direction) else cooldown_ms) > 0
        and signal.event_ms - sent.at_ms < wait_ms
    ]


def _opposite(one: Direction | None, other: Direction | None) -> bool:
    return one is not None and other is not None and one is not other


def _muting(signal: Signal, rules: Rules, mutes: Iterable[Mute], now_ms: int) -> Mute | None:
    """Return the mute that holds longest, None when there is none. Names are compared without regard to case."""
    if signal.detector is Detector.SYSTEM:
        return None
    symbol = signal.symbol.upper()
    if any(name.strip().upper() == symbol for name in rules.settings.alerts.mutes):
        return Mute(signal.symbol)
    active = [m for m in mutes if m.symbol.upper() == symbol and (m.until_ms is None or m.until_ms > now_ms)]
    return max(active, key=lambda m: (m.until_ms is None, m.until_ms or 0), default=None)


def _count(state: CooldownState, signal: Signal) -> CooldownState:
    since_ms = signal.event_ms if state.held_since_ms is None else min(state.held_since_ms, signal.event_ms)
    return replace(state, held_count=state.held_count + 1, held_since_ms=since_ms)


def _sent(state: CooldownState, signal: Signal, severity: Severity) -> CooldownState:
    state = replace(state, held_count=0, held_since_ms=None)
    lanes = {sent.direction: sent.at_ms for sent in state.sent()}
    if signal.event_ms < lanes.get(signal.direction, signal.event_ms):
        return state  # an older one (its lane has no cooldown) never moves the last time back
    if signal.direction is Direction.UP:
        return replace(state, last_up_ms=signal.event_ms, up_severity=severity)
    if signal.direction is Direction.DOWN:
        return replace(state, last_down_ms=signal.event_ms, down_severity=severity)
    return replace(state, last_any_ms=signal.event_ms, any_severity=severity)
