"""The streamer's image rehearsed without a container engine: its files, its native loop and packages, read-only root,
another user."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import boto3
import pytest

from infra import assets
from infra.constructs.streamer import HEALTH_COMMAND
from local.exchange.market import SimulatedMarket
from local.exchange.server import LocalExchange
from shared.clock import HOUR_MS, SystemClock, floor_minute_ms
from shared.settings import Settings
from tests.infra.moto_server import REGION, account_env, moto_server

pytestmark = [pytest.mark.aws, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("unshare", "mount", "setpriv")


def compiler() -> bool:
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return any(map(shutil.which, ("cc", "gcc", "clang"))) and headers.is_file()


def copy(context: Path, folder: Path, stage: str) -> None:
    """Do what a stage's COPY lines say."""
    for source, target in re.findall(r"^COPY (?!--)(\S+) /(\S+)$", stage, re.MULTILINE):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        if (context / source).is_dir():
            shutil.copytree(context / source, folder / target)
        else:
            shutil.copy(context / source, folder / target)


def image(folder: Path) -> Path:
    """Do what the Dockerfile says: a fresh environment of the locked packages, only what it copies, and, where there
    is a compiler, the native loop as its builder makes it."""
    context = assets.image_folder(Settings())
    assert not list((context / "streamer").glob("_hotloop*"))  # this machine's own would not fit
    _, builder, last = re.split(r"^FROM .*$", (context / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    copy(context, folder, last)
    app = folder / "app"
    if compiler():
        copy(context, folder, builder)
        (command,) = re.findall(r"^RUN python (.+)$", builder, re.MULTILINE)
        built = subprocess.run([sys.executable, *command.split()], cwd=folder / "build", capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        ((pattern, target),) = re.findall(r"^COPY --from=native /(\S+) /(\S+)$", last, re.MULTILINE)
        for made in folder.glob(pattern):
            shutil.copy(made, folder / target)
        assert list((app / "streamer").glob("_hotloop*"))
        shutil.rmtree(folder / "build")
    assert {path.name for path in app.iterdir()} == {"shared", "streamer", "tapewatch.yaml"}
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    subprocess.run(
        [*uv, "pip", "install", "--quiet", "--python", folder / "venv" / "bin" / "python", "--no-deps",
         "--only-binary", ":all:", "--require-hashes", "-r", context / "requirements.lock"],
        check=True,
    )  # fmt: skip
    return folder


def shut_in(folder: Path, words: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    """Start a command as user 10001 without rights, in a mount space of its own where only /tmp can be written."""
    script = (
        "mount --make-rprivate / && mount -t tmpfs -o mode=1777 tmpfs /tmp/scratch && "
        "mount -o remount,bind,ro / && cd {app} && "
        'exec setpriv --reuid=10001 --regid=10001 --clear-groups --bounding-set=-all --no-new-privs "$@"'
    ).format(app=folder / "app")
    return subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", *words],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mount spaces and other users need root")
@pytest.mark.skipif(any(shutil.which(one) is None for one in TOOLS), reason="needs util-linux")
def test_it_runs_without_rights_is_healthy_and_stops_cleanly() -> None:
    """F714: read-only root, uid 10001, no capabilities, no new privileges."""
    import tempfile

    now_ms = floor_minute_ms(time.time_ns() // 1_000_000)
    exchange = LocalExchange(SimulatedMarket(seed=2, start_ms=now_ms - HOUR_MS), SystemClock())
    exchange.start()
    scratch = Path("/tmp/scratch")
    scratch.mkdir(exist_ok=True)
    with moto_server() as address, tempfile.TemporaryDirectory() as name:
        folder = image(Path(name))
        subprocess.run(["chmod", "-R", "a+rX", name], check=True)
        boto3.client("dynamodb", endpoint_url=address, region_name=REGION).create_table(
            TableName="watch",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": one, "AttributeType": "S"} for one in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        health = scratch / "health.json"
        python = str(folder / "venv" / "bin" / "python")
        env = {
            **account_env(address),
            "PATH": "/usr/bin:/bin",
            "HOME": "/tmp/scratch",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "LOG_LEVEL": "INFO",
            "TAPEWATCH_HEALTH_FILE": str(health),
            "TAPEWATCH_STORAGE__TABLE_NAME": "watch",
            "TAPEWATCH_EXCHANGE__SPOT_REST_URL": exchange.rest_url,
            "TAPEWATCH_EXCHANGE__SPOT_WS_URL": exchange.ws_url,
            "TAPEWATCH_EXCHANGE__FUTURES_REST_URL": exchange.rest_url,
            "TAPEWATCH_EXCHANGE__FUTURES_WS_URL": exchange.ws_url,
            "TAPEWATCH_STREAMER__WARMUP_TRADES": "false",
        }
        process = shut_in(folder, [python, "-m", "streamer"], env)
        try:
            check = ["nsenter", "--mount", "--target", str(process.pid), python, *HEALTH_COMMAND[2:4],
                     str(folder / "app" / "streamer" / "health_check.py")]  # fmt: skip
            healthy_by = time.monotonic() + 90
            while (looked := subprocess.run(check, env=env, capture_output=True, text=True, check=False)).returncode:
                assert process.poll() is None, process.communicate()[0][-3000:]
                if time.monotonic() > healthy_by:
                    process.terminate()
                    pytest.fail(f"not healthy in time: {looked.stderr} {process.communicate()[0][-3000:]}")
                time.sleep(1)
            seen = Path(f"/proc/{process.pid}/root{health}").read_text()
            assert json.loads(seen)["loop"] == ("native" if compiler() else "python")
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE)
            assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
            assert re.search(r"^Cap(Eff|Bnd):\t0+$", status, re.MULTILINE)
            writes = ["nsenter", "--mount", "--target", str(process.pid), "touch", str(folder / "app" / "x")]
            assert subprocess.run(writes, capture_output=True, check=False).returncode != 0  # read-only, even for root
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=25)[0]
            assert process.returncode == 0, said[-3000:]
            assert time.monotonic() - began < 20
            assert "Traceback" not in said
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
            exchange.stop()


def test_the_health_check_knows_a_silent_streamer(tmp_path: Path) -> None:
    file, now_s = tmp_path / "health.json", time.time()

    def check(**body: object) -> int:
        file.write_text(json.dumps(body))
        return subprocess.run(
            [sys.executable, "-I", "-S", str(ROOT / "streamer" / "health_check.py")],
            env={"TAPEWATCH_HEALTH_FILE": str(file)}, capture_output=True, check=False,
        ).returncode  # fmt: skip

    assert check(written_s=now_s, moved_s=now_s, state="live") == 0
    assert check(written_s=now_s - 60, moved_s=now_s - 60, state="live") == 1  # hung
    assert check(written_s=now_s, moved_s=now_s - 400, state="live") == 1  # alive and deaf
    assert check(written_s=now_s, moved_s=now_s - 400, state="quiet") == 0
    assert check(written_s=now_s, moved_s=now_s - 1000, state="quiet") == 1
    assert check(nonsense=1) == 1
    file.unlink()
    assert subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "streamer" / "health_check.py")],
        env={"TAPEWATCH_HEALTH_FILE": str(file)}, capture_output=True, check=False,
    ).returncode == 1  # fmt: skip
