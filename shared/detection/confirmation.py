"""What else confirms an initiator: open interest, liquidations, funding. Unknown is never counted as no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared.detection.robust import robust_z
from shared.settings import SectorSettings
from shared.times import HOUR_MS, MINUTE_MS

Judgement = Literal["confirmed", "not_confirmed", "unknown"]
Label = Literal["CONFIRMED", "PARTIAL", "UNCONFIRMED"]

MIN_CONFIRMATION_HISTORY = 24  # earlier values needed before a robust z is stated
_STALE_MS = 15 * MINUTE_MS  # the exchange publishes open interest every 5 minutes, now and then late


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What three independent sources say of an initiator. Unknown is never counted as no."""

    open_interest: Judgement = "unknown"
    open_interest_z: float | None = None
    liquidations: Judgement = "unknown"
    liquidation_z: float | None = None
    funding: Judgement = "unknown"
    funding_rate: float | None = None
    funding_hours: float | None = None
    failed: tuple[str, ...] = ()  # sources that were asked and did not answer in time

    def to_json(self) -> dict[str, Any]:
        return {
            "open_interest": {"state": self.open_interest, "z": self.open_interest_z},
            "liquidations": {"state": self.liquidations, "z": self.liquidation_z},
            "funding": {
                "state": self.funding,
                **({} if self.funding_hours is None else {"hours": self.funding_hours}),
            },
        }


def label(confirmation: Confirmation) -> Label:
    """Return CONFIRMED for two or more confirmed sources, PARTIAL for one, UNCONFIRMED for none."""
    sources = (confirmation.open_interest, confirmation.liquidations, confirmation.funding)
    confirmed = sum(source == "confirmed" for source in sources)
    return "CONFIRMED" if confirmed >= 2 else "PARTIAL" if confirmed == 1 else "UNCONFIRMED"


def confirm_open_interest(
    points: Sequence[tuple[int, float]], at_ms: int, settings: SectorSettings
) -> tuple[Judgement, float | None]:
    """Judge the relative change of open interest over the last hour against the symbol's own earlier changes.

    `points` are (epoch ms, open interest); those after `at_ms` are left out. Unknown when the newest point is more
    than 15 minutes old, has no partner an hour before, or too few earlier changes are known.
    """
    known = {time_ms: value for time_ms, value in points if time_ms <= at_ms and 0.0 < value < float("inf")}
    if not known or at_ms - max(known) > _STALE_MS:
        return "unknown", None
    changes = [
        (time_ms, known[time_ms] / known[time_ms - HOUR_MS] - 1.0)
        for time_ms in sorted(known)
        if time_ms - HOUR_MS in known
    ]
    if not changes or changes[-1][0] != max(known):
        return "unknown", None
    return _judge(changes[-1][1], [change for _, change in changes[:-1]], settings.thresholds.open_interest_z)


def confirm_liquidations(
    notional: float | None, history: Sequence[float], settings: SectorSettings
) -> tuple[Judgement, float | None]:
    """Judge the notional liquidated in the last 15 minutes against earlier 15-minute sums of the symbol.

    The exchange shows at most one liquidation a second: a lower bound. None means that nobody listened: unknown.
    """
    if notional is None:
        return "unknown", None
    return _judge(notional, history, settings.thresholds.liquidation_z)


FUNDING_HOURS = 8.0
"""The funding interval that `funding_rate_abs` is meant for, and that of every symbol without one of its own."""


def confirm_funding(rate: float | None, settings: SectorSettings, hours: float | None = FUNDING_HOURS) -> Judgement:
    """Judge the latest funding rate, a fraction (0.001 = 0.1 %) of either sign, by what it costs in an hour.

    `hours` is the symbol's funding interval: 0.05 % every 4 hours is as much as 0.1 % every 8. None: not known.
    """
    if rate is None or rate != rate or hours is None or not hours > 0:
        return "unknown"
    enough = abs(rate) * (FUNDING_HOURS / hours) >= settings.thresholds.funding_rate_abs
    return "confirmed" if enough else "not_confirmed"


def _judge(value: float, history: Sequence[float], least: float) -> tuple[Judgement, float | None]:
    if len(history) < MIN_CONFIRMATION_HISTORY:
        return "unknown", None
    z = robust_z(value, history)
    if z is None:
        return "unknown", None
    return ("confirmed" if z >= least else "not_confirmed"), z
