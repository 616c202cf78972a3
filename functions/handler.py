"""The shape that every job's handler has: read the event, call the job, report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from functions.events import Trigger, read_trigger
from shared.errors import TapewatchError
from shared.jobs.deps import Dependencies
from shared.observability import in_lambda, make_logger, publish
from shared.storage.failures import FailureRepository

T = TypeVar("T")
Handler = Callable[[Any, Any], dict[str, Any]]
Work = Callable[[Dependencies, Trigger, float | None], Any]
"""(dependencies, trigger, seconds left for the work) -> the job's report dataclass."""

_SETTLE_S = 12.0  # no channel takes longer for one message
_RESERVE_S = 3.0  # of the function's time, kept to store and report what came

logger = make_logger()


def once(build: Callable[[], T]) -> Callable[[], T]:
    """Call `build` on the first use only, even when two threads come at once; a failure is tried again."""
    lock = threading.Lock()
    built: list[T] = []

    def get() -> T:
        with lock:
            if not built:
                built.append(build())
            return built[0]

    return get


def job_handler(
    name: str,
    dependencies: Callable[[], Dependencies],
    work: Work,
    *,
    log_report: bool = True,
    writes: bool = True,
) -> Handler:
    """Return a Lambda handler around one job.

    `log_report` False keeps a large answer out of the log; a job whose role may not write (`writes` False) leaves no
    note of a failure.

    Errors are logged once, with their code, and raised: the schedule's retry and its dead-letter queue see them.
    """
    get = once(dependencies)

    @logger.inject_lambda_context
    def handle(event: Any, context: Any) -> dict[str, Any]:
        try:
            trigger = read_trigger(event)
            deps = get()
            report = work(deps, trigger, seconds_left(context))
            settle(deps, seconds_left(context))
        except TapewatchError as exc:
            logger.error("job_failed", extra={"job": name, "code": exc.code, "reason": str(exc)})
            if writes:
                note_failure(get, name, exc.code)
            raise
        except Exception as exc:
            if writes:
                note_failure(get, name, type(exc).__name__)
            raise
        answer = asdict(report)
        publish(_counts(answer))
        logger.info("job_done", extra={"job": name, "report": answer if log_report else None})
        if answer.get("refused"):
            logger.warning("exchange_refused", extra={"job": name, "reason": answer["refused"]})
        if answer.get("failed"):
            logger.warning("symbols_failed", extra={"job": name, "failed": answer["failed"]})
        return answer

    return handle


def note_failure(get: Callable[[], Dependencies], name: str, code: str) -> None:
    """Leave a note for the watchdog; where even that fails, a missed minute or a dead letter tells of it."""
    try:
        deps = get()
        FailureRepository(deps.table).note(name, deps.clock.now_ms(), code)
    except TapewatchError as exc:
        logger.warning("failure_not_noted", extra={"job": name, "reason": str(exc)})


def settle(deps: Dependencies, seconds: float | None) -> None:
    """Let the channels end what they are sending: a function that returns is frozen in the middle of it."""
    if in_lambda():
        deps.alerts.settle(min(_SETTLE_S, seconds if seconds is not None else _SETTLE_S))


def seconds_left(context: Any) -> float | None:
    """Return the time that the work may take, None where the context does not say."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return None if remaining is None else max(1.0, remaining() / 1000 - _RESERVE_S)


def _counts(answer: Mapping[str, Any]) -> dict[str, int]:
    """Pick the documented metrics out of a report: the fields have the same meaning in every one."""
    counts = {
        "Trouble": answer.get("trouble"),
        "SymbolsFailed": len(answer["failed"]) if isinstance(answer.get("failed"), Mapping) else None,
        "AlertsMade": answer.get("alerts"),
        "DeliveriesFailed": answer.get("deliveries_failed"),
        "ExchangeRefusals": 1 if answer.get("refused") else None,
    }
    return {name: value for name, value in counts.items() if isinstance(value, int)}
