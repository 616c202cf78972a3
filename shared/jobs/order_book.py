"""One depth sample per spot symbol: the imbalance, and the rule over samples in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.detection.order_book import OrderBookReading, OrderBookRule, read_order_book
from shared.detection.reading import Signal
from shared.jobs.common import beat, note_blind, readings_of, spot_symbols, tell
from shared.jobs.deps import Dependencies
from shared.jobs.pool import Asked, ask_each
from shared.market.model import Market
from shared.storage.checkpoints import CheckpointRepository
from shared.storage.signals import decode_signal, encode_signal

KIND = "order_book"
COMPONENT = _CHECKPOINT = "order-book"
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class OrderBookReport:
    """`repeated` says that this sample had been taken before: its signals were told again, nothing else happened."""

    sample_ms: int
    symbols: int = 0
    readings: int = 0
    no_data: int = 0
    signals: int = 0
    alerts: int = 0
    held: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    refused: str | None = None
    skipped: str | None = None
    repeated: bool = False


def run(deps: Dependencies, *, scheduled_ms: int, deadline_s: float | None = None) -> OrderBookReport:
    """Sample the books at `scheduled_ms`, rounded down to the configured interval.

    A book cannot be asked for again as it was, so the first decision on a sample is final: it is written, with the
    rule's state, in one conditional write, and a repeat only tells the same signals again.
    """
    settings = deps.settings.order_book
    interval_ms = settings.interval_seconds * 1000
    sample_ms = scheduled_ms - scheduled_ms % interval_ms
    if not settings.enabled:
        return OrderBookReport(sample_ms, skipped="disabled")
    checkpoints = CheckpointRepository(deps.table)
    known = checkpoints.load(_CHECKPOINT)
    if known is not None and int(known.state["sample_ms"]) >= sample_ms:
        return _tell_again(deps, known.state, sample_ms)

    symbols = spot_symbols(deps, sample_ms)

    def ask(symbol: str) -> OrderBookReading:
        book = deps.market_data.depth(Market.SPOT, symbol, levels=settings.levels)
        return read_order_book(book, levels=settings.levels, timestamp_ms=sample_ms)

    asked = ask_each(
        symbols, ask, market=Market.SPOT, workers=deps.settings.exchange.max_connections, deadline_s=deadline_s
    )
    rows = {symbol: reading.to_json() for symbol, reading in asked.answers.items()}
    if rows:
        # Before the decision: a run that dies in between asks again, behind it nobody would store them any more.
        readings_of(deps).put(KIND, sample_ms, rows)
    for _ in range(_ATTEMPTS):
        decided, signals = _decide(deps, None if known is None else known.state, sample_ms, asked.answers)
        if checkpoints.put(_CHECKPOINT, decided, expected_version=0 if known is None else known.version):
            return _finish(deps, sample_ms, len(symbols), asked, signals)
        known = checkpoints.load(_CHECKPOINT)  # another run was faster: its sample counts if it is as new
        if known is not None and int(known.state["sample_ms"]) >= sample_ms:
            return _tell_again(deps, known.state, sample_ms)
    return OrderBookReport(sample_ms, symbols=len(symbols), failed=asked.failed, skipped="state kept changing")


def _decide(
    deps: Dependencies, state: Mapping[str, Any] | None, sample_ms: int, readings: Mapping[str, OrderBookReading]
) -> tuple[dict[str, Any], list[Signal]]:
    """Step the rule once for every symbol; one without a reading keeps its state."""
    rule = OrderBookRule(deps.settings.order_book)
    if state is not None:
        rule.restore(state["rule"])
    signals = [signal for reading in readings.values() if (signal := rule.step(reading)) is not None]
    after = {
        "sample_ms": sample_ms,
        "rule": rule.snapshot(),
        "signals": [encode_signal(signal) for signal in signals],
    }
    return after, signals


def _finish(
    deps: Dependencies, sample_ms: int, symbols: int, asked: Asked[OrderBookReading], signals: list[Signal]
) -> OrderBookReport:
    rows = asked.answers
    told = tell(deps, signals)
    if rows or not symbols:  # samples without any answer are silence, whatever the reason
        beat(deps, COMPONENT, {"minute_ms": sample_ms, "readings": len(rows), "failed": len(asked.failed)})
    else:
        note_blind(deps, COMPONENT, Market.SPOT, asked)
    return OrderBookReport(
        sample_ms=sample_ms,
        symbols=symbols,
        readings=len(rows),
        no_data=sum(row.status == "no_data" for row in rows.values()),
        signals=told.signals,
        alerts=told.alerts,
        held=told.held,
        failed=asked.failed,
        refused=asked.refused,
    )


def _tell_again(deps: Dependencies, state: Mapping[str, Any], sample_ms: int) -> OrderBookReport:
    """A run that was killed after deciding may not have told: the alert service knows what it has heard before."""
    if int(state["sample_ms"]) != sample_ms:
        return OrderBookReport(sample_ms, skipped="late: a newer sample has been taken")
    told = tell(deps, [decode_signal(packed) for packed in state["signals"]])
    return OrderBookReport(sample_ms, signals=told.signals, alerts=told.alerts, held=told.held, repeated=True)
