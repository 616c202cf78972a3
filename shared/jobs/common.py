"""What several jobs share: the symbols to ask, waiting for a minute's close, telling the alert service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from shared.clock import DAY_MS, HOUR_MS, MINUTE_MS
from shared.detection.reading import Signal
from shared.errors import ExchangeError
from shared.jobs.deps import Dependencies
from shared.jobs.pool import HOST_REFUSES, Asked, refusal_of
from shared.market.model import Market
from shared.storage.bars import BarRepository
from shared.storage.blindness import Blindness, BlindnessRepository
from shared.storage.charts import ChartRepository
from shared.storage.features import FeatureRepository
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.open_interest import OpenInterestRepository
from shared.storage.ratios import RatioRepository
from shared.storage.readings import ReadingRepository

_MAX_WAIT_MS = 5_000
SPARE_BEAT_MS = 5 * MINUTE_MS
NO_DATA = "no_data"
"""A blindness's code: the exchange gave no usable answer, but does not refuse."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of signals: alerts made now, and why others were held; `known` had been handled before."""

    signals: int = 0
    alerts: int = 0
    held: Mapping[str, int] = field(default_factory=dict)
    known: int = 0


def tell(deps: Dependencies, signals: Iterable[Signal]) -> Told:
    """Hand signals to the alert service in order of their event times; the same signal twice is one."""
    ordered = sorted(signals, key=lambda signal: (signal.event_ms, signal.symbol))
    held: Counter[str] = Counter()
    alerts = known = 0
    for signal in ordered:
        outcome = deps.alerts.handle(signal)
        if not outcome.created:
            known += 1
        elif outcome.alert is not None:
            alerts += 1
        elif outcome.held is not None:
            held[outcome.held] += 1
    return Told(len(ordered), alerts, dict(sorted(held.items())), known)


def note_blind(deps: Dependencies, component: str, market: Market, asked: Asked[Any]) -> None:
    """Say why a run that got no answer at all got none: the watchdog tells it when it lasts."""
    if asked.refusal is not None:
        code, reason, cure = asked.refusal.code, asked.refusal.reason, asked.refusal.cure
    else:
        ((reason, count),) = Counter(asked.failed.values()).most_common(1)
        code, cure = NO_DATA, ""
        reason = f"no data of {count} {'symbol' if count == 1 else 'symbols'} ({reason})"
    BlindnessRepository(deps.table).note(Blindness(component, market, code, reason, cure, deps.clock.now_ms()))


@contextmanager
def noting_blindness(deps: Dependencies, component: str, market: Market) -> Iterator[None]:
    """Note why the exchange did not answer a run's first question; the error goes on to the caller."""
    try:
        yield
    except ExchangeError as exc:
        refusal = refusal_of(market, exc) if isinstance(exc, HOST_REFUSES) else None
        note_blind(deps, component, market, Asked({}, {"all": f"{exc.code}: {exc}"}, refusal))
        raise


def closed_at_ms(deps: Dependencies, market: Market, minute_ms: int) -> int:
    """Return the exchange's own time, waiting a little when by it the minute has not closed yet.

    A schedule fires by our clock, a bar closes by the exchange's: a few seconds between them are normal.
    """
    now_ms = deps.market_data.server_time_ms(market)
    missing_ms = minute_ms + MINUTE_MS - now_ms
    if 0 < missing_ms <= _MAX_WAIT_MS:
        deps.clock.sleep((missing_ms + 50) / 1000)
        now_ms = deps.market_data.server_time_ms(market)
    return now_ms


def spot_symbols(deps: Dependencies, at_ms: int) -> tuple[str, ...]:
    """Return the spot symbols to watch; `universe.all` asks the exchange for its listing, once an hour."""
    quote = deps.settings.universe.all
    if quote is None:
        return deps.settings.universe.spot_symbols
    hour, known = deps.warm.listed
    if hour != at_ms // HOUR_MS or not known:
        listings = deps.market_data.listings(Market.SPOT)
        wanted = quote.strip().upper()
        known = tuple(sorted(item.symbol for item in listings if item.quote == wanted and item.status == "TRADING"))
        deps.warm.listed = (at_ms // HOUR_MS, known)
    return known


def beat(deps: Dependencies, component: str, fields: Mapping[str, Any]) -> None:
    """Leave a sign of life for the watchdog and the health page, by this machine's clock."""
    HeartbeatRepository(deps.table).beat(component, deps.clock.now_ms(), dict(fields))


def beat_sparingly(deps: Dependencies, component: str, fields: Mapping[str, Any]) -> None:
    """Leave a sign of life of a component that nobody watches: the health page shows it, and each one is paid for."""
    now_ms = deps.clock.now_ms()
    if now_ms - deps.warm.beats.get(component, -SPARE_BEAT_MS) >= SPARE_BEAT_MS:
        deps.warm.beats[component] = now_ms
        beat(deps, component, fields)


def bars_of(deps: Dependencies) -> BarRepository:
    return BarRepository(deps.table, retention_s=_retention_s(deps))


def charts_of(deps: Dependencies) -> ChartRepository:
    return ChartRepository(deps.table, retention_s=_retention_s(deps))


def features_of(deps: Dependencies) -> FeatureRepository:
    return FeatureRepository(deps.table, retention_s=_retention_s(deps))


def open_interest_of(deps: Dependencies) -> OpenInterestRepository:
    return OpenInterestRepository(deps.table, retention_s=_retention_s(deps))


def ratios_of(deps: Dependencies) -> RatioRepository:
    return RatioRepository(deps.table, retention_s=_retention_s(deps))


def readings_of(deps: Dependencies) -> ReadingRepository:
    return ReadingRepository(deps.table, retention_s=_retention_s(deps))


def _retention_s(deps: Dependencies) -> int:
    return deps.settings.storage.retention_days * DAY_MS // 1000
