"""What the watchdog tells CloudWatch each minute: one figure for all conditions, since each metric is paid for."""

from __future__ import annotations

from collections.abc import Callable

from shared.clock import MINUTE_MS
from shared.errors import TapewatchError
from shared.observability import Trouble, make_logger
from shared.storage.failures import FailureRepository
from shared.storage.heartbeats import is_streamer

STREAMER_SILENT_S = 180
FEED_LAG_S = 60
ERRORS_WITHIN_MS = 5 * MINUTE_MS
MOST_ERRORS = 1  # a single one is tried again by itself

logger = make_logger()


def judge(
    *, data_age_s: int | None, silent: tuple[str, ...], errors: int, dead_letters: int | None, streamed: bool = True
) -> Trouble:
    """Return what is wrong.

    Args:
        data_age_s: of the slowest streamer's newest trade; None: one has never shown itself.
        silent: components that gave no sign of life in time.
        errors: failed runs within the last `ERRORS_WITHIN_MS`.
        streamed: a streamer is expected.
        dead_letters: messages given up; None: the queues did not say, which is as bad.
    """
    found = Trouble(0)
    if streamed and (data_age_s is None or data_age_s > STREAMER_SILENT_S):
        found |= Trouble.STREAMER_SILENT
    if streamed and (data_age_s is None or data_age_s > FEED_LAG_S):
        found |= Trouble.FEED_LAG
    if any(not is_streamer(name) for name in silent):
        found |= Trouble.MINUTE_MISSED
    if errors > MOST_ERRORS:
        found |= Trouble.FUNCTION_ERRORS
    if dead_letters is None or dead_letters > 0:
        found |= Trouble.DEAD_LETTERS
    return found


def recent_errors(failures: FailureRepository, now_ms: int) -> int:
    """Return how many runs have failed lately."""
    return len(failures.since(now_ms - ERRORS_WITHIN_MS))


def count_dead_letters(count: Callable[[], int] | None) -> int | None:
    """Return the messages given up; None when the queues do not answer, 0 where there are none."""
    if count is None:
        return 0
    try:
        return count()
    except TapewatchError as exc:
        logger.warning("dead_letters_unknown", extra={"reason": str(exc)})
        return None
