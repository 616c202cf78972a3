from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.backoff import AttemptBudget


def test_the_first_attempt_goes_at_once_and_the_ceiling_doubles_up_to_the_cap() -> None:
    budget = AttemptBudget(base_s=1.0, cap_s=60.0)
    now_s, delays = 0.0, []
    for _ in range(9):
        delays.append(budget.next_delay(now_s, lambda: 1.0))
        now_s += delays[-1]
    assert delays == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_jitter_is_full() -> None:
    budget = AttemptBudget(base_s=8.0)
    budget.next_delay(0.0, lambda: 0.5)
    assert budget.next_delay(0.0, lambda: 0.0) == 0.0
    assert budget.next_delay(0.0, lambda: 0.25) == 4.0


def test_success_forgets_failures_but_not_attempts() -> None:
    budget = AttemptBudget(max_attempts=2, window_s=300)
    for _ in range(2):
        assert budget.next_delay(10.0, lambda: 0.0) == 0.0
        budget.succeeded()
    assert budget.next_delay(10.0, lambda: 0.0) == pytest.approx(300.0)


@given(st.integers(0, 2**32), st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=61, max_size=300))
def test_never_more_than_sixty_attempts_in_five_minutes(seed: int, story: list[tuple[float, bool]]) -> None:
    budget, rng, now_s, attempts = AttemptBudget(), Random(seed), 0.0, []
    for lasted_s, worked in story:
        now_s += budget.next_delay(now_s, rng.random)
        attempts.append(now_s)
        if worked:
            budget.succeeded()
        now_s += lasted_s
    assert all(later - earlier >= 300 - 1e-6 for earlier, later in zip(attempts, attempts[60:], strict=False))
