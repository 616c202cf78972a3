"""Ask the exchange about many symbols at once, with one bad symbol counted and named and the others unharmed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.clock import iso_utc
from shared.errors import Banned, Blocked, ExchangeError, NotEnoughData, RestrictedLocation
from shared.market.model import Market

T = TypeVar("T")

HOST_REFUSES = (RestrictedLocation, Banned, Blocked)  # true for every symbol: asking on would only make it worse
REFUSALS = frozenset(error.code for error in HOST_REFUSES)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A host that refuses every call: the error's code, what happened, and what a person can change."""

    code: str
    reason: str
    cure: str

    @property
    def text(self) -> str:
        return f"{self.reason}: {self.cure}."


@dataclass(frozen=True, slots=True)
class Asked(Generic[T]):
    """`failed` names each symbol without an answer and why; `refusal` is set for a host that refuses all."""

    answers: dict[str, T]
    failed: dict[str, str]
    refusal: Refusal | None = None

    @property
    def refused(self) -> str | None:
        """The refusal in one text."""
        return None if self.refusal is None else self.refusal.text


def ask_each(
    symbols: Iterable[str],
    ask: Callable[[str], T],
    *,
    market: Market,
    workers: int,
    deadline_s: float | None = None,
) -> Asked[T]:
    """Call `ask` for each symbol in at most `workers` threads and return within `deadline_s` (None: no limit).

    A host that refuses everything (403, 418, 451) is asked no further once it has said so.
    """
    names = list(dict.fromkeys(symbols))
    answers: dict[str, T] = {}
    failed: dict[str, str] = {}
    refusals: list[ExchangeError] = []
    lock = threading.Lock()

    def one(symbol: str) -> None:
        if refusals:
            with lock:
                failed[symbol] = refusals[0].code
            return
        try:
            answer = ask(symbol)
        except (ExchangeError, NotEnoughData) as exc:
            with lock:
                failed[symbol] = f"{exc.code}: {exc}"
                if isinstance(exc, HOST_REFUSES):
                    refusals.append(exc)
            return
        with lock:
            answers[symbol] = answer

    if not names:
        return Asked({}, {})
    executor = ThreadPoolExecutor(max_workers=max(1, min(workers, len(names))), thread_name_prefix="ask")
    try:
        futures = [executor.submit(one, name) for name in names]
        done, pending = wait(futures, timeout=deadline_s, return_when=FIRST_EXCEPTION)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    for future in done:
        future.result()  # anything but an exchange's refusal is a defect and must be seen
    with lock:
        answered, refused = dict(answers), dict(failed)
    if pending:
        for name in names:
            if name not in answered and name not in refused:
                refused[name] = "deadline: the run's time was up before the exchange answered"
    ordered = {name: answered[name] for name in names if name in answered}
    return Asked(ordered, refused, refusal_of(market, refusals[0]) if refusals else None)


def refusal_of(market: Market, error: ExchangeError) -> Refusal:
    """Say why the exchange refuses and what a person can change."""
    url = "exchange.spot_rest_url" if market is Market.SPOT else "exchange.futures_rest_url"
    if isinstance(error, RestrictedLocation):
        cure = f"run from a region that Binance serves, or set {url} to a host that answers there"
        if market is Market.USDM:
            cure += ", or set sector.enabled: false; the spot detectors go on"
        return Refusal(error.code, f"The exchange does not serve this location (HTTP 451, {market.value})", cure)
    if isinstance(error, Banned):
        until = iso_utc(error.until_ms)
        return Refusal(
            error.code,
            f"The exchange has banned this address (HTTP 418, {market.value}) until {until}",
            "no call is made before; see what else calls the exchange from this address, or lower"
            " exchange.weight_share",
        )
    return Refusal(
        error.code,
        f"The exchange's firewall refuses this address (HTTP 403, {market.value})",
        "it is asked again in some minutes; if that does not help, use another address",
    )


def refusal_text(market: Market, error: ExchangeError) -> str:
    """Return the same in one message."""
    return refusal_of(market, error).text
