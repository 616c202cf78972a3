"""Logs and metrics of the edges: JSON lines on stderr, and a few documented metric names.

The core returns, the edges log: a fixed past-tense event name plus fields. A symbol is a field of a log line, never a
metric's dimension, so the number of metrics (and their price) does not grow with the market.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from enum import IntFlag
from typing import TextIO

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

NAMESPACE = "Tapewatch"
SERVICE = "tapewatch"

METRICS: Mapping[str, str] = {
    "Trouble": "what the watchdog finds wrong, as a sum of powers of two that every alarm looks at; 0: nothing",
    "SymbolsFailed": "symbols without a usable answer; the log line names each with its reason",
    "AlertsMade": "signals that became an alert",
    "DeliveriesFailed": "deliveries that a channel did not take in a redelivery run",
    "ExchangeRefusals": "runs in which the exchange refused every symbol (403, 418, 451)",
}
"""Every metric that exists: a count per run, and the watchdog's sum."""

ALWAYS = frozenset({"Trouble"})
"""Published even when 0, because the alarms take its absence for trouble. The others cost nothing while nothing
happens: CloudWatch charges a metric by the hours in which it is sent."""


class Trouble(IntFlag):
    """The figure is the sum of what is wrong; every alarm looks at one of these. Never change a number."""

    STREAMER_SILENT = 1
    FEED_LAG = 2
    MINUTE_MISSED = 4
    FUNCTION_ERRORS = 8
    DEAD_LETTERS = 16


def make_logger(stream: TextIO | None = None) -> Logger:
    """Return the product's logger on stderr; outside Lambda it is quiet below WARNING unless a level is set."""
    chosen = os.environ.get("POWERTOOLS_LOG_LEVEL") or os.environ.get("LOG_LEVEL")
    level = chosen or ("INFO" if in_lambda() else "WARNING")
    return Logger(service=SERVICE, level=level, stream=stream or sys.stderr, utc=True)


def in_lambda() -> bool:
    return "AWS_LAMBDA_FUNCTION_NAME" in os.environ


def publish(counts: Mapping[str, int | float], stream: TextIO | None = None) -> None:
    """Write counts as one embedded-metrics line, which CloudWatch reads from the log; elsewhere nobody does.

    A metric set of its own per call: the shared one of powertools mixes callers of different threads.

    Raises:
        KeyError: a name that `METRICS` does not document.
    """
    for name in counts:
        if name not in METRICS:
            raise KeyError(f"metric {name} is not documented in METRICS")
    told = {name: value for name, value in counts.items() if value or name in ALWAYS}
    if not told or (stream is None and not in_lambda()):
        return
    metrics = EphemeralMetrics(namespace=NAMESPACE, service=SERVICE)
    for name, value in told.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    print(json.dumps(metrics.serialize_metric_set(), separators=(",", ":")), file=stream or sys.stderr, flush=True)
