"""How fast a channel may speak, and whether it can at all. Pure: state and times in, answer and new state out.

A channel that can send digests lets `notifications` alerts a window through one by one. What comes beyond them is
gathered for one whole window from then on and leaves as one digest, so a storm is at most `notifications` + 1
messages, wherever in the minute it begins. System alerts are never gathered: they say that the rest may be missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

_FORGOTTEN_WINDOWS = 5  # a gathering that nobody flushed (the redelivery job stands still) ends after so many windows


class Health(StrEnum):
    OK = "ok"
    FAILING = "failing"
    """The last attempts failed; they go on."""
    DEAD = "dead"
    """A person must act (bad token, bot blocked): nothing is tried until the destination changes or shows itself."""


@dataclass(frozen=True, slots=True)
class PaceRule:
    notifications: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class ChannelState:
    """What all processes know together of one channel. Times are epoch milliseconds of our own clock.

    `sent` are the notifications of the newest window, `gather_from_ms` the beginning of a gathering. `run_by` holds
    the channel for one redelivery run until `run_until_ms`. `fingerprint` names the destination that died, so that a
    corrected setting revives it. `told` is the health that people were told of last.
    """

    sent: tuple[int, ...] = ()
    gather_from_ms: int | None = None
    run_by: str = ""
    run_until_ms: int = 0
    attempts: int = 0
    next_digest_ms: int = 0
    health: Health = Health.OK
    since_ms: int = 0
    error: str = ""
    fingerprint: str = ""
    told: Health = Health.OK
    version: int = 0

    def dead(self, fingerprint: str) -> bool:
        return self.health is Health.DEAD and self.fingerprint == fingerprint


@dataclass(frozen=True, slots=True)
class Gather:
    """Wait: it leaves in the digest that is due then."""

    due_ms: int


def reserve(state: ChannelState, now_ms: int, rule: PaceRule) -> tuple[Gather | None, ChannelState]:
    """Ask for one notification now; None is a yes, and the new state has counted it."""
    if state.gather_from_ms is not None and now_ms < state.gather_from_ms + _FORGOTTEN_WINDOWS * rule.window_ms:
        return Gather(state.gather_from_ms + rule.window_ms), state
    recent = _recent(state.sent, now_ms, rule)
    if len(recent) < rule.notifications:
        return None, replace(state, sent=(*recent, now_ms), gather_from_ms=None)
    return Gather(now_ms + rule.window_ms), replace(state, sent=recent, gather_from_ms=now_ms)


def noted(state: ChannelState, now_ms: int, rule: PaceRule, count: int = 1) -> ChannelState:
    """Count notifications that left without asking (a digest, a redelivery) and end the gathering."""
    sent = (*_recent(state.sent, now_ms, rule), *[now_ms] * count)
    return replace(state, sent=sent[-50:], gather_from_ms=None)


def turned(state: ChannelState, health: Health, now_ms: int, error: str = "", fingerprint: str = "") -> ChannelState:
    """Return the state with another health; `since_ms` moves only when it changes."""
    since_ms = state.since_ms if state.health is health else now_ms
    return replace(state, health=health, since_ms=since_ms, error=error[:300], fingerprint=fingerprint)


def _recent(sent: Sequence[int], now_ms: int, rule: PaceRule) -> tuple[int, ...]:
    return tuple(at_ms for at_ms in sent if abs(now_ms - at_ms) < rule.window_ms)
