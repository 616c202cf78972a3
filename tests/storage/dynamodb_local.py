"""AWS's own DynamoDB Local as a process of the tests: fetched once with Maven, bound to loopback, in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

VERSION = "2.5.2"
_HERE = Path(__file__).resolve().parent
_READY_S = 60
_FETCH_S = 300
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tapewatch.tests</groupId><artifactId>dynamodb-local</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>com.amazonaws</groupId><artifactId>DynamoDBLocal</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""


class Unusable(Exception):
    """DynamoDB Local cannot run here; the message says why."""


@contextmanager
def server() -> Iterator[str]:
    """Start the server and yield its address.

    Raises:
        Unusable: Java or Maven is missing, the artifact cannot be fetched, or the server does not start.
    """
    java, jars = shutil.which("java"), _jars()
    if java is None or shutil.which("javac") is None:
        raise Unusable("DynamoDB Local needs a Java development kit (java and javac) on the PATH")
    command = [java, f"-Djava.library.path={jars}", "-cp", f"{jars}/*", str(_HERE / "Loopback.java")]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watchdog = threading.Timer(_READY_S, process.kill)
    watchdog.start()
    try:
        said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready "):
                watchdog.cancel()
                drain = threading.Thread(target=process.stdout.read, daemon=True)
                drain.start()
                yield f"http://127.0.0.1:{int(line.split()[1])}"
                return
        raise Unusable("DynamoDB Local did not start: " + "".join(said)[-2000:])
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def _jars() -> Path:
    """Return the folder of the jars, fetched on the first run and kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapewatch"
    folder = cache / f"dynamodb-local-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "dynamodb-local.lock"):
        if not folder.is_dir():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Unusable(f"DynamoDB Local is not in {folder}, and mvn, which would fetch it, is not on the PATH")
    work = folder.with_name(folder.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "pom.xml").write_text(_POM)
    command = [maven, "-q", "-B", "-f", str(work / "pom.xml"), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*command, f"-DoutputDirectory={work}", "-DincludeScope=runtime"],
            capture_output=True,
            text=True,
            timeout=_FETCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise Unusable(f"mvn did not fetch DynamoDB Local within {_FETCH_S} s") from exc
    if done.returncode != 0:
        raise Unusable("mvn could not fetch DynamoDB Local: " + (done.stdout + done.stderr).strip()[-1000:])
    work.rename(folder)
