"""What people are told of a channel that stopped or came back: one `system` signal each. Pure."""

from __future__ import annotations

from shared.alerts.pace import ChannelState, Health
from shared.detection.reading import Detector, Direction, Signal
from shared.market.model import Market
from shared.times import iso_utc

_FAILING_MS = 300_000  # a hiccup of five minutes is not worth a message


def news_of(name: str, state: ChannelState, now_ms: int) -> Signal | None:
    """Return the signal of a change that nobody has been told of; its event is the moment of the change."""
    if state.health is state.told:
        return None
    if state.health is Health.FAILING and (state.told is Health.DEAD or now_ms - state.since_ms < _FAILING_MS):
        return None
    up = state.health is Health.OK
    if up:
        message = f"The channel {name} works again."
    elif state.health is Health.DEAD:
        message = f"The channel {name} takes nothing until somebody acts: {state.error}"
    else:
        message = f"The channel {name} has not taken anything since {iso_utc(state.since_ms)}: {state.error}"
    return Signal(
        detector=Detector.SYSTEM,
        market=Market.SPOT,
        symbol=f"channel-{name}",
        event_ms=state.since_ms,
        known_ms=now_ms,
        direction=Direction.UP if up else Direction.DOWN,
        values={
            "component": f"channel-{name}",
            "state": state.health.value,
            "since": iso_utc(state.since_ms),
            "message": message,
            "severity": "info" if up else "critical" if state.health is Health.DEAD else "warning",
        },
        thresholds={"failing_s": _FAILING_MS // 1000},
    )
