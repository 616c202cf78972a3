"""What the session wants done. It decides; the service does, in this order, off the read path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from shared.detection.reading import Signal
from shared.detection.window_anomaly import FitRequest, WindowVerdict
from shared.exchange.binance.events import Gap


@dataclass(frozen=True, slots=True)
class EmitSignal:
    """Hand the signal to the alert service."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class StoreWindows:
    """Store closed windows with their verdicts; storing them again changes nothing."""

    verdicts: tuple[WindowVerdict, ...]


@dataclass(frozen=True, slots=True)
class FitModel:
    """Fit a forest on the request's windows and `install` it in the session."""

    symbol: str
    request: FitRequest


@dataclass(frozen=True, slots=True)
class FillGap:
    """Trades are missing. Whoever can fetch them feeds them to the session as late trades; until then the windows
    that they belong to close as incomplete."""

    gap: Gap


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The exchange announced that this connection will end: open the next one first."""

    reason: str


Action: TypeAlias = EmitSignal | StoreWindows | FitModel | FillGap | Reconnect
