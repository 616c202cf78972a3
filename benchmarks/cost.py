"""What a month on AWS costs: counts what a run over the local exchange really does, times a dated price table.

    python -m benchmarks.cost [--seconds 60] [--json FILE]

Counted: DynamoDB units by the 1 KB and 4 KB rules, calls, log bytes, events, and the processor time of each function,
in a process of its own beside the exchange. A function's duration is its processor time at the share of a processor
that its memory buys (1,769 MB are one), plus its waits: 40 ms a round of REST calls, 6 ms a call of the table. Not
counted, because they cost cents at most: data transfer, S3, the page, the streamer's flow logs of refused packets.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import math
import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.metered import MeteredTable
from infra.jobs import WATCHED_FOR_ERRORS, jobs
from infra.pace import paced
from shared.clock import MINUTE_MS, SystemClock, floor_minute_ms, iso_utc
from shared.settings import Settings
from shared.settings_loader import parse_settings

REGIONS = ("us-east-1", "eu-central-1", "ap-northeast-1")
PRICES: dict[str, tuple[float, float, float]] = {  # US dollars, 2026-07 to 2026-11; check at release
    "lambda_gb_s": (0.0000133334,) * 3,
    "lambda_requests_m": (0.20,) * 3,
    "write_units_m": (0.625, 0.7625, 0.715),
    "read_units_m": (0.125, 0.1525, 0.1425),
    "fargate_vcpu_h": (0.03238, 0.03725, 0.04045),
    "fargate_gb_h": (0.00356, 0.00409, 0.00442),
    "logs_gb": (0.50, 0.63, 0.76),
    "ipv4_h": (0.005,) * 3,
    "alarm": (0.10,) * 3,
    "metric": (0.30,) * 3,
    "sns_m": (0.50,) * 3,
    "email_100k": (2.00,) * 3,
    "scheduler_m": (1.00,) * 3,  # after 14 million free a month
    "events_m": (1.00,) * 3,
}
FREE_GB_S, FREE_REQUESTS = 400_000, 1_000_000  # CloudWatch's: 10 metrics, 10 alarms, 5 GB of logs an account
HOURS, MINUTES = 730, 43_800
ROUND_TRIP_S, TABLE_CALL_S = 0.040, 0.006
FULL_PROCESSOR_MB = 1769
LAMBDA_LOG_BYTES = 120  # of CloudWatch's own around each line
ALERTS_A_MONTH = 300  # ten a day, each to one e-mail address
METRICS_ALWAYS, METRICS_AT_TIMES = 2, 1  # the second is charged by the hours in which something happens: here all
OTHER_ALARMS = 5  # beside one metric for each function of the errors' alarm
TARGETS = {"default": 15.0, "whole market": 45.0}


@dataclass
class Measured:
    """A month of one deployment, counted."""

    name: str
    gb_s: float = 0.0
    requests: float = 0.0
    write_units: float = 0.0
    read_units: float = 0.0
    log_bytes: float = 0.0
    scheduled: float = 0.0
    events: float = 0.0
    functions: dict[str, dict[str, float]] = field(default_factory=dict)
    streamer: dict[str, float] = field(default_factory=dict)
    alarm_metrics: int = 0


# --- the market, in a process of its own -------------------------------------------------------------------------
def serve(spot: int, futures: int, start_ms: int, address: Any) -> None:
    from local.exchange.market import SimulatedMarket
    from local.exchange.server import LocalExchange

    exchange = LocalExchange(SimulatedMarket(5, start_ms, symbols=listing(spot, futures)), SystemClock())
    exchange.start()
    address.put((exchange.rest_url, exchange.ws_url))
    threading.Event().wait()


def listing(spot: int, futures: int) -> list[Any]:
    from dataclasses import replace

    from local.exchange.universe import default_symbols
    from shared.market.model import Market

    known = default_symbols()
    made: list[Any] = []
    for market, count in ((Market.SPOT, spot), (Market.USDM, futures)):
        own = [one for one in known if one.instrument.market is market]
        made += own
        model = own[-1]
        for number in range(count - len(own)):
            name = f"C{number:04d}"
            instrument = replace(model.instrument, symbol=f"{name}USDT", base=name)
            made.append(replace(model, instrument=instrument, trades_per_hour=240))
    return made


def settings_of(name: str, rest_url: str, ws_url: str) -> Settings:
    exchange = {"spot_rest_url": rest_url, "futures_rest_url": rest_url, "spot_ws_url": ws_url,
                "futures_ws_url": ws_url}  # fmt: skip
    tree: dict[str, Any] = {"exchange": exchange, "alerts": {"sns": {"enabled": False}}}
    if name == "whole market":
        coins = [f"C{number:04d}USDT" for number in range(492)]
        sectors = {f"S{number:02d}": coins[number::30] for number in range(30)}
        tree["universe"] = {"spot_symbols": [one.instrument.symbol for one in listing(500, 0) if
                                             one.instrument.market.value == "spot"], "sectors": sectors}  # fmt: skip
    return paced(parse_settings(tree))


# --- counting ----------------------------------------------------------------------------------------------------
class Logs(io.StringIO):
    """Counts what is written instead of keeping it."""

    count = 0

    def write(self, text: str) -> int:
        self.count += len(text.encode()) + (LAMBDA_LOG_BYTES if text.strip() else 0)
        return len(text)


def dependencies(settings: Settings, table: MeteredTable, calls: Counter[str], emitted: list[Any]) -> Any:
    from shared.alerts.service import AlertService
    from shared.exchange.binance.rest import BinanceMarketData
    from shared.exchange.binance.transport import RequestsTransport
    from shared.jobs.deps import Dependencies
    from shared.storage.not_before import NotBeforeRepository

    clock = SystemClock()
    transport = RequestsTransport(settings.exchange.max_connections)
    plain = transport.get

    def counted(*words: Any, **more: Any) -> Any:
        calls["rest"] += 1
        return plain(*words, **more)

    transport.get = counted  # type: ignore[method-assign]
    market_data = BinanceMarketData(settings.exchange, transport, clock, ban_store=NotBeforeRepository(table))
    return Dependencies(
        settings=settings,
        market_data=market_data,
        table=table,
        alerts=AlertService.on_table(table, [], settings, clock),
        clock=clock,
        emit=lambda kind, detail: emitted.append((kind, dict(detail))),
    )


def fill_history(deps: Any, minutes: int, until_ms: int) -> None:
    """Store bars as a deployment that has run for a while has them; not counted."""
    from dataclasses import replace

    from benchmarks.speed import minute_bars
    from shared.jobs.common import bars_of
    from shared.market.model import Market

    store = bars_of(deps)
    for market, symbols in (
        (Market.USDM, deps.settings.futures_symbols),
        (Market.SPOT, deps.settings.universe.spot_symbols),
    ):
        for number, (_, row) in enumerate(minute_bars(list(symbols), minutes)):
            open_ms = until_ms - (minutes - number) * MINUTE_MS
            moved = {
                name: replace(bar, market=market, open_ms=open_ms, close_ms=open_ms + MINUTE_MS - 1)
                for name, bar in row.items()
            }
            store.put_minute(market, open_ms, moved)


def measure_jobs(name: str, settings: Settings, result: Measured, rounds: int) -> None:
    import importlib

    from shared.storage.sqlite import SqliteTable

    table, calls, emitted = MeteredTable(SqliteTable(":memory:")), Counter[str](), list[Any]()
    deps = dependencies(settings, table, calls, emitted)
    first_ms = floor_minute_ms(time.time_ns() // 1_000_000) - rounds * MINUTE_MS
    fill_history(deps, 1000, first_ms - MINUTE_MS)
    known = jobs(settings)
    handlers: dict[str, Callable[[Any, Any], Any]] = {
        job.name: importlib.import_module(job.module).make_handler(lambda: deps)
        for job in known
        if job.name not in ("backfill", "report")
    }
    sums: dict[str, Counter[str]] = {job: Counter() for job in handlers}
    logs = Logs()
    for one in logging.getLogger("tapewatch").handlers:
        one.setStream(logs)  # type: ignore[attr-defined]

    def run(job: str, event: dict[str, Any], counted: bool) -> None:
        before, rest, said, began = Counter(table.counts), calls["rest"], logs.count, time.process_time()
        with redirect_stderr(logs):
            handlers[job](event, Context())
        if counted:
            spent = sums[job]
            spent["cpu_us"] += round((time.process_time() - began) * 1e6)
            spent["runs"] += 1
            spent["rest"] += calls["rest"] - rest
            spent["log"] += logs.count - said
            for key, value in (table.counts - before).items():
                spent[key] += value

    chain = {job.on: job.name for job in known if job.on}
    for number in range(rounds):
        at = iso_utc(first_ms + number * MINUTE_MS)
        for job in known:
            if job.name in handlers and job.on is None:
                run(job.name, {"job": job.name, "scheduled_time": at}, number > 0)
                while emitted:
                    kind, detail = emitted.pop(0)
                    if chain.get(kind) in handlers:
                        run(chain[kind], {"time": at, "detail-type": kind, "detail": detail}, number > 0)
                        result.events += MINUTES if number == rounds - 1 else 0
    for job in known:
        if job.name in handlers and sums[job.name]["runs"]:
            add_job(result, job, sums[job.name], settings)


class Context:
    function_name = "tapewatch"
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:tapewatch"
    aws_request_id = "1"

    def get_remaining_time_in_millis(self) -> int:
        return 50_000


def add_job(result: Measured, job: Any, spent: Counter[str], settings: Settings) -> None:
    runs = spent["runs"]
    month = MINUTES / (job.every_minutes or 1)
    waits = math.ceil(spent["rest"] / runs / settings.exchange.max_connections) * ROUND_TRIP_S
    waits += spent["calls"] / runs * TABLE_CALL_S
    seconds = spent["cpu_us"] / runs / 1e6 * FULL_PROCESSOR_MB / job.memory_mb + waits
    result.gb_s += month * seconds * job.memory_mb / 1024
    result.requests += month
    result.scheduled += month if job.every_minutes else 0
    result.write_units += month * spent["write_units"] / runs
    result.read_units += month * spent["half_read_units"] / runs / 2
    result.log_bytes += month * spent["log"] / runs
    result.functions[job.name] = {
        "billed_s": round(seconds, 3),
        "cpu_s": round(spent["cpu_us"] / runs / 1e6, 4),
        "rest_calls": spent["rest"] / runs,
        "write_units": round(spent["write_units"] / runs, 2),
        "read_units": round(spent["half_read_units"] / runs / 2, 2),
        "log_bytes": round(spent["log"] / runs),
    }
    result.alarm_metrics += job.name in WATCHED_FOR_ERRORS


def measure_streamer(settings: Settings, result: Measured, seconds: float) -> None:
    from shared.exchange.binance.rest import BinanceMarketData
    from shared.exchange.binance.transport import RequestsTransport
    from shared.storage.sqlite import SqliteTable
    from streamer.service import StreamerService

    class Sink:
        def handle(self, signal: Any) -> None: ...

    clock, table = SystemClock(), MeteredTable(SqliteTable(":memory:"))
    market_data = BinanceMarketData(settings.exchange, RequestsTransport(8), clock)
    service = StreamerService(settings, market_data, Sink(), table, clock, symbols=settings.universe.spot_symbols)
    logs = Logs()
    with redirect_stderr(logs):
        service.run_in_thread()
        ready_by = time.monotonic() + 120
        while service.status()["state"] != "live" and time.monotonic() < ready_by:
            time.sleep(0.5)
        time.sleep(22)  # the first window has closed
        before, began, cpu, said = Counter(table.counts), time.monotonic(), time.process_time(), logs.count
        time.sleep(seconds)
        took, spent = time.monotonic() - began, table.counts - before
        used = (time.process_time() - cpu) / took
        result.log_bytes += (logs.count - said) / took * HOURS * 3600
        service.stop(10)
    month = HOURS * 3600 / took
    result.write_units += spent["write_units"] * month
    result.read_units += spent["half_read_units"] / 2 * month
    result.streamer = {
        "write_units_per_minute": round(spent["write_units"] / took * 60, 1),
        "processor_share": round(used, 3),
        "trades": service.status()["trades"],
    }


# --- prices ------------------------------------------------------------------------------------------------------
def bill(one: Measured, region: str, free: bool) -> dict[str, float]:
    price = {name: values[REGIONS.index(region)] for name, values in PRICES.items()}
    gb_s = max(0.0, one.gb_s - (FREE_GB_S if free else 0))
    requests = max(0.0, one.requests - (FREE_REQUESTS if free else 0))
    size = Settings().aws.streamer
    return {
        "Fargate": HOURS * (size.cpu / 1024 * price["fargate_vcpu_h"] + size.memory_mb / 1024 * price["fargate_gb_h"]),
        "address": HOURS * price["ipv4_h"],
        "Lambda": gb_s * price["lambda_gb_s"] + requests / 1e6 * price["lambda_requests_m"],
        "DynamoDB": one.write_units / 1e6 * price["write_units_m"] + one.read_units / 1e6 * price["read_units_m"],
        "logs": one.log_bytes / 1e9 * price["logs_gb"],
        "alarms, metrics": (one.alarm_metrics + OTHER_ALARMS) * price["alarm"]
        + (METRICS_ALWAYS + METRICS_AT_TIMES) * price["metric"],
        "events, alerts": one.events / 1e6 * price["events_m"]
        + max(0.0, one.scheduled - 14e6) / 1e6 * price["scheduler_m"]
        + ALERTS_A_MONTH * (price["sns_m"] / 1e6 + price["email_100k"] / 1e5),
    }


def table_of(results: list[Measured]) -> str:
    lines = ["| US dollars a month | " + " | ".join(
        f"{one.name}, {region}" for one in results for region in REGIONS) + " |"]  # fmt: skip
    lines.append("|---" * (1 + len(results) * len(REGIONS)) + "|")
    bills = [bill(one, region, free=False) for one in results for region in REGIONS]
    free = [bill(one, region, free=True) for one in results for region in REGIONS]
    for name in bills[0]:
        lines.append(f"| {name} | " + " | ".join(f"{each[name]:.2f}" for each in bills) + " |")
    lines.append(
        "| **all, without free tier** | " + " | ".join(f"**{sum(each.values()):.2f}**" for each in bills) + " |"
    )
    lines.append("| all, with Lambda's free tier | " + " | ".join(f"{sum(each.values()):.2f}" for each in free) + " |")
    lines.append("| all, with CloudWatch's too | " + " | ".join(
        f"{sum(each.values()) - each['alarms, metrics'] - each['logs']:.2f}" for each in free) + " |")  # fmt: skip
    return "\n".join(lines)


def measure(name: str, seconds: float, rounds: int = 4) -> Measured:
    """Run the deployment called `name` beside a local exchange and count."""
    os.environ["AWS_LAMBDA_FUNCTION_NAME"] = "tapewatch"  # so that it logs and counts as on AWS
    logging.getLogger("tapewatch").setLevel(logging.INFO)
    spot, futures = (500, 500) if name == "whole market" else (3, 8)
    start_ms = floor_minute_ms(time.time_ns() // 1_000_000) - 60 * MINUTE_MS
    context = multiprocessing.get_context("spawn")
    address = context.Queue()
    exchange = context.Process(target=serve, args=(spot, futures, start_ms, address), daemon=True)
    exchange.start()
    try:
        settings = settings_of(name, *address.get(timeout=60))
        result = Measured(name)
        measure_jobs(name, settings, result, rounds)
        measure_streamer(settings, result, seconds)
        return result
    finally:
        exchange.terminate()
        exchange.join(5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the streamer is watched")
    parser.add_argument("--only", choices=sorted(TARGETS))
    parser.add_argument("--json", type=Path, help="write the counts to this file too")
    words = parser.parse_args()
    results = [measure(name, words.seconds) for name in TARGETS if words.only in (None, name)]
    print(table_of(results))
    for one in results:
        print(
            f"\n{one.name}: {one.gb_s:,.0f} GB-s, {one.requests:,.0f} requests, {one.write_units / 1e6:.2f} M write, "
            f"{one.read_units / 1e6:.2f} M read units, {one.log_bytes / 1e9:.2f} GB of logs; streamer {one.streamer}"
        )
        for name, told in one.functions.items():
            print(f"  {name}: {told}")
    if words.json:
        words.json.write_text(json.dumps([vars(one) for one in results], indent=1), encoding="utf-8")
    late = [one.name for one in results if sum(bill(one, REGIONS[0], free=False).values()) > TARGETS[one.name]]
    if late:
        sys.stderr.write(f"over the target in {REGIONS[0]}: {', '.join(late)}\n")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
