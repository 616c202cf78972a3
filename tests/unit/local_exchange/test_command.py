"""`tapewatch exchange`: what it refuses, and that it really serves."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from local.commands import exchange
from shared.errors import UsageError


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    exchange.add_parser(parser.add_subparsers())
    return parser.parse_args(["exchange", *words])


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "--speed", "0"),
        ("simulate", "--speed", "nan"),
        ("simulate", "--symbols", "NOPE"),
        ("simulate", "--start", "soon"),
        ("serve", "missing.csv"),
    ],
)
def test_wrong_usage_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        exchange.run(parsed(*words))


def test_simulate_prints_truth_and_addresses_and_ends_on_interrupt() -> None:
    code = (
        "import argparse; from local.commands import exchange; p = argparse.ArgumentParser();"
        "exchange.add_parser(p.add_subparsers());"
        "raise SystemExit(exchange.run(p.parse_args(['exchange', 'simulate', '--truth', '--symbols', 'ETHUSDT'])))"
    )
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        rows = []
        for line in process.stdout:
            rows.append(json.loads(line))
            if "rest_url" in rows[-1]:
                break
        assert requests.get(rows[-1]["rest_url"] + "/api/v3/ping", timeout=5).json() == {}
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 0
    assert {row["symbol"] for row in rows[:-1]} == {"ETHUSDT"}
    assert {row["kind"] for row in rows[:-1]} >= {"trade_spike", "volume_spike", "order_book_imbalance"}
