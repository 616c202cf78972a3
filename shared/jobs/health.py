"""The state of every component, as the API, the report and the status command show it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from shared.clock import DAY_MS, iso_utc
from shared.exchange.binance.endpoints import host_of
from shared.jobs.common import bars_of
from shared.jobs.deps import Dependencies
from shared.jobs.detectors import detector_states, feed_state
from shared.jobs.watchdog import STORED_BARS, watched
from shared.market.model import Market
from shared.storage.alerts import AlertRepository
from shared.storage.channel_states import ChannelStateRepository
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.not_before import NotBeforeRepository


def health(deps: Dependencies) -> dict[str, Any]:
    """Return heartbeats with their age, the newest stored minute of each market, the exchange's bans,
    and which channels take alerts.

    `status` is `ok`, `starting` (something has not shown itself yet) or `silent` (something has stopped, or says in its
    field `problem` why it is `broken`).
    """
    now_ms = deps.clock.now_ms()
    beats = HeartbeatRepository(deps.table).of_shards(deps.settings.streamer.shards)
    limits = {one.name: one.limit_ms for one in watched(deps.settings) if one.name != STORED_BARS}
    components: dict[str, Any] = {}
    for name in sorted(limits.keys() | beats.keys()):
        item = beats.get(name)
        limit_ms = limits.get(name)
        if item is None:
            components[name] = {"state": "starting", "last_beat": None, "age_s": None}
        else:
            beat_ms = int(str(item["beat_ms"]))
            silent = limit_ms is not None and now_ms - beat_ms > limit_ms
            fields = {key: value for key, value in item.items() if key != "beat_ms"}
            components[name] = {
                "state": "broken" if fields.get("problem") else "silent" if silent else "ok",
                "last_beat": iso_utc(beat_ms),
                "age_s": max(0, now_ms - beat_ms) / 1000,
                "fields": fields,
            }
        if limit_ms is not None:
            components[name]["limit_s"] = limit_ms / 1000
    states = {one["state"] for one in components.values()}
    feed = feed_state(deps, components, now_ms)
    counts = Counter(name for _, name, _, _, _ in AlertRepository(deps.table).times(now_ms - DAY_MS, now_ms + 1))
    return {
        "status": "silent" if states & {"silent", "broken"} else "starting" if "starting" in states else "ok",
        "time": iso_utc(now_ms),
        "components": components,
        "feed": feed,
        "detectors": detector_states(deps, components, feed, counts),
        "last_minute": {market.value: _iso(bars_of(deps).newest_ms(market)) for market in Market},
        "exchange": _bans(deps, now_ms),
        "channels": _channels(deps),
    }


def _channels(deps: Dependencies) -> dict[str, Any]:
    """Return each channel's health (`ok`, `failing`, `dead`) with the cure in its error."""
    states = ChannelStateRepository(deps.table, lambda: "").all()
    return {
        name: {
            "state": state.health.value,
            "since": iso_utc(state.since_ms) if state.since_ms else None,
            "error": state.error,
        }
        for name, state in sorted(states.items())
    }


def _bans(deps: Dependencies, now_ms: int) -> dict[str, Any]:
    bans = NotBeforeRepository(deps.table)
    urls = {Market.SPOT: deps.settings.exchange.spot_rest_url, Market.USDM: deps.settings.exchange.futures_rest_url}
    found = {}
    for market, url in urls.items():
        host = host_of(url)
        until_ms = bans.get(host)
        banned = until_ms is not None and until_ms > now_ms
        found[market.value] = {"host": host, "banned": banned, "not_before": _iso(until_ms) if banned else None}
    return found


def _iso(ms: int | None) -> str | None:
    return None if ms is None else iso_utc(ms)
