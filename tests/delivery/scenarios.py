"""What is swept: every handler, led up to a run that does its work, and the redelivery that follows it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import boto3
import msgspec
from alert_examples import trade_spike
from aws_faults import Faults
from botocore import UNSIGNED
from botocore.config import Config
from delivery_world import PagingChannel, down
from fakes import START_MS, FakeContext, FakeMarketData
from small_aws import SmallAws
from test_job_sector_chain import SETTINGS as SECTOR_SETTINGS
from test_job_sector_chain import SHOT, make_world

from functions import (
    api,
    backfill,
    features,
    kline_bars,
    open_interest,
    order_book,
    outcomes,
    redelivery,
    report,
    sector,
    volume_spike,
)
from functions import telegram as telegram_function
from functions import watchdog as watchdog_function
from functions.api_access import TokenAccess
from functions.bootstrap import event_bridge
from shared.alerts.channels.channel import Receipt
from shared.alerts.channels.queued import QueueChannel
from shared.alerts.channels.sns import SnsChannel
from shared.alerts.digest import Digest
from shared.alerts.model import Alert
from shared.alerts.queue_end import QueueEnd
from shared.alerts.service import AlertService
from shared.clock import HOUR_MS, MINUTE_MS, ManualClock, iso_utc
from shared.exchange.market_data import OpenInterest
from shared.jobs import watchdog
from shared.jobs.deps import BARS_STORED, FEATURES_STORED, Dependencies
from shared.market.model import Market
from shared.pictures.drawing import Drawing
from shared.settings import (
    AlertSettings,
    OrderBookSettings,
    SectorSettings,
    Settings,
    UniverseSettings,
    VolumeSpikeSettings,
)
from shared.storage import alert_keys
from shared.storage.dynamodb import DynamoTable
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.objects import S3Objects

REGION, TABLE, BUCKET = "eu-central-1", "tapewatch-sweep", "reports"
TOPIC, QUEUE = "arn:aws:sns:eu-central-1:1:alerts", "https://sqs.eu-central-1.amazonaws.com/1/telegram"
_SERVICES = ("dynamodb", "sns", "sqs", "events", "s3")
_ATTEMPTS = {"once": 1, "shipped": 4}
NOW_MS = START_MS + 2 * 60 * MINUTE_MS
SETTINGS = Settings(
    universe=UniverseSettings(spot_symbols=("BTCUSDT",), sectors={}),
    order_book=OrderBookSettings(alert_enabled=True, alert_samples=1),
    sector=SectorSettings(enabled=False),
    alerts=AlertSettings(budget_per_day=100),
)
BACKFILL_SETTINGS = msgspec.structs.replace(
    SECTOR_SETTINGS,
    universe=UniverseSettings(spot_symbols=("BTCUSDT",), sectors={"Privacy": ("XMRUSDT",)}),
    volume_spike=VolumeSpikeSettings(ma_bars=3, rarity_min_history=0),
)


class Cloud:
    """The clients, made once (they are dear), in front of an AWS that each case gets fresh."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.clients = {
            mode: {name: self.faults.attach(_client(name, attempts)) for name in _SERVICES}
            for mode, attempts in _ATTEMPTS.items()
        }


def _client(name: str, attempts: int) -> Any:
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        signature_version=UNSIGNED,
        request_checksum_calculation="when_required",
    )
    return boto3.client(name, region_name=REGION, config=config)


@dataclass
class Case:
    """One AWS, a market, a clock; a topic and a queue with listeners, and a second channel in memory."""

    cloud: Cloud
    aws: SmallAws = field(
        default_factory=lambda: SmallAws(tables={TABLE: {}}, published={TOPIC: []}, queued={QUEUE: []}, remembers=False)
    )
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_MS))
    pager: PagingChannel = field(default_factory=PagingChannel)
    settings: Settings = SETTINGS
    topic: str = TOPIC
    with_queue: bool = False
    phone: list[str] = field(default_factory=list)  # alert ids, as Telegram has shown them
    answers: list[Any] = field(default_factory=list)  # of the API
    market: FakeMarketData = field(init=False)

    def __post_init__(self) -> None:
        self.market = FakeMarketData(self.clock)
        self.cloud.faults.aws = self.aws

    def fork(self) -> Case:
        """Return another case in the same state."""
        pager = replace(self.pager, got=list(self.pager.got), digests=list(self.pager.digests))
        clock = ManualClock(self.clock.now_ms())
        case = replace(self, aws=self.aws.copy(), clock=clock, pager=pager, phone=list(self.phone), answers=[])
        case.market = replace(self.market, clock=clock, calls=Counter(), asked=[])
        return case

    def deps(self, sdk: str = "once") -> Dependencies:
        """One process with nothing warm."""
        clients = self.cloud.clients[sdk]
        table = DynamoTable(clients["dynamodb"], TABLE, sleep=lambda _: None)
        channels: list[Any] = [SnsChannel(clients["sns"], self.topic, self.clock), self.pager]
        if self.with_queue:
            channels[0] = QueueChannel(clients["sqs"], QUEUE, "telegram")
        return Dependencies(
            self.settings,
            self.market,
            table,
            AlertService.on_table(table, channels, self.settings, self.clock),
            self.clock,
            objects=S3Objects(clients["s3"], BUCKET),
            emit=event_bridge(lambda: clients["events"]),
        )

    def redeliver(self) -> None:
        """Let the redelivery job run within ten minutes: after the leases, after a gathering, at the end."""
        deps = self.deps()
        for seconds in (70, 130, 400):
            self.clock.advance(seconds * 1000)
            deps.alerts.redeliver(self.clock.now_ms())

    def heard(self) -> dict[str, Counter[str]]:
        """Return per channel how often each alert arrived."""
        found = {"pager": Counter(self.pager.heard()), "phone": Counter(self.phone)}
        for name, bodies in (("sns", self.aws.published[TOPIC]), ("queue", self.aws.queued[QUEUE])):
            found[name] = Counter(one for body in bodies for one in _ids(json.loads(body)))
        return found

    def rows(self) -> dict[tuple[str, str], Any]:
        """Return what is stored for good: without leases, owners, beats, and the outbox's own traces."""
        kept: dict[tuple[str, str], Any] = {}
        for pk, partition in self.aws.tables[TABLE].items():
            if not pk.startswith(_PASSING):
                for sk, wire in partition.items():
                    if sk == alert_keys.SNAPSHOT_SK or (pk, sk) == ("CHECKPOINTS", "watchdog"):
                        continue  # a picture's bars are made again; the checkpoint holds the last run's notices
                    kept[pk, sk] = {name: value for name, value in wire.items() if name not in _VOLATILE}
        return kept | {("S3", name): data for name, data in self.aws.objects.items()}


_PASSING = ("OUTBOX#", "CHANNELS", "HEARTBEATS", "CHUNKS#", "LATEST#", "BUDGET#", "FAILURES", "BLINDNESS")
_VOLATILE = frozenset({"owner", "version", "expires_at", "written_by", "attempts", "at_ms", "reference"})


def _ids(body: dict[str, Any]) -> list[str]:
    body = body.get("alert", body.get("digest", body))
    return [one["alert_id"] for one in body["alerts"]] if "digest_id" in body else [body["alert_id"]]


Step = Callable[[Case, Dependencies], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prepare` leads up to the run, with nothing failing; `run` is one invocation in one process.

    `after` is what the world does when the run is over (the event bus calls the next link of the chain). `alone` says
    that a lock or the queue itself keeps a second run away, `repeats` how many notices are sent again when the run
    dies, wherever it dies.
    """

    name: str
    prepare: Callable[[Case], None]
    run: Step
    after: Callable[[Case], None] = lambda case: None
    alone: bool = False
    repeats: int = 0
    hints: frozenset[int] = frozenset()
    """Calls for something that may be lacking: the row then says "unknown"."""


def _handler(module: Any, **detail: Any) -> Step:
    def run(case: Case, deps: Dependencies) -> None:
        event = {"scheduled_time": iso_utc(case.clock.now_ms() // MINUTE_MS * MINUTE_MS), **detail}
        module.make_handler(lambda: deps)(event, FakeContext())

    return run


# --- one signal, and what is pending -----------------------------------------------------------------------------
def _nothing(case: Case) -> None:
    return None


def _with_queue(case: Case) -> None:
    case.with_queue = True


def _handle(case: Case, deps: Dependencies) -> None:
    deps.alerts.handle(trade_spike(NOW_MS, "BTCUSDT"))


def _pending(case: Case) -> None:
    """Two alerts that neither channel took."""
    case.pager.error, case.topic = down(), TOPIC + "-gone"
    deps = case.deps()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        deps.alerts.handle(trade_spike(NOW_MS, symbol))
    case.pager.error, case.topic = None, TOPIC
    case.clock.set(NOW_MS + 130_000)


def _old(case: Case) -> None:
    """Alerts that are too old to be sent one by one."""
    _pending(case)
    case.clock.set(NOW_MS + 20 * MINUTE_MS)


# --- minute jobs ---------------------------------------------------------------------------------------------------
def _spiking(case: Case) -> None:
    case.market.fill(Market.SPOT, "BTCUSDT", NOW_MS - 60 * MINUTE_MS, NOW_MS)
    case.market.change(Market.SPOT, "BTCUSDT", NOW_MS - MINUTE_MS, volume=500.0)
    case.clock.set(NOW_MS + 2_000)


def _leaning(case: Case) -> None:
    case.market.book("BTCUSDT", 100.0, 1.0)
    case.clock.set(NOW_MS + 500)


def _silent(case: Case) -> None:
    """Everything alive but the streamer, which was last seen six minutes ago."""
    deps = case.deps()
    beats = HeartbeatRepository(deps.table)
    case.clock.set(NOW_MS - 8 * MINUTE_MS)
    beats.beat("streamer", case.clock.now_ms())
    for seconds in (-300, -150, -10):
        case.clock.set(NOW_MS + seconds * 1000)
        for name in ("volume-spike", "order-book"):
            beats.beat(name, case.clock.now_ms())
        if seconds < -10:
            watchdog.run(deps, scheduled_ms=case.clock.now_ms())
    case.clock.set(NOW_MS)


def _told(case: Case) -> None:
    """An alert whose hour is over."""
    case.market.fill(Market.SPOT, "BTCUSDT", NOW_MS - 14 * 60 * MINUTE_MS, NOW_MS)
    case.clock.set(NOW_MS - 70 * MINUTE_MS)
    case.deps().alerts.handle(trade_spike(case.clock.now_ms(), "BTCUSDT"))
    case.clock.set(NOW_MS)


def _backfilled(case: Case) -> None:
    """A pair and two contracts, listed twelve minutes ago; all but the last three minutes are stored."""
    case.settings = BACKFILL_SETTINGS
    for market, symbol in ((Market.SPOT, "BTCUSDT"), (Market.USDM, "BTCUSDT"), (Market.USDM, "XMRUSDT")):
        case.market.fill(market, symbol, NOW_MS - 12 * MINUTE_MS, NOW_MS)
    case.clock.set(NOW_MS - 3 * MINUTE_MS + 5_000)
    _handler(backfill, hours=0.5)(case, case.deps())
    case.clock.set(NOW_MS + 5_000)


# --- the chain of a sector's minute --------------------------------------------------------------------------------
_LINKS = {BARS_STORED: features, FEATURES_STORED: sector}


def _bus(case: Case) -> None:
    """Call the next links of the chain with what was emitted, each in a process of its own."""
    while case.aws.events:
        entry = case.aws.events.pop(0)
        if entry["DetailType"] in _LINKS:
            _link(entry)(case, case.deps())


def _link(entry: dict[str, Any]) -> Step:
    event = {"detail-type": entry["DetailType"], "time": iso_utc(SHOT), "detail": json.loads(entry["Detail"])}

    def run(case: Case, deps: Dependencies) -> None:
        _LINKS[entry["DetailType"]].make_handler(lambda: deps)(event, FakeContext())

    return run


def _before_the_shot(case: Case) -> None:
    """Every minute up to the one of a sector's initiator has been decided."""
    world = make_world()
    world.table.close()
    case.settings = msgspec.structs.replace(SECTOR_SETTINGS, alerts=AlertSettings(budget_per_day=100))
    case.market = replace(world.market, clock=case.clock)
    case.clock.set(SHOT + 1_500)
    _handler(kline_bars)(case, case.deps())
    _bus(case)
    case.clock.set(SHOT + MINUTE_MS + 1_500)


def _before_link(links: int) -> Callable[[Case], None]:
    def prepare(case: Case) -> None:
        _before_the_shot(case)
        _handler(kline_bars)(case, case.deps())
        for _ in range(links):
            entry = case.aws.events.pop(0)
            _link(entry)(case, case.deps())

    return prepare


def _run_link(case: Case, deps: Dependencies) -> None:
    kind = FEATURES_STORED if case.aws.tables[TABLE]["FEATURES"].get(f"{SHOT:015d}") else BARS_STORED
    detail = {"minute_ms": SHOT} | ({"changed_from_ms": None} if kind == BARS_STORED else {})
    _link({"DetailType": kind, "Detail": json.dumps(detail)})(case, deps)


def _interest(case: Case) -> None:
    case.settings = SECTOR_SETTINGS
    case.clock.set(NOW_MS + 5_000)
    for number, symbol in enumerate(("BTCUSDT", "ZECUSDT", "DASHUSDT", "XMRUSDT")):
        case.market.interest[symbol] = [OpenInterest(symbol, 100.0 + number, NOW_MS)]


# --- report, API, Telegram behind its queue ------------------------------------------------------------------------
def _eventful(case: Case) -> None:
    _spiking(case)
    _handler(volume_spike)(case, case.deps())
    case.deps().alerts.handle(trade_spike(NOW_MS, "ETHUSDT"))
    case.clock.set(NOW_MS + MINUTE_MS + 5_000)


def _reads(case: Case, deps: Dependencies) -> None:
    """One request of each kind; each must be answered, whatever the state does."""
    handle = api.make_handler(lambda: deps, TokenAccess(lambda: None, open_reads=True))
    for path in _PATHS:
        case.answers.append((path, *_asked(handle, "GET", path)))


def _changes(case: Case, deps: Dependencies) -> None:
    handle = api.make_handler(lambda: deps, TokenAccess(lambda: "t" * 20))
    case.answers.append(("POST", *_asked(handle, "POST", "/api/mutes", '{"symbol": "BTCUSDT", "for": "1h"}')))


_PATHS = (
    "get_signal", "signals", "alerts", f"alerts/{'a' * 64}", "bars/BTCUSDT", "features", "windows/BTCUSDT",
    "windows/BTCUSDT/scores", "order-book/BTCUSDT", "health", "summary", "cooldowns", "quality", "universe", "mutes",
)  # fmt: skip


def _asked(handle: Any, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    path = path if path.startswith("/") else f"/api/{path}"
    answer = handle(
        {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {"host": "localhost", "x-api-key": "t" * 20},
            "requestContext": {"http": {"method": method, "path": path}, "stage": "$default", "requestId": "1"},
            "body": body,
            "isBase64Encoded": False,
        },
        FakeContext(),
    )
    return answer["statusCode"], answer["body"]


@dataclass
class Phone:
    """Telegram's end: shows texts, then asks for the picture as the channel does."""

    case: Case
    drawing: Drawing
    name: str = "telegram"
    fingerprint: str = "here"

    def send(self, alert: Alert) -> Receipt:
        self.case.phone.append(alert.alert_id)
        return Receipt("1")

    def send_digest(self, digest: Digest) -> None:
        raise AssertionError("none is queued")

    def follow_up(self, alert: Alert, receipt: Receipt) -> None:
        from shared.alerts.channels.telegram import TelegramChannel
        from shared.telegram.limits import ChatLimits

        channel = TelegramChannel(Any, 1, ChatLimits(self.case.clock), picture=self._draw)  # type: ignore[arg-type]
        channel.follow_up(alert, receipt)

    def _draw(self, alert: Alert) -> None:
        self.drawing.svg(alert)


def _queued(case: Case) -> None:
    """Two alerts wait in Telegram's queue."""
    case.market.fill(Market.SPOT, "BTCUSDT", NOW_MS - 3 * HOUR_MS, NOW_MS + HOUR_MS)
    case.with_queue = True
    deps = case.deps()
    for trade in (1, 2):
        deps.alerts.handle(replace(trade_spike(NOW_MS, f"{'BTC' if trade == 1 else 'ETH'}USDT"), trade_id=trade))


def _take_queue(case: Case, deps: Dependencies) -> None:
    """One invocation by the queue: what is answered for, or all when it dies, comes again."""
    bodies = list(case.aws.queued[QUEUE])
    event = {"Records": [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]}
    end = QueueEnd(Phone(case, Drawing(deps.table, case.market)), deps.alerts.delivery, QUEUE)
    answer = telegram_function.make_handler(lambda: end)(event, FakeContext())
    left = {int(one["itemIdentifier"]) for one in answer["batchItemFailures"]}
    case.aws.queued[QUEUE] = [body for number, body in enumerate(bodies) if number in left]


SCENARIOS: Sequence[Scenario] = (
    Scenario("streamer: one signal", _nothing, _handle),
    Scenario("one signal, Telegram's queue", _with_queue, _handle),
    Scenario("volume_spike", _spiking, _handler(volume_spike)),
    Scenario("order_book", _leaning, _handler(order_book)),
    Scenario("kline_bars", _before_the_shot, _handler(kline_bars), _bus),
    Scenario("features", _before_link(0), _run_link, _bus),
    Scenario("sector", _before_link(1), _run_link, _bus, hints=frozenset({2})),  # the liquidations
    Scenario("open_interest", _interest, _handler(open_interest)),
    Scenario("backfill", _backfilled, _handler(backfill, hours=0.5)),
    Scenario("watchdog", _silent, _handler(watchdog_function)),
    Scenario("redelivery, one by one", _pending, _handler(redelivery)),
    Scenario("redelivery, a digest", _old, _handler(redelivery)),
    Scenario("outcomes", _told, _handler(outcomes)),
    Scenario("report", _eventful, _handler(report, since="24h")),
    Scenario("telegram, from its queue", _queued, _take_queue, alone=True, repeats=2),
    Scenario("api, 15 reads", _eventful, _reads, alone=True),
    Scenario("api, a mute", _eventful, _changes, alone=True),
)
