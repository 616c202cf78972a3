"""The thin handlers: the minute from the event, clients only on the first call, errors that say what is wrong."""

from __future__ import annotations

import importlib
import io
import json
import logging
import subprocess
import sys
import threading
from typing import Any

import pytest
from fakes import START_MS, FakeContext, FakeWorld

from functions import (
    backfill,
    features,
    handler,
    kline_bars,
    order_book,
    redelivery,
    report,
    sector,
    volume_spike,
    watchdog,
)
from functions.events import read_trigger
from shared.clock import HOUR_MS, MINUTE_MS
from shared.errors import ConfigurationError, RestrictedLocation, UsageError
from shared.jobs.deps import BARS_STORED
from shared.market.model import Market
from shared.observability import METRICS, publish
from shared.storage.failures import FailureRepository
from shared.storage.objects import FolderObjects

NOW = START_MS + 20 * HOUR_MS
MODULES = (volume_spike, order_book, kline_bars, features, sector, backfill, report, redelivery, watchdog)


def scheduled(text: str) -> dict[str, str]:
    return {"job": "volume-spike", "scheduled_time": text}


@pytest.fixture
def trading(world: FakeWorld) -> FakeWorld:
    world.clock.set(NOW + 1_500)
    for symbol in ("BTCUSDT", "ZECUSDT", "DASHUSDT", "XMRUSDT"):
        world.market.fill(Market.USDM, symbol, NOW - 3 * HOUR_MS, NOW + HOUR_MS)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        world.market.fill(Market.SPOT, symbol, NOW - 3 * HOUR_MS, NOW + HOUR_MS)
        world.market.book(symbol, 1.0, 2.0)
    return world


# --- events ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("second", ["00", "07", "59"])
def test_the_minute_is_the_one_that_closed_before_the_scheduled_one(second: str) -> None:
    trigger = read_trigger(scheduled(f"2026-01-01T00:01:{second}Z"))
    assert trigger.minute_ms == START_MS


def test_a_rule_names_the_minute_itself() -> None:
    event = {"time": "2026-01-01T00:09:07Z", "detail-type": BARS_STORED, "detail": {"minute_ms": START_MS}}
    trigger = read_trigger(event)
    assert (trigger.minute_ms, trigger.scheduled_ms) == (START_MS, START_MS + 9 * MINUTE_MS + 7_000)


def test_an_offset_is_understood() -> None:
    assert read_trigger(scheduled("2026-01-01T02:01:00+02:00")).minute_ms == START_MS


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "now",
        {},
        {"detail": 3},
        {"scheduled_time": "soon"},
        {"scheduled_time": None},
        {"scheduled_time": {"a": 1}},
        {"scheduled_time": "<aws.scheduler.scheduled-time>"},
        {"scheduled_time": "0001-01-01T00:00:00Z"},
        {"scheduled_time": "9" * 400},
        {"detail": {"minute_ms": START_MS + 1}},
        {"detail": {"minute_ms": "x"}},
        {"detail": {"minute_ms": True}},
        {"detail": {"minute_ms": float("nan")}},
        {"detail": {"minute_ms": -60_000}},
        {"detail": {"minute_ms": 1e300}},
    ],
)
def test_garbage_is_a_clear_error(event: Any, world: FakeWorld, lambda_context: FakeContext) -> None:
    for module in (volume_spike, features, backfill):
        with pytest.raises(UsageError):
            module.make_handler(lambda: world.deps)(event, lambda_context)
    assert not world.market.calls


# --- jobs behind their handlers ----------------------------------------------------------------------------------
def test_every_handler_runs_its_job_and_answers_plain_json(trading: FakeWorld, lambda_context: FakeContext) -> None:
    for module in MODULES:
        answer = module.make_handler(lambda: trading.deps)(scheduled("2026-01-01T20:00:03Z"), lambda_context)
        assert json.loads(json.dumps(answer)), module.__name__


def test_the_schedule_decides_the_minute_and_not_the_clock(trading: FakeWorld, lambda_context: FakeContext) -> None:
    trading.clock.advance(30 * MINUTE_MS)
    answer = volume_spike.make_handler(lambda: trading.deps)(scheduled("2026-01-01T20:00:59Z"), lambda_context)
    assert answer["minute_ms"] == NOW - MINUTE_MS
    assert answer["readings"] == 2


def test_dependencies_are_built_once_on_the_first_event(trading: FakeWorld, lambda_context: FakeContext) -> None:
    built: list[int] = []

    def build() -> Any:
        built.append(1)
        return trading.deps

    handle = volume_spike.make_handler(build)
    assert built == []
    threads = [
        threading.Thread(target=handle, args=(scheduled("2026-01-01T20:00:00Z"), lambda_context)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]


def test_building_is_tried_again_after_a_failure(trading: FakeWorld, lambda_context: FakeContext) -> None:
    answers: list[Any] = [ConfigurationError("no such file"), trading.deps]

    def build() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    handle = redelivery.make_handler(build)
    with pytest.raises(ConfigurationError):
        handle(scheduled("2026-01-01T20:00:00Z"), lambda_context)
    assert handle(scheduled("2026-01-01T20:00:00Z"), lambda_context)["sent"] == 0


def test_the_chain_takes_what_the_bars_job_emits(trading: FakeWorld, lambda_context: FakeContext) -> None:
    kline_bars.make_handler(lambda: trading.deps)(scheduled("2026-01-01T20:00:00Z"), lambda_context)
    [detail] = [detail for kind, detail in trading.emitted if kind == BARS_STORED]
    event = {"detail-type": BARS_STORED, "time": "2026-01-01T20:00:09Z", "detail": detail}
    assert features.make_handler(lambda: trading.deps)(event, lambda_context)["minutes"] >= 1
    event = {"time": "2026-01-01T20:00:10Z", "detail": trading.emitted[-1][1]}
    assert sector.make_handler(lambda: trading.deps)(event, lambda_context)["minutes"] == 1


def test_blocked_futures_are_one_warning(
    trading: FakeWorld, lambda_context: FakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, Any]] = []
    monkeypatch.setattr(handler.logger, "warning", lambda text, extra=None: said.append((text, extra)))
    trading.market.errors["server_time_ms:usdm"] = RestrictedLocation("no", status=451)
    kline_bars.make_handler(lambda: trading.deps)(scheduled("2026-01-01T20:00:00Z"), lambda_context)
    [refused] = [extra for text, extra in said if text == "exchange_refused"]
    assert "exchange.futures_rest_url" in refused["reason"]
    answer = volume_spike.make_handler(lambda: trading.deps)(scheduled("2026-01-01T20:00:00Z"), lambda_context)
    assert answer["readings"] == 2


def test_the_work_ends_before_the_function_does(trading: FakeWorld) -> None:
    release = threading.Event()
    trading.market.errors["ETHUSDT"] = lambda: (release.wait(10) and None) or None
    answer = volume_spike.make_handler(lambda: trading.deps)(
        scheduled("2026-01-01T20:00:00Z"), FakeContext(remaining_ms=3_500)
    )
    release.set()
    assert answer["failed"]["ETHUSDT"].startswith("deadline")
    assert answer["readings"] == 1


@pytest.mark.parametrize("hours", [0, -1, 1e9, "many", float("inf")])
def test_backfill_refuses_hours_that_cannot_be_meant(hours: Any, world: FakeWorld, lambda_context: FakeContext) -> None:
    event = {"scheduled_time": "2026-01-01T20:00:00Z", "hours": hours}
    with pytest.raises(UsageError, match="hours"):
        backfill.make_handler(lambda: world.deps)(event, lambda_context)


def test_a_report_is_answered_and_kept(world: FakeWorld, lambda_context: FakeContext, tmp_path: Any) -> None:
    from dataclasses import replace

    deps = replace(world.deps, objects=FolderObjects(tmp_path))
    event = {"scheduled_time": "2026-01-01T20:00:00Z", "since": "2h"}
    answer = report.make_handler(lambda: deps)(event, lambda_context)
    assert answer["report"]["since"] == "2026-01-01T18:00:00Z"
    kept = deps.objects.get(answer["stored_as"]) if deps.objects else None
    assert kept is not None
    assert json.loads(kept) == answer["report"]


@pytest.mark.parametrize("since", ["never", 7, "2027-01-01T00:00:00Z"])
def test_a_report_refuses_a_wrong_since(since: Any, world: FakeWorld, lambda_context: FakeContext) -> None:
    with pytest.raises(UsageError):
        report.make_handler(lambda: world.deps)(
            {"scheduled_time": "2026-01-01T20:00:00Z", "since": since}, lambda_context
        )


# --- modules -----------------------------------------------------------------------------------------------------
def test_importing_the_functions_builds_no_client_and_loads_no_boto3() -> None:
    names = [module.__name__ for module in MODULES] + ["functions.api"]
    code = f"import sys, {', '.join(names)}; sys.exit('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_function_has_a_lambda_handler() -> None:
    for module in MODULES:
        assert callable(importlib.import_module(module.__name__).lambda_handler)


# --- logs and metrics --------------------------------------------------------------------------------------------
def test_metrics_are_one_line_of_documented_names() -> None:
    out = io.StringIO()
    publish({"AlertsMade": 4, "SymbolsFailed": 0, "Trouble": 0}, out)
    [line] = out.getvalue().splitlines()
    told = json.loads(line)
    assert told["AlertsMade"] == [4.0]
    assert told["Trouble"] == [0.0]  # the alarms take its absence for trouble
    assert "SymbolsFailed" not in told  # a metric costs money in each hour in which it is sent
    with pytest.raises(KeyError, match="Invented"):
        publish({"Invented": 1}, out)
    assert len(METRICS) <= 10


def test_nothing_is_printed_to_stdout(
    trading: FakeWorld,
    lambda_context: FakeContext,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "tapewatch-test")
    watchdog.make_handler(lambda: trading.deps)(scheduled("2026-01-01T20:00:00Z"), lambda_context)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert '"Trouble":[' in captured.err
    assert logging.getLogger("tapewatch").handlers


def test_a_failed_run_leaves_a_note_unless_its_role_may_not_write(
    world: FakeWorld, lambda_context: FakeContext
) -> None:
    def broken(deps: object, trigger: object, seconds: float | None) -> object:
        raise errors.pop()

    for writes, failure, noted in (
        (True, UsageError("no"), UsageError.code),
        (True, KeyError("x"), "KeyError"),
        (False, KeyError("x"), None),
    ):
        errors, before = [failure], FailureRepository(world.table).since(0)
        handle = handler.job_handler("sector", lambda: world.deps, broken, writes=writes)
        with pytest.raises(type(failure)):
            handle(scheduled("2026-01-01T20:00:00Z"), lambda_context)
        after = FailureRepository(world.table).since(0)
        assert after == before + ([("sector", noted)] if noted else [])
        world.clock.set(world.clock.now_ms() + 1)
