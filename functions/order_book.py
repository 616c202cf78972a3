"""Take one depth sample of every spot symbol."""

from __future__ import annotations

from collections.abc import Callable

from functions.bootstrap import production_dependencies
from functions.events import Trigger
from functions.handler import Handler, job_handler
from shared.jobs import order_book
from shared.jobs.deps import Dependencies


def make_handler(dependencies: Callable[[], Dependencies]) -> Handler:
    def work(deps: Dependencies, trigger: Trigger, seconds: float | None) -> order_book.OrderBookReport:
        return order_book.run(deps, scheduled_ms=trigger.scheduled_ms, deadline_s=seconds)

    return job_handler("order-book", dependencies, work)


lambda_handler = make_handler(production_dependencies)
