"""What the alert policy would have decided in a replay: the same pure rules, its state kept in memory."""

from __future__ import annotations

from collections import Counter

from shared.alerts.policy import Allowed, CooldownState, Rules, budget_day, cooldown_key, decide, not_news
from shared.alerts.render import severity_of
from shared.detection.reading import Signal
from shared.settings import Settings


class ReplayPolicy:
    """Decides in the order of the signals, each judged at the moment it could be known."""

    def __init__(self, settings: Settings) -> None:
        self._rules = Rules(settings)
        self._states: dict[str, CooldownState] = {}
        self._sent: Counter[int] = Counter()

    def not_news(self, signal: Signal) -> str | None:
        """Return why a signal is no news by itself, whatever came before it; None when `decide` is to be asked."""
        reason = not_news(signal, self._rules)
        return None if reason is None else reason.value

    def decide(self, signal: Signal) -> str | None:
        """Return None for an alert, else why the signal was held."""
        reason = self.not_news(signal)  # by far the most: `decide` says the same of them, and changes no state
        if reason is not None:
            return reason
        key, day = cooldown_key(signal), budget_day(signal)
        decision = decide(
            signal,
            severity_of(signal),
            self._states.get(key, CooldownState()),
            self._rules,
            (),
            signal.known_ms,
            sent_today=self._sent[day],
        )
        self._states[key] = decision.new_state
        if isinstance(decision, Allowed):
            self._sent[day] += 1
            return None
        return decision.reason.value
