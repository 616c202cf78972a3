"""What a month on AWS costs: counts what a run over the local exchange really does, times a dated price table.

    python -m benchmarks.cost [--only default|"whole market"] [--json FILE]

Counted: DynamoDB units by the 1 KB and 4 KB rules, calls, log bytes, events, and the processor time of each function,
in a process of its own beside the exchange. A function's duration is its processor time at the share of a processor
that its memory buys (1,769 MB are one), plus its waits: 40 ms a round of REST calls, 6 ms a call of the table.
Functions are counted warm, as they are when they run each minute; volume-spike, which reads a week when it begins cold,
is charged one cold hour in each `COLD_EVERY_H` hours. The streamer is counted over one flush at ten times the clock's
pace; the models and memories that it stores now and then are measured apart, by the windows that it closed. Not
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
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metered import MeteredTable
from infra.jobs import jobs
from infra.pace import paced
from shared.clock import HOUR_MS, MINUTE_MS, ScaledClock, SystemClock, floor_minute_ms, iso_utc
from shared.observability import ALWAYS
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
    "sqs_m": (0.40,) * 3,  # after one million free a month
    "scheduler_m": (1.00,) * 3,  # after 14 million free a month
    "events_m": (1.00,) * 3,
}
FREE_GB_S, FREE_REQUESTS = 400_000, 1_000_000  # CloudWatch's: 10 metrics, 10 alarms, 5 GB of logs an account
HOURS, MINUTES = 730, 43_800
ROUND_TRIP_S, TABLE_CALL_S = 0.040, 0.006
FULL_PROCESSOR_MB = 1769
LAMBDA_LOG_BYTES = 120  # of CloudWatch's own around each line
ALERTS_A_MONTH = 150  # five a day (docs/alerts.md), each to one e-mail address
ALARMS = 6
METRICS_AT_TIMES = ALERTS_A_MONTH / HOURS  # AlertsMade is charged by the hours in which it is sent
QUEUES_ASKED = 1  # a minute, by the watchdog; two with Telegram
COUNTED_MINUTES = {"default": 40}  # few symbols: one chance find in few minutes would weigh as if it came each minute
COLD_EVERY_H = 4  # AWS replaces a function that runs all the time "every few hours"
SPEED = 10.0  # of the market that the streamer is measured on
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


# --- the market, in a process of its own -------------------------------------------------------------------------
def serve(spot: int, futures: int, start_ms: int, speed: float, address: Any) -> None:
    from local.exchange.market import SimulatedMarket
    from local.exchange.server import LocalExchange

    now_ms = SystemClock().now_ms()
    clock = ScaledClock(now_ms, speed)
    exchange = LocalExchange(SimulatedMarket(5, start_ms, symbols=listing(spot, futures)), clock)
    exchange.start()
    address.put((exchange.rest_url, exchange.ws_url, clock.now_ms()))
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

    from shared.jobs.common import bars_of
    from shared.market.model import Bar, Market

    store, rng = bars_of(deps), random.Random(1)
    symbols = deps.settings.futures_symbols
    # The market's own last hour, and before it the same minutes drawn anew, so that nothing jumps.
    known: dict[str, list[Bar]] = {}
    for name in symbols:
        rows = deps.market_data.klines(Market.USDM, name, limit=60, end_ms=until_ms - 1)
        known[name] = [bar for bar in rows if bar.open_ms < until_ms]
    level = {name: rows[0].close for name, rows in known.items()}
    for number in range(minutes):
        at = until_ms - (number + 1) * MINUTE_MS
        row = {}
        for name in symbols:
            rows = known[name]
            if number < len(rows):
                row[name] = replace(rows[-1 - number], open_ms=at, close_ms=at + MINUTE_MS - 1)
                continue
            drawn = rng.choice(rows)
            close = level[name] = round(level[name] * drawn.open / drawn.close, 8)
            row[name] = replace(drawn, open_ms=at, close_ms=at + MINUTE_MS - 1, open=close, high=close, low=close,
                                close=close)  # fmt: skip
        store.put_minute(Market.USDM, at, row)


def measure_jobs(name: str, settings: Settings, result: Measured, rounds: int) -> None:
    import importlib

    from shared.jobs.common import ratios_of, readings_of
    from shared.jobs.volume_spike import CATCH_UP, KIND, RARITY_HOURS, ratios_in
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
    logs, cold_reads = Logs(), list[int]()
    if settings.volume_spike.enabled:  # a process that has run for an hour knows each phase of the hour but its newest
        minutes = [first_ms + (number - 1) * MINUTE_MS for number in range(1, rounds)]
        known_ms = [at_ms - hours * HOUR_MS for at_ms in minutes for hours in range(2, RARITY_HOURS + 1)]
        names, readings = settings.universe.spot_symbols, readings_of(deps)
        row = {"volume_current": 12.345, "ma20": 10.5, "ratio": 1.1757, "rarity": 0.31, "threshold": 2.0,
               "timestamp": iso_utc(first_ms), "spike": False, "status": "normal"}  # fmt: skip
        cold_ms = [first_ms - MINUTE_MS - hours * HOUR_MS for hours in range(1, RARITY_HOURS + 1)]
        before_ms = [first_ms - (1 + number) * MINUTE_MS for number in range(1, CATCH_UP + 1)]  # nothing was missed
        for at_ms in {*known_ms, *cold_ms, *before_ms}:
            shares = {name: row | {"symbol": name, "ratio": round(random.lognormvariate(0, 1), 4)} for name in names}
            readings.put(KIND, at_ms, shares)
            ratios_of(deps).put(at_ms, ratios_in(shares))
        for at_ms in minutes:
            deps.warm.ratios.load(ratios_of(deps), names, [one for one in known_ms if (at_ms - one) % HOUR_MS == 0])
        table.reset()
    for one in logging.getLogger("tapewatch").handlers:
        one.setStream(logs)  # type: ignore[attr-defined]

    def run(job: str, event: dict[str, Any], counted: bool) -> None:
        before, rest, said, began = Counter(table.counts), calls["rest"], logs.count, time.process_time()
        written = Counter(table.written)
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
            for kind, units in (table.written - written).items():
                spent[f"w {kind}"] += units
        if job == "volume-spike":
            # The first run began cold: so does each minute of the hour after a cold start, and no other.
            reads = table.counts["half_read_units"] - before["half_read_units"]
            if not counted:
                cold_reads.append(reads)
            else:
                spent["half_read_units"] += max(0, cold_reads[0] - reads) // COLD_EVERY_H

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
        "written": {kind[2:]: round(units / runs, 1) for kind, units in spent.items() if kind.startswith("w ")},
    }


def measure_streamer(settings: Settings, result: Measured, now_ms: int) -> None:
    """Count a whole flush of the streamer beside an exchange that runs `SPEED` times as fast as the clock."""
    import msgspec

    from shared.exchange.binance.rest import BinanceMarketData
    from shared.exchange.binance.transport import RequestsTransport
    from shared.storage.sqlite import SqliteTable
    from streamer.service import StreamerService

    class Sink:
        def handle(self, signal: Any) -> None: ...

    replace, own = msgspec.structs.replace, settings.streamer
    flush_s = own.flush_seconds / SPEED
    paces = replace(own, flush_seconds=flush_s, lease_seconds=own.lease_seconds / SPEED, warmup_trades=False)
    clock, table = ScaledClock(now_ms, SPEED), MeteredTable(SqliteTable(":memory:"))
    market_data = BinanceMarketData(settings.exchange, RequestsTransport(8), clock)
    service = StreamerService(
        replace(settings, streamer=paces), market_data, Sink(), table, clock, symbols=settings.universe.spot_symbols
    )
    logs = Logs()
    with redirect_stderr(logs):
        service.run_in_thread()
        ready_by = time.monotonic() + 60
        while service.status()["windows"] == 0 and time.monotonic() < ready_by:
            time.sleep(0.2)
        time.sleep(min(10.0, flush_s / 2))  # every symbol has a first position by then
        before, began, cpu, said = Counter(table.written), time.monotonic(), time.process_time(), logs.count
        windows, reads = service.status()["windows"], table.counts["half_read_units"]
        time.sleep(flush_s)
        took, spent = time.monotonic() - began, table.written - before
        used, closed = (time.process_time() - cpu) / took, service.status()["windows"] - windows
        reads, lines = table.counts["half_read_units"] - reads, logs.count - said
        told = service.status()
        service.stop(10)
    if told["queued"] or not closed:
        raise RuntimeError(f"the streamer did not keep up: {told}")
    month = HOURS * 3600 / took / SPEED
    rare, written = rarely(settings), sum(spent.values())
    result.write_units += (written + closed * rare) * month
    result.read_units += reads / 2 * month
    result.log_bytes += lines * month
    result.streamer = {
        "write_units_per_minute": round(written * 60 / took / SPEED, 1),
        "of_them": {kind: round(units * 60 / took / SPEED, 1) for kind, units in spent.items()},
        "models_and_memories": round(closed * rare * 60 / took / SPEED, 1),
        "windows_per_minute": round(closed * 60 / took / SPEED, 1),
        "processor_share": round(used / SPEED, 4),
        "trades": told["trades"],
    }


def rarely(settings: Settings) -> float:
    """Return the write units a window of what is stored now and then: a symbol's model and its detector's memory."""
    from shared.detection.forest_fit import fit_forest
    from shared.detection.window_anomaly import FEATURES
    from shared.storage.blobs import squeeze
    from streamer.executing import MODEL_EVERY, REMEMBER_SPARINGLY

    own, rng = settings.window_anomaly, np.random.default_rng(1)
    features = np.abs(rng.lognormal(0, 1, (own.buffer, len(FEATURES))))
    model = len(fit_forest(features, own.trees, own.seed).to_bytes())
    memory = len(squeeze({"rows": features.tolist(), "scores": rng.normal(0, 1, own.calibration_scores).tolist()}))
    return math.ceil(model / 1024) / own.refit_every / MODEL_EVERY + math.ceil(memory / 1024) / REMEMBER_SPARINGLY


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
        "alarms, metrics": ALARMS * price["alarm"] + (len(ALWAYS) + METRICS_AT_TIMES) * price["metric"],
        "events, alerts": one.events / 1e6 * price["events_m"]
        + max(0.0, one.scheduled - 14e6) / 1e6 * price["scheduler_m"]
        + QUEUES_ASKED * MINUTES / 1e6 * price["sqs_m"]
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


@contextmanager
def market(name: str, speed: float) -> Iterator[tuple[Settings, int]]:
    """Serve a market in a process of its own; give the settings that point to it and its time now."""
    spot, futures = (500, 500) if name == "whole market" else (3, 8)
    start_ms = floor_minute_ms(time.time_ns() // 1_000_000) - HOUR_MS
    context = multiprocessing.get_context("spawn")
    address = context.Queue()
    exchange = context.Process(target=serve, args=(spot, futures, start_ms, speed, address), daemon=True)
    exchange.start()
    try:
        rest_url, ws_url, now_ms = address.get(timeout=60)
        yield settings_of(name, rest_url, ws_url), now_ms
    finally:
        exchange.terminate()
        exchange.join(5)


def measure(name: str) -> Measured:
    """Run the deployment called `name` beside a local exchange and count."""
    rounds = 1 + COUNTED_MINUTES.get(name, 5)
    os.environ["AWS_LAMBDA_FUNCTION_NAME"] = "tapewatch"  # so that it logs and counts as on AWS
    logging.getLogger("tapewatch").setLevel(logging.INFO)
    result = Measured(name)
    with market(name, 1.0) as (settings, _):
        measure_jobs(name, settings, result, rounds)
    with market(name, SPEED) as (settings, now_ms):
        measure_streamer(settings, result, now_ms)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(TARGETS))
    parser.add_argument("--json", type=Path, help="write the counts to this file too")
    words = parser.parse_args()
    results = [measure(name) for name in TARGETS if words.only in (None, name)]
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
