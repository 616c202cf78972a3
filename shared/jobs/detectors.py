"""The state of each detector and of the feed it lives on, from signs of life: one word, one reason, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.clock import iso_utc, parse_utc_ms
from shared.detection.reading import Detector
from shared.jobs.deps import Dependencies
from shared.jobs.pool import REFUSALS
from shared.storage.blindness import Blindness, BlindnessRepository
from shared.storage.heartbeats import is_idle, streamer_names

_FEED_LIMIT_S = 10.0  # a heartbeat older than this, or twice its interval, is a feed without data
_JOBS = {
    Detector.VOLUME_SPIKE: "volume-spike",
    Detector.ORDER_BOOK_IMBALANCE: "order-book",
    Detector.SECTOR_INITIATOR: "sector",
    Detector.SECTOR_DIFFUSION: "sector",
    Detector.MARKET_WIDE: "sector",
}
_WHY = {"sector": "kline-bars"}  # whose trouble blinds it
Row = dict[str, Any]


def feed_state(deps: Dependencies, components: Mapping[str, Row], now_ms: int) -> Row:
    """Return the trade stream's state: `live`, `starting`, `quiet`, `broken`, `silent`, `idle` or `off`, and why.

    On one machine the streamer is asked itself (`deps.live`); elsewhere its last heartbeat tells.
    """
    settings = deps.settings
    if not settings.watches_trades:
        return _feed("off", "every rule that looks at trades is switched off")
    own = None if deps.live is None else deps.live()
    if own is not None:
        return _feed(str(own.get("state", "starting")), str(own.get("reason") or ""), own, now_ms)
    names = streamer_names(settings.streamer.shards)
    beats = {name: components[name] for name in names if components.get(name, {}).get("last_beat")}
    if not beats:
        return _feed("starting", "the streamer has not shown itself yet")
    name, oldest = max(beats.items(), key=lambda one: one[1]["age_s"])
    fields = oldest.get("fields", {})
    if oldest["age_s"] > max(_FEED_LIMIT_S, 2 * settings.streamer.heartbeat_seconds):
        return _feed("silent", f"no sign of life of {name} for {oldest['age_s']:.0f} s", fields, now_ms)
    unseen = [name for name in names if name not in beats]
    if unseen:
        return _feed("starting", f"{', '.join(unseen)} has not shown itself yet", fields, now_ms)
    carrying = [beat for beat in beats.values() if not is_idle(beat.get("fields", {}))]
    if carrying:  # what an idle shard has to tell hides nothing of the others
        fields = max(carrying, key=lambda beat: float(beat["age_s"])).get("fields", {})
    return _feed(str(fields.get("state", "live")), str(fields.get("reason") or ""), fields, now_ms)


def _feed(state: str, reason: str, fields: Mapping[str, Any] | None = None, now_ms: int = 0) -> Row:
    fields = fields or {}
    event_ms = fields.get("last_event_ms")
    known = isinstance(event_ms, int) and event_ms > 0
    return {
        "state": state,
        "good": state in ("live", "starting", "idle", "off"),
        "reason": reason,
        "last_event": iso_utc(event_ms) if known and event_ms is not None else None,
        "age_s": max(0, now_ms - event_ms) / 1000 if known and event_ms is not None else None,
        "lag_ms": fields.get("lag_ms"),
        "trades": fields.get("trades"),
        "trades_per_s": fields.get("trades_per_s"),
        "windows": fields.get("windows"),
        "models": fields.get("models"),
        "learning": fields.get("learning"),
    }


def detector_states(deps: Dependencies, components: Mapping[str, Row], feed: Row, alerts: Mapping[str, int]) -> Row:
    """Return each detector's `state` (`ok`, `learning`, `starting`, `silent`, `off`), its last run and its alerts."""
    settings = deps.settings
    blind = BlindnessRepository(deps.table).all()
    enabled = {
        Detector.VOLUME_SPIKE: settings.volume_spike.enabled,
        Detector.TRADE_SPIKE: settings.trade_spike.enabled,
        Detector.ORDER_BOOK_IMBALANCE: settings.order_book.enabled,
        Detector.SECTOR_INITIATOR: settings.sector.enabled,
        Detector.SECTOR_DIFFUSION: settings.sector.enabled,
        Detector.WINDOW_ANOMALY: settings.window_anomaly.enabled,
    }
    # Off by default, so they are shown only where somebody has asked for them.
    if settings.sector.enabled and settings.sector.market_wide_share is not None:
        enabled[Detector.MARKET_WIDE] = True
    if settings.pump.enabled:
        enabled[Detector.PUMP] = True
    found: Row = {}
    for detector, on in enabled.items():
        row = _of_job(components, _JOBS[detector], blind) if detector in _JOBS else _of_feed(detector, feed)
        if not on:
            row |= {"state": "off", "reason": "switched off in the settings"}
        found[detector.value] = {**row, "alerts_24h": alerts.get(detector.value, 0)}
    return found


def _of_job(components: Mapping[str, Row], name: str, blind: Mapping[str, Blindness]) -> Row:
    row = components.get(name)
    blind_now = blind.get(_WHY.get(name, name))
    last_ms = None if row is None or row.get("last_beat") is None else parse_utc_ms(str(row["last_beat"]))
    if blind_now is not None and last_ms is not None and blind_now.at_ms <= last_ms:
        blind_now = None  # it is over
    why = "" if blind_now is None else f"{blind_now.reason}: {blind_now.cure}" if blind_now.cure else blind_now.reason
    if row is None or last_ms is None:
        state = "silent" if blind_now is not None and blind_now.code in REFUSALS else "starting"
        return {"state": state, "reason": why or "has not run yet", "last_run": None, "last_bar": None}
    fields = row.get("fields", {})
    state, reason = row["state"], ""
    if blind_now is not None and blind_now.code in REFUSALS:
        state, reason = "silent", why
    elif state == "silent":
        reason = why or f"no run for {row['age_s']:.0f} s"
    elif fields.get("learning"):
        state, reason = "learning", f"{fields['learning']} of {fields.get('symbols', '?')} symbols lack history"
    elif fields.get("failed"):
        reason = f"{fields['failed']} symbols without an answer"
    minute_ms = fields.get("minute_ms")
    last_bar = iso_utc(minute_ms) if isinstance(minute_ms, int) else None
    return {"state": state, "reason": reason, "last_run": row["last_beat"], "last_bar": last_bar}


def _of_feed(detector: Detector, feed: Row) -> Row:
    state = {"live": "ok", "idle": "ok", "starting": "starting", "off": "off"}.get(feed["state"], "silent")
    reason = feed["reason"]
    learning = feed.get("learning")
    if state == "ok" and detector is Detector.WINDOW_ANOMALY and isinstance(learning, Mapping) and learning:
        state, reason = "learning", f"{len(learning)} symbols have no model yet"
    return {"state": state, "reason": reason, "last_run": feed["last_event"], "last_bar": None}
