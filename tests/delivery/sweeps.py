"""The sweeps: every AWS call of a run failed once in every way, every call interrupted by another whole run.

A case prepares a fresh emulator, runs a handler with one fault, then does what the schedules do: the same event
again, and ten minutes of redelivery. Lost is an event that a channel never heard of, a duplicate one it heard twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import boto3
import botocore.endpoint
from alert_examples import trade_spike
from aws_faults import KINDS, Faults, Killed
from botocore.config import Config
from delivery_world import PagingChannel, down
from fakes import START_MS, FakeContext, FakeMarketData
from moto import mock_aws

from functions import order_book, outcomes, redelivery, volume_spike
from functions import watchdog as watchdog_function
from shared.alerts.channels.sns import SnsChannel
from shared.alerts.service import AlertService
from shared.clock import MINUTE_MS, ManualClock, iso_utc
from shared.jobs import watchdog
from shared.jobs.deps import Dependencies
from shared.market.model import Market
from shared.settings import AlertSettings, OrderBookSettings, SectorSettings, Settings, UniverseSettings
from shared.storage.dynamodb import DynamoTable
from shared.storage.heartbeats import HeartbeatRepository

REGION = "eu-central-1"
TABLE = "tapewatch-sweep"
ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1})
SHIPPED = Config(retries={"mode": "standard", "total_max_attempts": 4})
NOW_MS = START_MS + 2 * 60 * MINUTE_MS
SETTINGS = Settings(
    universe=UniverseSettings(spot_symbols=("BTCUSDT",), sectors={}),
    order_book=OrderBookSettings(alert_enabled=True, alert_samples=1),
    sector=SectorSettings(enabled=False),
    alerts=AlertSettings(budget_per_day=100),
)


class Cloud:
    """Clients made once (they are dear), on an emulator that each case gets fresh."""

    def __init__(self) -> None:
        self.faults = Faults()
        # Importing moto first has put its handler into every client that is made from here on.
        self.clean = {name: boto3.client(name, region_name=REGION, config=ONCE) for name in ("dynamodb", "sns", "sqs")}
        self.faulty = {
            mode: {
                name: self.faults.attach(boto3.client(name, region_name=REGION, config=config), name)
                for name in ("dynamodb", "sns")
            }
            for mode, config in (("once", ONCE), ("shipped", SHIPPED))
        }

    @contextmanager
    def fresh(self) -> Iterator[Case]:
        with mock_aws():
            self.clean["dynamodb"].create_table(
                TableName=TABLE,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
                AttributeDefinitions=[
                    {"AttributeName": "pk", "AttributeType": "S"},
                    {"AttributeName": "sk", "AttributeType": "S"},
                ],
            )
            topic = self.clean["sns"].create_topic(Name="alerts")["TopicArn"]
            queue = self.clean["sqs"].create_queue(QueueName="listener")["QueueUrl"]
            arn = self.clean["sqs"].get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
            self.clean["sns"].subscribe(
                TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"],
                Attributes={"RawMessageDelivery": "true"},
            )  # fmt: skip
            try:
                yield Case(self, topic, queue)
            finally:
                self.faults.disarm()


@dataclass
class Case:
    """One emulator: a state, a topic with a listener, a second channel in memory, a market."""

    cloud: Cloud
    topic: str
    queue: str
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_MS))
    pager: PagingChannel = field(default_factory=PagingChannel)

    def __post_init__(self) -> None:
        self.market = FakeMarketData(self.clock)

    def deps(self, mode: str = "") -> Dependencies:
        """One process with nothing warm; with a mode, its clients are the ones that fail."""
        clients = self.cloud.faulty[mode] if mode else self.cloud.clean
        table = DynamoTable(clients["dynamodb"], TABLE, sleep=lambda _: None)
        channels = [SnsChannel(clients["sns"], self.topic, self.clock), self.pager]
        alerts = AlertService.on_table(table, channels, SETTINGS, self.clock)
        return Dependencies(SETTINGS, self.market, table, alerts, self.clock)

    def redeliver(self) -> None:
        """Let the redelivery job run within ten minutes: after the leases, after a gathering, at the end."""
        deps = self.deps()
        for seconds in (70, 130, 400):
            self.clock.advance(seconds * 1000)
            deps.alerts.redeliver(self.clock.now_ms())

    def heard(self) -> dict[str, Counter[str]]:
        """Return per channel how often each alert arrived."""
        sqs: Counter[str] = Counter()
        while True:
            got = self.cloud.clean["sqs"].receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)
            if not got.get("Messages"):
                break
            for message in got["Messages"]:
                body = json.loads(message["Body"])
                ids = [one["alert_id"] for one in body["alerts"]] if "digest_id" in body else [body["alert_id"]]
                sqs.update(ids)
                self.cloud.clean["sqs"].delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return {"sns": sqs, "pager": Counter(self.pager.heard())}


@dataclass(frozen=True)
class Scenario:
    """`prepare` leads up to the run, with nothing failing; `run` is one invocation in one process."""

    name: str
    prepare: Callable[[Case], None]
    run: Callable[[Case, Dependencies], None]


def _handler(module: Any) -> Callable[[Case, Dependencies], None]:
    def run(case: Case, deps: Dependencies) -> None:
        module.make_handler(lambda: deps)({"scheduled_time": iso_utc(NOW_MS)}, FakeContext())

    return run


def _spiking(case: Case) -> None:
    case.market.fill(Market.SPOT, "BTCUSDT", NOW_MS - 60 * MINUTE_MS, NOW_MS)
    case.market.change(Market.SPOT, "BTCUSDT", NOW_MS - MINUTE_MS, volume=500.0)
    case.clock.set(NOW_MS + 2_000)


def _leaning(case: Case) -> None:
    case.market.book("BTCUSDT", 100.0, 1.0)
    case.clock.set(NOW_MS + 500)


def _pending(case: Case) -> None:
    """Two alerts that neither channel took."""
    case.pager.error = down()
    real, case.topic = case.topic, case.topic + "-gone"
    deps = case.deps()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        deps.alerts.handle(trade_spike(NOW_MS, symbol))
    case.pager.error, case.topic = None, real
    case.clock.set(NOW_MS + 130_000)


def _old(case: Case) -> None:
    """Alerts that are too old to be sent one by one."""
    _pending(case)
    case.clock.set(NOW_MS + 20 * MINUTE_MS)


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


def _handle(case: Case, deps: Dependencies) -> None:
    deps.alerts.handle(trade_spike(NOW_MS, "BTCUSDT"))


SCENARIOS = (
    Scenario("streamer: one signal", lambda case: None, _handle),
    Scenario("volume_spike", _spiking, _handler(volume_spike)),
    Scenario("order_book", _leaning, _handler(order_book)),
    Scenario("watchdog", _silent, _handler(watchdog_function)),
    Scenario("redelivery, one by one", _pending, _handler(redelivery)),
    Scenario("redelivery, a digest", _old, _handler(redelivery)),
    Scenario("outcomes", _told, _handler(outcomes)),
)


@dataclass
class Row:
    """One line of the table."""

    scenario: str
    sdk: str
    fault: str
    cases: int = 0
    lost: int = 0
    duplicates: int = 0
    allowed: int = 0

    def cells(self) -> tuple[str, ...]:
        return (self.scenario, self.sdk, self.fault, *map(str, (self.cases, self.lost, self.duplicates, self.allowed)))


def expected(cloud: Cloud, scenario: Scenario) -> tuple[int, dict[str, set[str]]]:
    """Run without a fault: how many calls it makes, and what each channel must hear."""
    with cloud.fresh() as case:
        scenario.prepare(case)
        deps = case.deps("once")
        cloud.faults.arm()
        scenario.run(case, deps)
        calls = cloud.faults.calls
        cloud.faults.disarm()
        case.redeliver()
        heard = case.heard()
        twice = [one for counts in heard.values() for one, count in counts.items() if count > 1]
        if twice:
            raise AssertionError(f"{scenario.name}: twice without any fault")
        return calls, {channel: set(counts) for channel, counts in heard.items()}


def call_sweep(
    cloud: Cloud, scenario: Scenario, kinds: Iterable[str] = KINDS, *, sdk: str = "once", every: int = 1
) -> list[Row]:
    """Fail every call once in every way; `every` 3 takes each third call."""
    calls, wanted = expected(cloud, scenario)
    rows = []
    with _impatient():
        for kind in kinds:
            row = Row(scenario.name, sdk, kind)
            for at in range(0, calls, every):
                with cloud.fresh() as case:
                    scenario.prepare(case)
                    deps = case.deps(sdk)
                    cloud.faults.arm(at, kind)
                    with suppress(Exception, Killed):
                        scenario.run(case, deps)
                    cloud.faults.disarm()
                    operation = cloud.faults.operations[at] if at < len(cloud.faults.operations) else ""
                    with suppress(Exception):
                        scenario.run(case, case.deps())  # the schedule's retry, or the next run
                    case.redeliver()
                    _count(row, case, wanted, _allowed(kind, operation))
            rows.append(row)
    return rows


def interleaving_sweep(cloud: Cloud, scenario: Scenario, *, every: int = 1) -> Row:
    """At each call of run A, run B from start to end."""
    calls, wanted = expected(cloud, scenario)
    row = Row(scenario.name, "once", "another run")
    for at in range(0, calls, every):
        with cloud.fresh() as case:
            scenario.prepare(case)
            deps = case.deps("once")
            cloud.faults.arm(at, instead=lambda case=case: scenario.run(case, case.deps()))
            scenario.run(case, deps)
            cloud.faults.disarm()
            case.redeliver()
            _count(row, case, wanted, 0)
    return row


def _count(row: Row, case: Case, wanted: dict[str, set[str]], allowed: int) -> None:
    heard = case.heard()
    row.cases += 1
    row.allowed += allowed
    for channel, ids in wanted.items():
        row.lost += len(ids - set(heard[channel]))
        row.duplicates += sum(count - 1 for count in heard[channel].values() if count > 1)


def _allowed(kind: str, operation: str) -> int:
    """Faults between "accepted by the channel" and "noted as sent"; a forged answer is one wherever it falls."""
    if kind == "garbage":
        return 2
    if kind == "lost after":
        return int(operation == "Publish") * 2  # a digest of two alerts is one notification of two
    if kind.startswith("kill"):
        return 2 if operation in ("Publish", "TransactWriteItems") else 0
    return 0


@contextmanager
def _impatient() -> Iterator[None]:
    """Let the SDK's own retries come at once."""
    real = botocore.endpoint.time.sleep
    botocore.endpoint.time.sleep = lambda _: None
    try:
        yield
    finally:
        botocore.endpoint.time.sleep = real


def table(rows: Iterable[Row]) -> str:
    """Return the rows as aligned text."""
    lines = [("scenario", "sdk", "fault", "cases", "lost", "duplicates", "allowed"), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
