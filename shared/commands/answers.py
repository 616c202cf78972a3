"""Carry out a command and say the answer, as lines of plain text; the channel escapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from shared.alerts import wording as say
from shared.alerts.model import Alert
from shared.alerts.wording import sanitize
from shared.clock import HOUR_MS, iso_utc
from shared.commands.parse import Command, span_ms
from shared.detection.reading import Detector, Signal
from shared.jobs.deps import Dependencies
from shared.jobs.explain import explain, find_alert
from shared.jobs.health import health
from shared.jobs.outcomes import alerts_since
from shared.market.model import Market
from shared.market.universe import normalize_symbol
from shared.storage.channel_states import ChannelStateRepository
from shared.storage.mutes import MuteRepository

_LISTED = 10
_DAY_MS = 24 * HOUR_MS
HELP = (
    "What I understand:",
    "/status  how every part is",
    "/alerts  the last ten alerts",
    "/top  the symbols with most alerts in 24 h",
    "/why ID  every number of one alert, and what came of it",
    "/mute SYMBOL 1h  hold a symbol's alerts (30m, 1h, 7d)",
    "/unmute SYMBOL  let them through again",
    "/mutes  what is muted",
    "/test  send a test alert on every channel",
    "/help  this list",
)


def answer(deps: Dependencies, command: Command, by: str) -> list[str]:
    """Return the lines of the answer. `by` names who asked, and is kept with a mute.

    Raises:
        StorageError: the state cannot be read or written now.
    """
    match command.name:
        case "status":
            return _status(deps)
        case "alerts":
            return _alerts(deps)
        case "top":
            return _top(deps)
        case "why":
            return _why(deps, command.words)
        case "mute":
            return _mute(deps, command.words, by)
        case "unmute":
            return _unmute(deps, command.words)
        case "mutes":
            return _mutes(deps)
        case "test":
            return _test(deps)
        case "start":
            return ["Tapewatch is here.", *HELP]
        case "help":
            return list(HELP)
        case _:
            return ["I do not know that command.", *HELP]


def mute(deps: Dependencies, symbol: str, ms: int, by: str) -> str:
    """Mute a symbol and say until when."""
    until_ms = deps.clock.now_ms() + ms
    MuteRepository(deps.table).put(symbol, until_ms, f"by {by}")
    return f"{sanitize(symbol)} is muted until {say.moment(until_ms // 1000 * 1000)}"


def _status(deps: Dependencies) -> list[str]:
    now = health(deps)
    lines = [f"Status: {now['status']} at {say.moment(now['time'])}"]
    for name, one in now["components"].items():
        age = one.get("age_s")
        lines.append(f"{one['state']}: {sanitize(name)}" + ("" if age is None else f", {age:.0f} s ago"))
    for name, state in ChannelStateRepository(deps.table, lambda: "").all().items():
        lines.append(f"channel {sanitize(name)}: {state.health.value} {sanitize(state.error, 200)}".rstrip())
    for market, ban in now["exchange"].items():
        if ban["banned"]:
            lines.append(f"{market}: no calls before {say.moment(ban['not_before'])}")
    return lines


def _alerts(deps: Dependencies) -> list[str]:
    now_ms = deps.clock.now_ms()
    found: list[Alert] = []
    for alert in alerts_since(deps, now_ms - _DAY_MS, now_ms + HOUR_MS):
        found.append(alert)
        if len(found) == _LISTED:
            break
    if not found:
        return ["No alerts in 24 h."]
    return ["The last alerts:", *(_row(alert) for alert in found)]


def _row(alert: Alert) -> str:
    held = f" (+{alert.suppressed_since_last} held)" if alert.suppressed_since_last else ""
    moment = say.moment(alert.event_ms // 1000 * 1000)[5:19]
    return f"{moment} {alert.severity.value} {sanitize(alert.title, 100)}{held} [{alert.alert_id[:12]}]"


def _top(deps: Dependencies) -> list[str]:
    now_ms = deps.clock.now_ms()
    counts = Counter(
        alert.symbol
        for alert in alerts_since(deps, now_ms - _DAY_MS, now_ms + HOUR_MS)
        if alert.detector is not Detector.SYSTEM
    )
    if not counts:
        return ["No alerts in 24 h."]
    return ["Most alerts in 24 h:", *(f"{count}  {sanitize(symbol)}" for symbol, count in counts.most_common(_LISTED))]


def _why(deps: Dependencies, words: tuple[str, ...]) -> list[str]:
    alert = find_alert(deps, words[0]) if words else None
    if alert is None:
        return ["No alert has this id. Write /why and the id from an alert or from /alerts."]
    known = explain(deps, alert)
    lines = [alert.title, f"Event: {say.moment(alert.event_ms)}", f"Decided: {say.moment(alert.detected_ms)}"]
    lines.append(f"Severity: {alert.severity.value}, rule version {sanitize(alert.rule_version)}")
    lines += [f"{sanitize(name)} = {_plain(value)}" for name, value in sorted(alert.values.items())]
    lines += [f"threshold {sanitize(name)} = {_plain(value)}" for name, value in sorted(alert.thresholds.items())]
    if alert.suppressed_since_last:
        lines.append(f"{alert.suppressed_since_last} more were held back since the alert before it")
    for name, one in known["deliveries"].items():
        lines.append(f"{sanitize(name)}: {one['state']} at {say.moment(one['time'])}")
    lines += _outcome(known["outcome"])
    said = known["feedback"]
    if any(said.values()):
        lines.append(f"Feedback: useful {said['useful']}, noise {said['noise']}")
    return lines


def _outcome(outcome: Mapping[str, Any] | None) -> list[str]:
    if outcome is None or outcome["entry_price"] is None:
        return ["Outcome: not known yet"]
    returns = ", ".join(f"{m} min {say.percent(outcome[f'return_{m}m'], 2, sign=True)}" for m in (5, 15, 60))
    lines = [f"Outcome from {say.moment(outcome['entry_time'])} at {say.decimal(outcome['entry_price'])}: {returns}"]
    if outcome["best"] is not None:
        best, worst = say.percent(outcome["best"], 2, sign=True), say.percent(outcome["worst"], 2, sign=True)
        lines.append(f"Best {best}, worst {worst} within the hour")
    return lines


def _mute(deps: Dependencies, words: tuple[str, ...], by: str) -> list[str]:
    ms = span_ms(words[1]) if len(words) > 1 else HOUR_MS
    symbol = _symbol(deps, words[0]) if words else None
    if symbol is None or ms is None or len(words) > 2:
        return ["Write /mute SYMBOL and a time of at most 30 days: /mute BTCUSDT 1h (30m, 1h, 7d)"]
    return [mute(deps, symbol, ms, by)]


def _unmute(deps: Dependencies, words: tuple[str, ...]) -> list[str]:
    symbol = _symbol(deps, words[0]) if len(words) == 1 else None
    if symbol is None:
        return ["Write /unmute SYMBOL, for example /unmute BTCUSDT"]
    mutes = MuteRepository(deps.table)
    lifted = [one for one in mutes.active(deps.clock.now_ms()) if one.symbol.upper() == symbol]
    for one in lifted:
        mutes.remove(one.mute_id)
    if symbol in {name.strip().upper() for name in deps.settings.alerts.mutes}:
        return [f"{sanitize(symbol)} is muted by the configuration (alerts.mutes): change it there"]
    return [f"{sanitize(symbol)} may speak again" if lifted else f"{sanitize(symbol)} was not muted"]


def _mutes(deps: Dependencies) -> list[str]:
    lines = [f"{sanitize(name)} by the configuration" for name in deps.settings.alerts.mutes]
    for one in MuteRepository(deps.table).active(deps.clock.now_ms()):
        until = "lifted" if one.until_ms is None else say.moment(one.until_ms // 1000 * 1000)
        lines.append(f"{sanitize(one.symbol)} until {until} {sanitize(one.reason)}".rstrip())
    return ["Muted:", *lines] if lines else ["Nothing is muted."]


def _test(deps: Dependencies) -> list[str]:
    now_ms = deps.clock.now_ms()
    outcome = deps.alerts.handle(
        Signal(
            detector=Detector.SYSTEM,
            market=Market.SPOT,
            symbol=f"test-{now_ms // 60_000}",  # one a minute
            event_ms=now_ms // 60_000 * 60_000,
            known_ms=now_ms,
            values={"message": "This is a test alert. Nothing has happened.", "severity": "info"},
            thresholds={},
        )
    )
    if not outcome.created:
        return ["There has been a test in this minute already."]
    states = ", ".join(f"{sanitize(name)} {state}" for name, state in sorted(outcome.deliveries.items()))
    return [f"Test alert {outcome.alert_id[:12]} at {iso_utc(now_ms // 1000 * 1000)}: {states or 'no channels'}"]


def _symbol(deps: Dependencies, text: str) -> str | None:
    watched = {*deps.settings.universe.spot_symbols, *deps.settings.futures_symbols}
    upper = text.strip().upper()
    if upper in watched:
        return upper
    try:
        # With a whole market watched, the list of symbols is not at hand: a name with a known quote stays.
        return normalize_symbol(text, None if deps.settings.universe.all or upper.endswith("USDT") else watched)
    except ValueError:
        return None


def _plain(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int | float):
        return say.brief(value)
    return sanitize(value, 120)
