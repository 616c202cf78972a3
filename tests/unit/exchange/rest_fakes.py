"""A transport with scripted answers, and bodies of the exchange's own shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.clock import ManualClock
from shared.exchange.binance.rest import BinanceMarketData
from shared.http import HttpResponse
from shared.settings import ExchangeSettings

MINUTE = 60_000
START = 1_790_000_040_000  # a full minute


@dataclass(frozen=True)
class Asked:
    at_ms: int
    url: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    timeout_s: float


@dataclass
class ScriptedTransport:
    """Answers in order; the last answer repeats. An exception among the answers is raised."""

    clock: ManualClock
    answers: list[HttpResponse | Exception]
    asked: list[Asked] = field(default_factory=list)

    def get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str], timeout_s: float) -> HttpResponse:
        self.asked.append(Asked(self.clock.now_ms(), url, dict(params), dict(headers), timeout_s))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class MemoryBanStore:
    until: dict[str, int] = field(default_factory=dict)

    def get(self, host: str) -> int | None:
        return self.until.get(host)

    def set(self, host: str, until_ms: int) -> None:
        self.until[host] = until_ms


def answer(body: object, status: int = 200, **headers: str) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def client(
    *answers: HttpResponse | Exception,
    clock: ManualClock | None = None,
    store: MemoryBanStore | None = None,
    settings: ExchangeSettings | None = None,
    api_key: str | None = None,
) -> tuple[BinanceMarketData, ScriptedTransport, ManualClock]:
    clock = clock or ManualClock(START)
    transport = ScriptedTransport(clock, list(answers))
    market_data = BinanceMarketData(
        settings or ExchangeSettings(), transport, clock, ban_store=store, rng=lambda: 0.5, api_key=api_key
    )
    return market_data, transport, clock


def kline(open_ms: int, volume: str = "5") -> list[object]:
    return [open_ms, "10", "12", "9", "11", volume, open_ms + MINUTE - 1, "55", 3, "2", "22", "0"]
