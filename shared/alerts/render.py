"""Titles and texts of alerts, their severity, and the one line that a terminal shows. Pure; plain text only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import expm1
from typing import Any

from shared.alerts import wording as say
from shared.alerts.model import Alert, Severity
from shared.alerts.wording import sanitize
from shared.detection.reading import Detector, Signal

__all__ = ["Text", "held_note", "one_line", "render", "sanitize", "severity_of"]

CRITICAL_STRENGTH = 3.0
WARNING_STRENGTH = 1.5
_MOST_FOLLOWERS = 30  # lines of one alert


@dataclass(frozen=True, slots=True)
class Text:
    title: str
    body: str


def severity_of(signal: Signal) -> Severity:
    """Say how much a signal matters.

    An initiator by its confirmations: CONFIRMED is critical, PARTIAL a warning, else info. A diffusion is at least a
    warning, because a whole sector moves. A system signal says it itself (`values["severity"]`, else warning).
    Every other one by its strength, the multiple of its threshold: from 3 critical, from 1.5 a warning, else info.
    """
    if signal.detector is Detector.SECTOR_INITIATOR:
        by_status = {"CONFIRMED": Severity.CRITICAL, "PARTIAL": Severity.WARNING}
        return by_status.get(str(signal.values.get("status")), Severity.INFO)
    if signal.detector is Detector.SYSTEM:
        stated = str(signal.values.get("severity"))
        return Severity(stated) if stated in {s.value for s in Severity} else Severity.WARNING
    if signal.strength >= CRITICAL_STRENGTH:
        return Severity.CRITICAL
    if signal.strength >= WARNING_STRENGTH or signal.detector in (
        Detector.SECTOR_DIFFUSION,
        Detector.MARKET_WIDE,
        Detector.PUMP,
    ):
        return Severity.WARNING
    return Severity.INFO


def render(signal: Signal, suppressed: int = 0, suppressed_since_ms: int | None = None) -> Text:
    """Return the title and the text of a signal's alert. What was held back since the last one is its last line."""
    title, lines = _WRITERS[signal.detector](signal)
    note = held_note(suppressed, suppressed_since_ms)
    return Text(title, "\n".join([*lines, note] if note else lines))


def held_note(suppressed: int, since_ms: int | None) -> str:
    """Return `7 more held since 2026-01-13 14:20:00 UTC`, nothing when none was held."""
    if suppressed <= 0:
        return ""
    return f"{suppressed} more held" + ("" if since_ms is None else f" since {say.moment(since_ms)}")


def one_line(alert: Alert) -> str:
    """Return an alert as one terminal line: time, kind, symbol, direction, severity, numbers, thresholds."""
    direction = f" {alert.direction.value}" if alert.direction else ""
    held = f" (+{alert.suppressed_since_last} held)" if alert.suppressed_since_last else ""
    return (
        f"{say.moment(alert.event_ms)} [{alert.severity.value}] {alert.detector.value} {sanitize(alert.symbol)}"
        f"{direction}: {_numbers(alert.detector, alert.values)} | threshold {_numbers(None, alert.thresholds)}{held}"
    )


# --- one writer per detector -----------------------------------------------------------------------------------
def _head(signal: Signal, *more: str) -> list[str]:
    """Return the two lines that every text but the diffusion's begins with, below its heading."""
    words = [f"Symbol: {sanitize(signal.symbol)}"]
    if signal.direction:
        words.append(f"Direction: {signal.direction.value}")
    return [" | ".join([*words, *more]), f"Time: {say.moment(signal.event_ms)}"]


def _initiator(signal: Signal) -> tuple[str, list[str]]:
    values, symbol = signal.values, sanitize(signal.symbol)
    sources = say.part(values, "confirmations")
    direction = signal.direction.value if signal.direction else say.UNKNOWN
    status = say.word(values.get("status"))
    return f"Sector shot: {symbol} {direction} {status}", [
        "🚨 SECTOR SHOT - INITIATOR",
        f"Symbol: {symbol} | Direction: {direction} | Status: {status}",
        f"Time: {say.moment(signal.event_ms)}",
        f"Z-Scores: ER={say.sigma(values.get('z_excess_return'))}, VOL={say.sigma(values.get('z_volume'))}",
        f"Taker Buy Share: {say.percent(values.get('taker_buy_share'))}",
        f"Beta: {say.fixed(values.get('beta'), 2)} | Funding: {say.percent(values.get('funding_rate'), 2, sign=True)}",
        f"Confirmations: OI_Δ={_source(sources, 'open_interest')}, Liq={_source(sources, 'liquidations')}",
    ]


def _source(confirmations: Mapping[str, Any], name: str) -> str:
    """Return a source's z, its state in words where it has no z, and `unknown` when it was not known."""
    source = say.part(confirmations, name)
    state, z = source.get("state"), say.finite(source.get("z"))
    if state is None or state == say.UNKNOWN:
        return say.UNKNOWN
    return say.sigma(z) if z is not None else sanitize(str(state).replace("_", " "))


def _diffusion(signal: Signal) -> tuple[str, list[str]]:
    values = signal.values
    direction = signal.direction.value if signal.direction else say.word(values.get("direction"))
    initiator = sanitize(values.get("initiator") or signal.symbol)
    raw = values.get("followers")
    followers = [one for one in raw if isinstance(one, Mapping)] if isinstance(raw, list | tuple) else []
    count, others = values.get("followers_count", len(followers)), values.get("others")
    share = f"{say.fixed(count, 0)}/{say.fixed(others, 0)} = {say.percent(values.get('share'), 0)}"
    lines = [
        f"  • {say.word(one.get('symbol'))}: "
        f"ER_z={say.sigma(one.get('z_excess_return'))}, VOL_z={say.sigma(one.get('z_volume'))}"
        for one in followers[:_MOST_FOLLOWERS]
    ]
    if len(followers) > _MOST_FOLLOWERS:
        lines.append(f"  • and {len(followers) - _MOST_FOLLOWERS} more")
    return f"Sector diffusion: {initiator} {direction} in {say.word(signal.sector)}", [
        "🎯 SECTOR DIFFUSION DETECTED",
        f"Initiator: {initiator} ({direction}) at {say.moment(values.get('initiator_time', signal.event_ms))}",
        f"Followers ({share}):",
        *lines,
        *([] if values.get("p_value") is None else [f"By chance: p={say.brief(values.get('p_value'))}"]),
    ]


def _market_wide(signal: Signal) -> tuple[str, list[str]]:
    values = signal.values
    direction = signal.direction.value if signal.direction else say.UNKNOWN
    share = f"{say.fixed(values.get('moved'), 0)}/{say.fixed(values.get('symbols'), 0)}"
    return f"Market-wide move {direction}: {share} symbols", [
        "🌊 MARKET-WIDE MOVE",
        *_head(signal),
        f"Symbols: {share} = {say.percent(values.get('share'), 0)} on heavy volume",
        f"Median 15 min return: {say.percent(values.get('r_15m'), 2, sign=True)}",
        "Sector shots are not told while it lasts.",
    ]


def _volume_spike(signal: Signal) -> tuple[str, list[str]]:
    values, limits = signal.values, signal.thresholds
    ratio = say.times(values.get("ratio"))
    rarity = values.get("rarity")
    of_history = "unknown (learning)" if rarity is None else f"{say.percent(rarity, 2)} of this minute's history"
    return f"Volume spike: {sanitize(signal.symbol)} {ratio}", [
        "📈 VOLUME SPIKE",
        *_head(signal, f"Market: {signal.market.value}"),
        f"Volume: {say.decimal(values.get('volume_current'))} = {ratio} the mean of {say.brief(values.get('ma20'))}"
        f" (threshold {say.times(limits.get('threshold', values.get('threshold')))})",
        f"Rarity: {of_history}",
    ]


def _trade_spike(signal: Signal) -> tuple[str, list[str]]:
    values, limits = signal.values, signal.thresholds
    ratio, side = say.times(values.get("ratio")), say.word(values.get("side"))
    price, volume = say.finite(values.get("price")), say.finite(values.get("volume"))
    window, rarity = say.decimal(limits.get("window_trades")), values.get("rarity", signal.snapshot.get("rarity"))
    worth = "" if price is None or volume is None else f" = {say.brief(price * volume)} quote"
    return f"Trade spike: {sanitize(signal.symbol)} {side} {ratio}", [
        "🐋 TRADE SPIKE",
        *_head(signal, f"Taker: {side}"),
        f"Trade: {say.decimal(volume)} at {say.decimal(price)}{worth}",
        f"Size: {ratio} the mean of {say.brief(values.get('mean'))} over {window} trades"
        f" (threshold {say.times(limits.get('multiple'))})",
        *([] if rarity is None else [f"Rarity: {say.percent(rarity, 2)} of earlier spikes"]),
    ]


def _order_book(signal: Signal) -> tuple[str, list[str]]:
    values, limits = signal.values, signal.thresholds
    obi = say.fixed(values.get("obi"), 2, sign=True)
    beyond = say.fixed(_first(limits, "threshold", "alert_threshold"), 2)
    samples = say.decimal(_first(limits, "samples", "alert_samples"))
    return f"Order book imbalance: {sanitize(signal.symbol)} {obi}", [
        "⚖️ ORDER BOOK IMBALANCE",
        *_head(signal, f"Market: {signal.market.value}"),
        f"Imbalance: {obi} over {say.decimal(_first(values, 'levels') or limits.get('levels'))} levels"
        f" (threshold {beyond}, {samples} samples in a row)",
        f"Bids: {say.brief(values.get('notional_bid'))} | Asks: {say.brief(values.get('notional_ask'))}",
    ]


def _window_anomaly(signal: Signal) -> tuple[str, list[str]]:
    values, limits = signal.values, signal.thresholds
    score, change = say.fixed(values.get("score"), 3), say.percent(values.get("return"), 2, sign=True)
    limit = say.fixed(_first(limits, "score", "threshold") or values.get("threshold"), 3)
    return f"Window anomaly: {sanitize(signal.symbol)} {change}", [
        "🔍 WINDOW ANOMALY",
        *_head(signal, f"Market: {signal.market.value}"),
        f"Score: {score} (threshold {limit}, alert rate {say.percent(limits.get('alert_rate'), 2)})",
        f"Trades: {say.decimal(values.get('trade_count'))} | Volume: {say.brief(values.get('volume'))}"
        f" | Mean size: {say.brief(values.get('avg_trade_size'))}",
        f"Return: {change} | Volatility: {say.brief(values.get('volatility'))}",
    ]


def _pump(signal: Signal) -> tuple[str, list[str]]:
    values, limits = signal.values, signal.thresholds
    rise = values.get("rise_60s")
    change = say.percent(expm1(rise) if isinstance(rise, int | float) else None, 2, sign=True)
    return f"Pump: {sanitize(signal.symbol)} {change} in a minute", [
        "🚀 PUMP",
        *_head(signal, f"Market: {signal.market.value}"),
        f"Probability: {say.fixed(values.get('score'), 2)} (threshold {say.fixed(limits.get('score'), 2)})",
        f"Price: {say.decimal(values.get('price'))} | Rise in 60 s: {change}",
        f"Taker buying: {say.fixed(values.get('buy_300s'), 1, sign=True)} ln over the 12 h mean"
        f" | Buy orders with several fills: {say.fixed(values.get('sweeps'), 1)} ln(1 + n)",
    ]


def _system(signal: Signal) -> tuple[str, list[str]]:
    values = signal.values
    message = sanitize(values.get("message") or values.get("reason") or "state changed", 500)
    cure = [f"What to do: {sanitize(values['cure'], 500)}"] if values.get("cure") else []
    return f"Tapewatch: {sanitize(message, 100)}", ["🛠️ TAPEWATCH", *_head(signal), message, *cure]


def _first(values: Mapping[str, Any], *names: str) -> object:
    return next((values[name] for name in names if values.get(name) is not None), None)


_WRITERS: Mapping[Detector, Callable[[Signal], tuple[str, list[str]]]] = {
    Detector.SECTOR_INITIATOR: _initiator,
    Detector.SECTOR_DIFFUSION: _diffusion,
    Detector.MARKET_WIDE: _market_wide,
    Detector.VOLUME_SPIKE: _volume_spike,
    Detector.TRADE_SPIKE: _trade_spike,
    Detector.ORDER_BOOK_IMBALANCE: _order_book,
    Detector.WINDOW_ANOMALY: _window_anomaly,
    Detector.PUMP: _pump,
    Detector.SYSTEM: _system,
}

# The numbers that a terminal line shows first; whatever a detector adds later follows them.
_FIRST_NUMBERS: Mapping[Detector, tuple[str, ...]] = {
    Detector.VOLUME_SPIKE: ("ratio", "volume_current", "ma20", "rarity"),
    Detector.TRADE_SPIKE: ("ratio", "volume", "price", "mean", "side"),
    Detector.ORDER_BOOK_IMBALANCE: ("obi", "notional_bid", "notional_ask", "levels"),
    Detector.SECTOR_INITIATOR: ("status", "z_excess_return", "z_volume", "taker_buy_share", "beta", "funding_rate"),
    Detector.SECTOR_DIFFUSION: ("initiator", "followers_count", "others", "share"),
    Detector.MARKET_WIDE: ("moved", "symbols", "share", "r_15m"),
    Detector.WINDOW_ANOMALY: ("score", "trade_count", "volume", "return", "volatility"),
    Detector.PUMP: ("score", "price", "rise_60s", "buy_300s", "sweeps"),
    Detector.SYSTEM: ("message",),
}


def _numbers(detector: Detector | None, values: Mapping[str, Any]) -> str:
    names = tuple(values) if detector is None else _FIRST_NUMBERS[detector]
    shown = [f"{sanitize(name)}={_plain(values[name])}" for name in names if name in values]
    return " ".join(shown) or "none"


def _plain(value: object) -> str:
    if isinstance(value, str):
        return sanitize(value, 120)
    if isinstance(value, bool):
        return str(value).lower()
    return say.brief(value)
