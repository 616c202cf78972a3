"""What a job stands on: everything with a side effect, built once at the edge and passed in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from shared.clock import Clock
from shared.detection.reading import Signal
from shared.exchange.market_data import MarketData
from shared.settings import Settings
from shared.storage.table import Table

if TYPE_CHECKING:
    from shared.detection.features import FeatureEngine
    from shared.market.model import Bar
    from shared.storage.objects import ObjectStore
    from shared.storage.windows import Scored

BARS_STORED = "bars.stored"
FEATURES_STORED = "features.stored"
BACKFILL_WANTED = "backfill.wanted"


class Emit(Protocol):
    """Tell the next link of the chain: an EventBridge event, or a call of the next handler on one machine."""

    def __call__(self, detail_type: str, detail: Mapping[str, Any]) -> None: ...


class Alerts(Protocol):
    """The part of the alert service that jobs use."""

    def handle(self, signal: Signal) -> Any: ...

    def redeliver(self, now_ms: int) -> Any: ...

    def settle(self, timeout_s: float) -> bool: ...

    def announce(self, digest: Any, already: Collection[str] = ()) -> Mapping[str, Any]: ...


def drop(detail_type: str, detail: Mapping[str, Any]) -> None:
    """Emit to nobody: for a command that wants a job's work and not its consequences."""


@dataclass(slots=True)
class KeptScores:
    """One symbol's newest scores, read whole at `read_ms` and continued since; `answer` is what they were shown as."""

    read_ms: int
    rows: list[Scored]
    answer: dict[str, Any]


@dataclass(slots=True)
class Warm:
    """What a process keeps between invocations so that it asks the table only for what it lacks.

    Everything here can be dropped at any time: the table holds the same. `lock` is held by whoever uses it, because
    on one machine the handlers run in threads of one process.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    engine: FeatureEngine | None = None
    engine_symbols: tuple[str, ...] = ()
    stored: dict[int, frozenset[str]] = field(default_factory=dict)  # USD-M minute -> symbols known to be stored
    recent: dict[int, dict[str, Bar]] = field(default_factory=dict)  # the newest minutes as they were stored
    history_checked: int = -1  # the hour in which the length of the stored history was last looked at
    listed: tuple[int, tuple[str, ...]] = (-1, ())  # hour of asking, every spot symbol of the wanted quote
    futures_listed: int = -1  # the hour in which the futures listing was last asked for
    listing_stale: bool = False  # a symbol has become unknown: ask for the listing before its hour is over
    funding_hours: tuple[int, Mapping[str, float]] | None = None  # hour of asking, intervals that are not 8 h
    charted_ms: int = -1  # the newest hour whose chart is known to be stored
    scores: dict[str, KeptScores] = field(default_factory=dict)  # spot symbol -> its newest scores, as last shown


@dataclass(frozen=True, slots=True)
class Dependencies:
    settings: Settings
    market_data: MarketData
    table: Table
    alerts: Alerts
    clock: Clock
    objects: ObjectStore | None = None
    emit: Emit = drop
    warm: Warm = field(default_factory=Warm)
    dead_letters: Callable[[], int] | None = None  # counts what the deployment has given up
    live: Callable[[], Mapping[str, Any] | None] | None = None  # the streamer's own state, where it is in this process
