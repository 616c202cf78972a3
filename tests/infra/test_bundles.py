"""The bundles as built: small, for arm64, the same twice; and invoked alone in an empty folder."""

from __future__ import annotations

import json
import os
import platform
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra import assets
from infra.jobs import jobs
from infra.python313 import python_313
from local.exchange.market import SimulatedMarket
from local.exchange.server import LocalExchange
from shared.clock import HOUR_MS, SystemClock, floor_minute_ms, iso_utc
from shared.settings import Settings
from tests.infra.moto_server import REGION, account_env, moto_server

pytestmark = [pytest.mark.aws, pytest.mark.slow]

RUNTIME = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py")
AARCH64 = 183
HOST = python_313() or sys.executable
HOST_VERSION = subprocess.run(
    [HOST, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=True
).stdout.strip()


@pytest.fixture(scope="module")
def bundle() -> Path:
    return assets.functions_bundle(Settings())


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same lock and sources built for this machine's processor, in a folder of their own."""
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip(f"no wheels for {platform.machine()} are asked for")
    made = assets.functions_bundle(Settings(), platform=f"{platform.machine()}-manylinux_2_28", python=HOST_VERSION)
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(made) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Lambda's own Python has beside the standard library."""
    folder = tmp_path_factory.mktemp("runtime")
    home = Path(boto3.__file__).parent.parent
    for name in RUNTIME:
        (folder / name).symlink_to(home / name)
    return folder


# --- what is in them ---------------------------------------------------------------------------------------------
def test_they_are_small_arm64_and_compiled(bundle: Path) -> None:
    assert bundle.stat().st_size < assets.LARGEST_ZIP == 25 * 1024 * 1024
    assert assets.page_bundle().stat().st_size < assets.LARGEST_ZIP
    with zipfile.ZipFile(bundle) as archive:
        names = set(archive.namelist())
        libraries = [name for name in names if name.endswith(".so")]
        assert libraries
        for name in libraries:
            assert struct.unpack_from("<H", archive.read(name), 18)[0] == AARCH64, name
        tops = {name.split("/")[0] for name in names}
        assert not tops & {"boto3", "botocore", "sklearn", "scipy", "rich", "uvicorn", "websockets", "picows", "local"}
        if python_313() is None:
            pytest.skip("no Python 3.13 here: nothing is compiled")
        for name in names:
            if name.endswith(".py") and name.startswith(("shared/", "functions/")):
                folder, _, file = name.rpartition("/")
                compiled = archive.read(f"{folder}/__pycache__/{file[:-3]}.cpython-313.pyc")
                assert compiled[4] == 1, name  # unchecked hash: the source is never looked at
    print(f"functions bundle: {bundle.stat().st_size / 1e6:.1f} MB zipped")


def test_the_same_inputs_give_the_same_bytes(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(assets, "CACHE", tmp_path / "another")
    again = assets.functions_bundle(Settings())
    assert again.name == bundle.name
    assert again.read_bytes() == bundle.read_bytes()


def test_another_setting_is_another_bundle(bundle: Path) -> None:
    from shared.settings_loader import parse_settings

    names = {assets.digest({"tapewatch.yaml": assets.settings_file(one)}) for one in
             (Settings(), parse_settings({}), parse_settings({"volume_spike": {"threshold": 3}}))}  # fmt: skip
    assert len(names) == 2


# --- invoked -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An emulated account with table and topic, a local exchange, and the environment that a function has."""
    now_ms = floor_minute_ms(time.time_ns() // 1_000_000)
    exchange = LocalExchange(SimulatedMarket(seed=3, start_ms=now_ms - HOUR_MS), SystemClock())
    exchange.start()
    try:
        with moto_server() as address:
            more: dict[str, Any] = {"endpoint_url": address, "region_name": REGION}
            boto3.client("dynamodb", **more).create_table(
                TableName="watch",
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
                BillingMode="PAY_PER_REQUEST",
            )
            topic = boto3.client("sns", **more).create_topic(Name="alerts")["TopicArn"]
            boto3.client("events", **more).create_event_bus(Name="bus")
            yield {
                **account_env(address),
                "AWS_LAMBDA_FUNCTION_NAME": "tapewatch",
                "TAPEWATCH_STORAGE__TABLE_NAME": "watch",
                "TAPEWATCH_ALERTS__SNS__TOPIC_ARN": topic,
                "TAPEWATCH_AWS__EVENT_BUS": "bus",
                "TAPEWATCH_EXCHANGE__SPOT_REST_URL": exchange.rest_url,
                "TAPEWATCH_EXCHANGE__FUTURES_REST_URL": exchange.rest_url,
            }
    finally:
        exchange.stop()


ALONE = """
import json, sys, time
sys.path[:0] = [sys.argv[1], sys.argv[2]]
began = time.perf_counter()
import importlib
module = importlib.import_module(sys.argv[3])
imported = time.perf_counter() - began
assert module.__file__.startswith(sys.argv[1]), module.__file__

class Context:
    function_name = "tapewatch"
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:tapewatch"
    aws_request_id = "1"
    def get_remaining_time_in_millis(self):
        return 50_000

answer = module.lambda_handler(json.loads(sys.argv[4]), Context())
print(json.dumps({"import_s": imported, "answer": answer}))
"""


def event_of(module: str, at: str) -> dict[str, Any]:
    if module == "functions.api":
        http = {"method": "GET", "path": "/api/get_signal", "protocol": "HTTP/1.1", "sourceIp": "1", "userAgent": "t"}
        return {"version": "2.0", "routeKey": "$default", "rawPath": "/api/get_signal", "rawQueryString": "",
                "headers": {}, "requestContext": {"http": http, "requestId": "1", "stage": "$default"},
                "isBase64Encoded": False}  # fmt: skip
    if module in ("functions.features", "functions.sector"):
        minute_ms = floor_minute_ms(time.time_ns() // 1_000_000) - 60_000
        return {"id": "1", "source": "tapewatch", "detail-type": "bars.stored", "time": at,
                "detail": {"minute_ms": minute_ms}}  # fmt: skip
    event: dict[str, Any] = {"job": module.split(".")[1].replace("_", "-"), "scheduled_time": at}
    return event | ({"hours": 1} if module == "functions.backfill" else {})


def test_each_handler_runs_alone_in_an_empty_folder(unpacked: Path, runtime: Path, outside: dict[str, str]) -> None:
    at = iso_utc(floor_minute_ms(time.time_ns() // 1_000_000))
    print(f"\ncold import on Python {HOST_VERSION}, isolated:")
    for module in [job.module for job in jobs(Settings())] + ["functions.api"]:
        done = subprocess.run(
            [HOST, "-I", "-S", "-c", ALONE, str(unpacked), str(runtime), module, json.dumps(event_of(module, at))],
            env={"PATH": "/usr/bin:/bin", **outside}, cwd=unpacked, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{module}: {done.stderr[-2000:]}"
        told = json.loads(done.stdout.splitlines()[-1])
        print(f"  {module}: {told['import_s'] * 1000:.0f} ms")
        if module == "functions.api":
            assert told["answer"]["statusCode"] == 200
        if module == "functions.kline_bars":
            assert told["answer"]["bars"] > 0


def test_a_handler_runs_under_awss_runtime_client(unpacked: Path, outside: dict[str, str], tmp_path: Path) -> None:
    """awslambdaric as in Lambda, asking a run-time API of our own for its events; an error has Lambda's shape."""
    at = iso_utc(floor_minute_ms(time.time_ns() // 1_000_000))
    api = RuntimeApi([{"job": "watchdog", "scheduled_time": at}, {"job": "watchdog"}])
    client = tmp_path / "ric"
    version = subprocess.run(
        [sys.executable, "-c", "from importlib.metadata import version; print(version('awslambdaric'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(client), "--only-binary", ":all:",
         "--python-version", HOST_VERSION, f"awslambdaric=={version}", "boto3"],
        check=True,
    )  # fmt: skip
    process = subprocess.Popen(
        [HOST, "-m", "awslambdaric", "functions.watchdog.lambda_handler"],
        env={
            "PATH": os.environ["PATH"],
            **outside,
            "PYTHONPATH": f"{unpacked}:{client}",
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "LAMBDA_TASK_ROOT": str(unpacked),
            "_HANDLER": "functions.watchdog.lambda_handler",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": "g",
            "AWS_LAMBDA_LOG_STREAM_NAME": "s",
        },
        cwd=unpacked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert api.done.wait(40), "no answer"
    finally:
        process.terminate()
        said = process.communicate(timeout=10)[0]
        api.stop()
    assert api.answers["1"][0] == "response", said[-2000:]
    assert api.answers["1"][1]["watched"] > 0
    assert api.answers["2"][0] == "error"
    assert api.answers["2"][1]["errorType"] == "UsageError"
    assert "names no time" in api.answers["2"][1]["errorMessage"]


class RuntimeApi:
    """Lambda's run-time interface, as far as a runtime client uses it."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.answers: dict[str, tuple[str, Any]] = {}
        self.done = threading.Event()
        waiting, outer = list(enumerate(events, start=1)), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if not waiting:  # a runtime that asks for more waits; at the end of the test it is gone
                    threading.Event().wait(60)
                    self.close_connection = True
                    return
                number, event = waiting.pop(0)
                body = json.dumps(event).encode()
                self.send_response(200)
                for name, value in {
                    "Lambda-Runtime-Aws-Request-Id": str(number),
                    "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 50_000),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:123456789012:function:t",
                    "Content-Type": "application/json",
                    "Content-Length": str(len(body)),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                parts = self.path.split("/")
                outer.answers[parts[-2]] = (parts[-1], json.loads(body))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                if len(outer.answers) == len(events):
                    outer.done.set()

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
