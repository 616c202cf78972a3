"""Messages in, decisions out, beside the libraries that others use: one feed, one run, one core.

    python -m benchmarks.ingest [--rounds N] [--suite plain|tls|paced-20000|paced-500|fitting|all] [--unicorn PYTHON]

A loopback server (`benchmarks.ingest_server`) sends the same real-shaped messages of 500 symbols to every client in
turn; each round runs every client once, so that a busy moment of the machine hits all of them. Printed are medians of
the processor time per message (user and system, whole process), and ratios to ours. A client whose spikes are not
exactly those of the messages is marked. Machines differ; the ratios hold.

The suite `fitting` shows what fitting forests without a break does to the delay of trades: never more than 50 ms.
`--unicorn` names the interpreter of an environment with unicorn-binance-websocket-api and picows, which cannot share
ours; without it that row is left out. TLS needs the `openssl` command.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ingest_server import spikes
from local.terminal import Progress

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Suite:
    """`counts` are messages by client: a slow one needs fewer for the same precision."""

    title: str
    clients: tuple[str, ...]
    counts: dict[str, int]
    tls: bool = False
    rate: int = 0


_SATURATED = {
    "ours": 300_000,
    "ours, Python only": 200_000,
    "picows-only": 300_000,
    "decode-only": 300_000,
    "memcpy": 300_000,
}
_PEERS = {"seed": 100_000, "python-binance": 60_000, "unicorn": 100_000}
SUITES = {
    "plain": Suite(
        "saturated, plain",
        ("ours", "ours, Python only", "python-binance", "seed", "unicorn", "picows-only", "decode-only", "memcpy"),
        _SATURATED | _PEERS,
    ),
    "tls": Suite("saturated, TLS", ("ours", "seed"), {"ours": 200_000, "seed": 60_000}, tls=True),
    "paced-20000": Suite(
        "paced, 20,000 a second", ("ours", "python-binance"), {"ours": 100_000, "python-binance": 60_000}, rate=20_000
    ),
    "paced-500": Suite("paced, 500 a second", ("ours",), {"ours": 4_000}, rate=500),
    "fitting": Suite(
        "paced, 2,000 a second", ("ours", "ours, fitting"), {"ours": 20_000, "ours, fitting": 20_000}, rate=2_000
    ),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def pinned(command: list[str], core: int) -> list[str]:
    return ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 and _taskset() else command


def _taskset() -> bool:
    return subprocess.run(["which", "taskset"], capture_output=True, check=False).returncode == 0


def run(suite: Suite, name: str, folder: Path, unicorn: str | None) -> dict[str, Any]:
    """Run one client once against a server of its own."""
    count, port = suite.counts[name], free_port()
    server_words = ["--port", str(port), "--count", str(count)]
    client_words = [name, "--port", str(port), "--count", str(count)]
    if suite.rate:
        stamps = folder / "stamps"
        stamps.write_bytes(bytes(8 * count))
        server_words += ["--rate", str(suite.rate), "--stamps", str(stamps)]
        client_words += ["--stamps", str(stamps)]
    if suite.tls:
        server_words += ["--tls", str(folder / "cert.pem"), str(folder / "key.pem")]
        client_words += ["--tls"]
    python = unicorn if name == "unicorn" and unicorn else sys.executable
    server = subprocess.Popen(
        pinned([sys.executable, "-m", "benchmarks.ingest_server", *server_words], 0), cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()
        done = subprocess.run(
            pinned([python, str(ROOT / "benchmarks" / "ingest_clients.py"), *client_words], 1),
            cwd=ROOT, capture_output=True, timeout=180, check=False,
        )  # fmt: skip
    finally:
        server.kill()
        server.wait()
    lines = done.stdout.decode().strip().splitlines()
    if not lines:
        raise RuntimeError(f"{name} said nothing: {done.stderr.decode()[-500:]}")
    return dict(json.loads(lines[-1]))


def measure(suite: Suite, rounds: int, folder: Path, unicorn: str | None) -> dict[str, list[dict[str, Any]]]:
    clients = [name for name in suite.clients if name != "unicorn" or unicorn]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in clients}
    progress = Progress(suite.title)
    for number in range(rounds):
        for at, name in enumerate(clients):
            results[name].append(run(suite, name, folder, unicorn))
            progress(number * len(clients) + at + 1, rounds * len(clients), name)
    progress.close()
    return results


def median(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.median(float(row[key]) for row in rows)


def show(suite: Suite, results: dict[str, list[dict[str, Any]]], truth: dict[int, int]) -> None:
    columns = "".join(f"{name:>9}" for name in ("x ours", "p50 ms", "p99 ms", "max ms"))
    print(f"\n{suite.title:<28}{'us/message':>12}{'k/s a core':>12}{columns}{'MB':>7}")
    own = median(results["ours"], "us")
    for name, rows in results.items():
        us = median(rows, "us")
        delays = "".join(
            f"{median(rows, key):>9.2f}" if key in rows[0] else f"{'':>9}" for key in ("p50_ms", "p99_ms", "max_ms")
        )
        # The peers' floats may fall to the other side of equality; ours may not differ at all.
        wrong = name.startswith("ours") and any(row["spikes"] != truth[int(row["messages"])] for row in rows)
        fits = median(rows, "fits") if rows[0].get("fits") else 0
        print(
            f"{name:<28}{us:>12.3f}{1000 / us:>12.0f}{us / own:>9.2f}{delays}{median(rows, 'rss_mb'):>7.0f}"
            f"{'  WRONG SPIKES' if wrong else ''}{f'  {fits:.0f} models fitted meanwhile' if fits else ''}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--suite", choices=["all", *SUITES], default="all")
    parser.add_argument("--unicorn", help="interpreter of an environment that has unicorn-binance-websocket-api")
    options = parser.parse_args()
    chosen = list(SUITES.values()) if options.suite == "all" else [SUITES[options.suite]]
    began = time.monotonic()
    truth = {
        count: spikes(count) for suite in chosen for name, count in suite.counts.items() if name.startswith("ours")
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if any(suite.tls for suite in chosen):
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "key.pem"),
                 "-out", str(folder / "cert.pem"), "-days", "2", "-subj", "/CN=localhost"],
                check=True, capture_output=True,
            )  # fmt: skip
        for suite in chosen:
            show(suite, measure(suite, options.rounds, folder, options.unicorn), truth)
    print(f"\n{options.rounds} rounds, {time.monotonic() - began:.0f} s; python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
