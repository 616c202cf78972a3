"""The functions of the deployment: what starts each, what it may do, how large it is. Data, no resources."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto

from shared.settings import Settings

BARS_STORED, FEATURES_STORED, BACKFILL_WANTED = "bars.stored", "features.stored", "backfill.wanted"
MANY_SYMBOLS = 50


class Right(Flag):
    """What a function may do; each becomes explicit actions on one named resource."""

    READ = auto()
    WRITE = auto()
    PUBLISH = auto()
    EMIT = auto()
    STORE = auto()


ALERTING = Right.READ | Right.WRITE | Right.PUBLISH


@dataclass(frozen=True, slots=True)
class Job:
    """One function. `every_minutes`, `cron` or `on` (the detail type of an event) starts it.

    `alone`: a second copy at the same time would do the same work again, so one may run at once.
    """

    name: str
    rights: Right
    every_minutes: int | None = None
    cron: str | None = None
    on: str | None = None
    memory_mb: int = 256
    timeout_s: int = 50
    alone: bool = False

    @property
    def module(self) -> str:
        return f"functions.{self.name.replace('-', '_')}"

    @property
    def handler(self) -> str:
        return f"{self.module}.lambda_handler"

    @property
    def id(self) -> str:
        """Return the construct's id, which never changes: another one would replace the resource."""
        return "".join(word.capitalize() for word in self.name.split("-"))


def jobs(settings: Settings) -> tuple[Job, ...]:
    """Return the functions that these settings need."""
    many = settings.universe.all is not None or len(settings.universe.spot_symbols) > MANY_SYMBOLS
    spot_mb = 512 if many else 256
    many_futures = settings.universe.futures_all or len(settings.futures_symbols) > MANY_SYMBOLS
    futures_mb = 1024 if many_futures else 256
    found = []
    if settings.volume_spike.enabled:
        found.append(Job("volume-spike", ALERTING | Right.EMIT, every_minutes=1, memory_mb=spot_mb))
    if settings.order_book.enabled:
        minutes = max(1, settings.order_book.interval_seconds // 60)
        found.append(Job("order-book", ALERTING, every_minutes=minutes, memory_mb=spot_mb))
    if settings.sector.enabled:
        chain = Right.READ | Right.WRITE | Right.EMIT
        found += [
            Job("kline-bars", chain, every_minutes=1, memory_mb=futures_mb, alone=True),
            Job("features", chain, on=BARS_STORED, memory_mb=futures_mb, alone=True),
            Job("sector", ALERTING, on=FEATURES_STORED, memory_mb=futures_mb, alone=True),
        ]
        if settings.sector.open_interest_minutes:
            own = Right.READ | Right.WRITE
            found.append(Job("open-interest", own, every_minutes=1, memory_mb=futures_mb, alone=True))
    found += [
        Job(
            "backfill",
            Right.READ | Right.WRITE,
            on=BACKFILL_WANTED,
            memory_mb=max(512, futures_mb),
            timeout_s=900,
            alone=True,
        ),
        Job("redelivery", ALERTING, every_minutes=1, alone=True),
        Job("watchdog", ALERTING, every_minutes=1, alone=True),
        Job("outcomes", Right.READ | Right.WRITE, every_minutes=5, alone=True),
        Job("report", Right.READ | Right.STORE | Right.PUBLISH, cron="5 0 * * ? *", memory_mb=512, timeout_s=300),
    ]
    return tuple(found)


def canary(known: tuple[Job, ...]) -> Job:
    """Return the job that is throttled first when the account's concurrency is used up: each minute, nothing reserved.

    Where every one has a reserved copy, the watchdog stands for them.
    """
    free = [job for job in known if job.every_minutes == 1 and not job.alone]
    return free[0] if free else next(job for job in known if job.name == "watchdog")
