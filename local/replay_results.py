"""What a replay says: signals with their positions, and what became of every input."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from shared.detection.reading import Signal


@dataclass(frozen=True, slots=True)
class Found:
    """One signal with its position; what `replay --json` prints a line of."""

    signal: Signal
    index: int
    source: str

    def to_json(self) -> dict[str, Any]:
        line: dict[str, Any] = {
            "detector": self.signal.detector.value,
            "symbol": self.signal.symbol,
            "event_time_ms": self.signal.event_ms,
            "index": self.index,
        }
        if self.signal.trade_id is not None:
            line["trade_id"] = self.signal.trade_id
        line["values"] = dict(self.signal.values)
        line["market"] = self.signal.market.value
        line["source"] = self.source
        return line


@dataclass(slots=True)
class Summary:
    """Every input is used or counted under a reason: inputs = used + rejected + ignored."""

    inputs: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    depth_breaks: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    judged: Counter[str] = field(default_factory=Counter)  # bars, windows and samples that a detector could judge

    def to_json(self) -> dict[str, Any]:
        return {
            "summary": {
                "inputs": self.inputs,
                "rejected": dict(self.rejected),
                "signals": dict(self.signals),
                "alerts": dict(self.alerts),
                "held": dict(self.held),
                "ignored": dict(self.ignored),
                "messages": dict(self.messages),
                "depth_breaks": dict(self.depth_breaks),
                "windows": self.windows,
            }
        }
