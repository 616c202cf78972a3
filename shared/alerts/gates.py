"""What turns a detector's signal into news: rarity, surprise, record and size, beside the bare rule. Pure.

The bare volume-spike rule fires on 11 % of all minutes and the bare trade-spike rule 50 times a minute on a busy
pair; `docs` and detectors.md hold the measurements. A gate answers None (let it on), "gate" or "learning".
"""

from __future__ import annotations

from math import isfinite
from typing import Literal

from shared.detection.reading import Detector, Signal
from shared.settings import Settings

Closed = Literal["gate", "learning", "budget"]

LEARNING_FACTOR = 5.0
"""While a rarity is not known yet, a volume spike passes at this multiple of its ratio threshold (decision 0084)."""


def gate(signal: Signal, settings: Settings) -> Closed | None:
    """Return why the signal is no news, None when it is."""
    if signal.detector is Detector.VOLUME_SPIKE:
        return _volume_spike(signal, settings)
    if signal.detector is Detector.TRADE_SPIKE:
        return _trade_spike(signal, settings)
    if signal.detector is Detector.WINDOW_ANOMALY:
        return _record(signal, settings.window_anomaly.alert_record_hours)
    if signal.values.get("among_the_rarest") is False:  # judged by `sector.budget_per_day`
        return "budget"
    return None


def _volume_spike(signal: Signal, settings: Settings) -> Closed | None:
    """Gate by ratio, by rarity, or by both.

    Too little history for a rarity is "learning", not "common": gating on the ratio alone would bring back the flood
    that the rarity is there to stop, and holding everything would blind the first day. So meanwhile only a ratio of
    five times the threshold passes.
    """
    rules = settings.volume_spike
    ratio, rarity = number(signal, "ratio"), number(signal, "rarity")
    if rules.gate != "rarity" and signal.values.get("spike") is False:  # the exact verdict, not the rounded ratio
        return "gate"
    if rules.gate == "ratio":
        return None
    if rarity is None:
        return None if ratio is not None and ratio >= LEARNING_FACTOR * rules.threshold else "learning"
    surprise = number(signal, "surprise")
    if surprise is not None and surprise < rules.alert_surprise_min:
        return "gate"
    return None if rarity <= rules.rarity_max else "gate"


def _trade_spike(signal: Signal, settings: Settings) -> Closed | None:
    """Require the floor in quote currency and, where they are known, the rarity and the record."""
    rules = settings.trade_spike
    if closed := _record(signal, rules.alert_record_hours):  # first: few pass it
        return closed
    if rules.alert_floor_quote > 0:
        price, volume = number(signal, "price"), number(signal, "volume")
        if price is None or volume is None or not price * volume >= rules.alert_floor_quote:
            return "gate"
    rarity = number(signal, "rarity")
    return "gate" if rarity is not None and rarity > rules.alert_rarity_max else None


def _record(signal: Signal, hours: float) -> Closed | None:
    """Require that nothing as large came for so many hours.

    A watch that is younger than that has no records yet: then one as large must be expected only once in that time.
    """
    since = number(signal, "record_hours")
    if since is not None:
        return None if since >= hours else "gate"
    returns = number(signal, "return_hours")
    return None if returns is None or returns >= hours else "learning"


def number(signal: Signal, name: str) -> float | None:
    """Return a value, or else one of the snapshot, as a finite number; None when it is absent or no number."""
    value = signal.values.get(name, signal.snapshot.get(name))
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)
