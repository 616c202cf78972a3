"""Notice silence and its reason: one `system` signal when a component stops or the exchange refuses, one at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.alerts.policy import HeldReason
from shared.clock import MINUTE_MS, floor_minute_ms, iso_utc
from shared.detection.reading import Detector, Direction, Signal
from shared.jobs.common import bars_of, beat_sparingly, tell
from shared.jobs.deps import Dependencies
from shared.jobs.pool import REFUSALS
from shared.jobs.troubles import count_dead_letters, judge, recent_errors
from shared.market.model import Market
from shared.settings import Settings
from shared.storage.blindness import Blindness, BlindnessRepository
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.failures import FailureRepository
from shared.storage.heartbeats import HeartbeatRepository, is_idle, is_streamer, streamer_names
from shared.storage.signals import SignalRepository, decode_signal, encode_signal
from shared.storage.table import Item

_CHECKPOINT = "watchdog"
_ATTEMPTS = 5
_JOB_LIMIT_MS = 3 * MINUTE_MS
_BARS_LIMIT_MS = 5 * MINUTE_MS
_CATCH_UP_MS = 2 * MINUTE_MS  # after a pause, until its summary: the runs that make up for it come first
STORED_BARS = "stored-bars"
_WHY = {STORED_BARS: "kline-bars", "sector": "kline-bars"}  # who says why, where it is not the component itself


@dataclass(frozen=True, slots=True)
class Watched:
    """A component that should give a sign of life at least every `limit_ms`, and what to look at when it does not.

    `rest` says that it lives on the exchange's REST side, `data` that its sign of life proves that data came.
    """

    name: str
    limit_ms: int
    cure: str
    market: Market = Market.SPOT
    rest: bool = True
    data: bool = True


@dataclass(frozen=True, slots=True)
class WatchdogReport:
    """`silent` are down now, `began` and `recovered` changed in this run."""

    scheduled_ms: int
    watched: int = 0
    silent: tuple[str, ...] = ()
    began: tuple[str, ...] = ()
    recovered: tuple[str, ...] = ()
    signals: int = 0
    alerts: int = 0
    held: Mapping[str, int] = field(default_factory=dict)
    skipped: str | None = None
    streamer_data_age_s: int | None = None
    """Age of the newest trade that the slowest streamer has seen, seconds; None where one has never shown itself."""
    errors: int = 0
    dead_letters: int | None = 0
    trouble: int | None = None
    """The sum of `Trouble`, which the alarms look at; None: this run has not looked."""


def watched(settings: Settings) -> list[Watched]:
    """Return what must show signs of life under these settings."""
    job = "look at its log and its dead-letter queue, or restart `tapewatch run`"
    exchange = "see whether the exchange answers (`tapewatch status`), then at the log of kline-bars"
    found = []
    if settings.volume_spike.enabled:
        found.append(Watched("volume-spike", _JOB_LIMIT_MS, job))
    if settings.order_book.enabled:
        found.append(Watched("order-book", max(_JOB_LIMIT_MS, 3000 * settings.order_book.interval_seconds), job))
    if settings.sector.enabled:
        chain = "see whether bars are stored, then at the logs of features and sector"
        found += [
            Watched("kline-bars", _JOB_LIMIT_MS, job, Market.USDM, data=False),
            Watched(STORED_BARS, _BARS_LIMIT_MS, exchange, Market.USDM),
            Watched("sector", _BARS_LIMIT_MS, chain, Market.USDM, data=False),
        ]
    if settings.watches_trades:
        limit_ms = max(_JOB_LIMIT_MS, round(4000 * settings.streamer.heartbeat_seconds))
        cure = "look at the streamer's log; it starts again when stopped"
        found += [Watched(name, limit_ms, cure, rest=False) for name in streamer_names(settings.streamer.shards)]
    return found


def run(deps: Dependencies, *, scheduled_ms: int) -> WatchdogReport:
    """Compare every sign of life with `scheduled_ms` and tell each change once.

    What is down is kept in a checkpoint, written before anything is told; signals of the last change are told again
    by the next run, in case this one is killed in between.
    """
    components = watched(deps.settings)
    shards = deps.settings.streamer.shards
    beats = HeartbeatRepository(deps.table).of_shards(shards)
    seen = _signs_of_life(deps, beats)
    blind = BlindnessRepository(deps.table).all()
    data_age_s = _data_age_s(beats, shards, scheduled_ms)
    errors = recent_errors(FailureRepository(deps.table), scheduled_ms)
    dead_letters = count_dead_letters(deps.dead_letters)
    checkpoints = CheckpointRepository(deps.table)
    for _ in range(_ATTEMPTS):
        known = checkpoints.load(_CHECKPOINT)
        state: dict[str, Any] = {"last_ms": 0, "since_ms": scheduled_ms, "down": {}, "signals": []}
        if known is not None:
            state |= known.state
        if int(state["last_ms"]) > scheduled_ms:
            return WatchdogReport(scheduled_ms, skipped="late: a newer run has looked already")
        before = [decode_signal(packed) for packed in state["signals"]]
        after, began, recovered = _judge(state, components, seen, blind, scheduled_ms)
        summary = _catch_up(deps, after["pause"], scheduled_ms)
        if summary is not None:
            after |= {"pause": None, "signals": [*after["signals"], *map(encode_signal, summary)]}
        if checkpoints.put(_CHECKPOINT, after, expected_version=0 if known is None else known.version):
            fresh = [decode_signal(packed) for packed in after["signals"]]
            tell(deps, before)
            told = tell(deps, fresh)
            beat_sparingly(deps, "watchdog", {"minute_ms": scheduled_ms, "silent": sorted(after["down"])})
            silent = tuple(sorted(after["down"]))
            trouble = judge(
                data_age_s=data_age_s,
                silent=silent,
                errors=errors,
                dead_letters=dead_letters,
                streamed=deps.settings.watches_trades,
            )
            return WatchdogReport(
                scheduled_ms,
                watched=len(components),
                silent=silent,
                began=tuple(began),
                recovered=tuple(recovered),
                signals=told.signals,
                alerts=told.alerts,
                held=told.held,
                streamer_data_age_s=data_age_s,
                errors=errors,
                dead_letters=dead_letters,
                trouble=int(trouble),
            )
    return WatchdogReport(scheduled_ms, watched=len(components), skipped="state kept changing")


def _data_age_s(beats: Mapping[str, Item], shards: int, now_ms: int) -> int | None:
    """Return how long ago the slowest streamer's newest trade happened; a streamer writes no beat without data.

    One that has no symbol counts by its beats, or its death would go unseen until symbols fall to it.
    """
    streamers = [item for name, item in beats.items() if is_streamer(name)]
    newest = [int(str(item.get("beat_ms" if is_idle(item) else "last_event_ms") or 0)) for item in streamers]
    return max(0, now_ms - min(newest)) // 1000 if len(newest) == shards else None


def _signs_of_life(deps: Dependencies, beats: Mapping[str, Item]) -> dict[str, int]:
    """Return when each component was last alive."""
    seen = {name: int(str(item["beat_ms"])) for name, item in beats.items()}
    newest_ms = bars_of(deps).newest_ms(Market.USDM)
    if newest_ms is not None:
        seen[STORED_BARS] = newest_ms + MINUTE_MS
    return seen


def _judge(
    state: Mapping[str, Any],
    components: list[Watched],
    seen: Mapping[str, int],
    blind: Mapping[str, Blindness],
    now_ms: int,
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the next state, and the names that went down and came back.

    A host that refuses us blinds everything that lives on it: that is one trouble of its own (`exchange-spot`), told
    with its reason as soon as it is noted, and the silence that follows from it is not told beside it.
    """
    # After a pause of our own (a night's sleep of the laptop) everyone gets a fresh start, or all would be "silent".
    paused = now_ms - int(state["last_ms"]) > _JOB_LIMIT_MS
    since_ms = now_ms if paused else int(state["since_ms"])
    down: dict[str, int] = dict(state["down"])
    excused: dict[str, int] = dict(state.get("excused", {}))
    began: list[str] = []
    recovered: list[str] = []
    signals: list[Signal] = []

    def change(what: Watched, direction: Direction, from_ms: int, why: Blindness | None = None) -> None:
        (began if direction is Direction.DOWN else recovered).append(what.name)
        signals.append(_signal(what, direction, now_ms, from_ms, why))

    hosts = [_host(market) for market in dict.fromkeys(one.market for one in components if one.rest)]
    for host in hosts:
        members = [one for one in components if one.rest and one.market is host.market]
        data_ms = max((seen.get(one.name, 0) for one in members if one.data), default=0)
        noted = [blind[one.name] for one in members if one.name in blind]
        refusals = [one for one in noted if one.code in REFUSALS and now_ms - one.at_ms <= _JOB_LIMIT_MS]
        newest = max(refusals, key=lambda one: one.at_ms, default=None)
        if host.name in down and data_ms > down[host.name]:
            change(host, Direction.UP, down.pop(host.name))
        elif host.name not in down and newest is not None and newest.at_ms > data_ms:
            down[host.name] = newest.at_ms
            change(host, Direction.DOWN, newest.at_ms, newest)
        if host.name in down:
            excused[host.market.value] = now_ms
    for component in components:
        name = component.name
        pardon_ms = excused.get(component.market.value, 0) if component.rest else 0
        alive_ms = max(seen.get(name, 0), since_ms, pardon_ms)
        why = blind.get(_WHY.get(name, name))
        told = why is not None and why.at_ms > max(seen.get(name, 0), since_ms - 1)
        refused = told and why is not None and why.code in REFUSALS and not component.rest
        if name not in down and (now_ms - alive_ms > component.limit_ms or refused):
            down[name] = alive_ms
            change(component, Direction.DOWN, alive_ms, why if told else None)
        elif name in down and now_ms - seen.get(name, 0) <= component.limit_ms and seen.get(name, 0) > down[name]:
            change(component, Direction.UP, down.pop(name))
    names = {one.name for one in (*components, *hosts)}
    after = {
        "last_ms": now_ms,
        "since_ms": since_ms,
        "down": {name: at_ms for name, at_ms in down.items() if name in names},
        "excused": excused,
        "pause": [int(state["last_ms"]), now_ms] if paused and state["last_ms"] else state.get("pause"),
        "signals": [encode_signal(signal) for signal in signals],
    }
    return after, began, recovered


def _catch_up(deps: Dependencies, pause: list[int] | None, now_ms: int) -> list[Signal] | None:
    """Sum up a pause of everything when the runs that make up for it are over; None: there is none, or not yet.

    What became too old to be sent in it is in the feed only, and this one notice says so; without such, nobody is told.
    """
    if pause is None or now_ms - pause[1] < _CATCH_UP_MS:
        return None
    repository, late = SignalRepository(deps.table), 0
    cursor: str | None = None
    while True:
        page, cursor = repository.range(since_ms=pause[0], until_ms=pause[1], limit=500, cursor=cursor)
        late += sum(one.held_reason == HeldReason.TOO_LATE for one in page)
        if cursor is None:
            break
    if not late:
        return []
    lasted_s = (pause[1] - pause[0]) // 1000
    events = "1 event" if late == 1 else f"{late} events"
    text = (
        f"Nothing ran for {_span(lasted_s)} until {iso_utc(pause[1])}; {events} of that time came too late to be sent."
    )
    values = {
        "component": "catch-up",
        "state": "caught up",
        "silent_since": iso_utc(pause[0]),
        "silent_s": lasted_s,
        "too_late": late,
        "message": text,
        "cure": "see them in the feed (`tapewatch alerts`, the page, the report)",
        "severity": "info",
    }
    limits = {"limit_s": _JOB_LIMIT_MS // 1000}
    return [Signal(Detector.SYSTEM, Market.SPOT, "catch-up", floor_minute_ms(now_ms), now_ms, values, limits)]


def _host(market: Market) -> Watched:
    return Watched(f"exchange-{market.value}", _JOB_LIMIT_MS, "", market)


def _signal(
    component: Watched, direction: Direction, now_ms: int, from_ms: int, why: Blindness | None = None
) -> Signal:
    """DOWN is trouble, UP its end; the event is the minute in which it was noticed."""
    up, name, since, lasted_s = direction is Direction.UP, component.name, iso_utc(from_ms), (now_ms - from_ms) // 1000
    refused = why is not None and why.code in REFUSALS
    if up:
        text = f"{name} is back after {_span(lasted_s)}; it was silent since {since}."
    elif why is not None and refused:
        text = f"{name} gives no data since {since}. {why.reason}."
    elif why is not None:
        text = f"{name} has been silent since {since}: {why.reason}."
    else:
        text = f"{name} has been silent since {since}."
    return Signal(
        detector=Detector.SYSTEM,
        market=component.market,
        symbol=name,
        event_ms=floor_minute_ms(now_ms),
        known_ms=now_ms,
        direction=direction,
        values={
            "component": name,
            "state": "recovered" if up else "silent" if why is None else why.code,
            "silent_since": since,
            "silent_s": lasted_s,
            "reason": why.reason if why is not None else "",
            "message": text,
            "cure": "" if up else (why.cure if why is not None else "") or component.cure,
            "severity": "info" if up else "critical" if refused else "warning",
        },
        thresholds={"limit_s": component.limit_ms // 1000},
    )


def _span(seconds: int) -> str:
    """Return a duration as people say it: `45 s`, `12 min`, `3 h 5 min`."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
