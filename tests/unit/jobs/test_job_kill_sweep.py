"""F405: the chain of one minute killed at each call of the table, before and after it; then simply run again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes import FakeWorld
from test_job_sector_chain import SETTINGS, SHOT, alerts, bars_at, chained, decisions, make_world, tracker

from shared.alerts.service import AlertService
from shared.errors import StorageUnavailable
from shared.jobs.deps import Dependencies

_SHOT_MINUTE = 10


class KilledTable:
    """Passes calls on until the one numbered `at`; there the process dies, before or after the call is carried out."""

    def __init__(self, table: Any, at: int, after: bool) -> None:
        self._table = table
        self._at = at
        self._after = after
        self.calls = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._table, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls > self._at or (self.calls == self._at and not self._after):
                raise StorageUnavailable("killed")
            answer = method(*args, **kwargs)
            if self.calls == self._at:
                raise StorageUnavailable("killed")
            return answer

        return call


def on_table(world: FakeWorld, table: Any) -> Dependencies:
    alerts_on = AlertService.on_table(table, [world.channel], SETTINGS, world.clock)
    return replace(world.another(), table=table, alerts=alerts_on)


def before_the_shot() -> FakeWorld:
    world = make_world()
    bars_at(world, chained(world, world.deps), _SHOT_MINUTE - 1)
    return world


@pytest.mark.parametrize("after", [False, True])
def test_a_killed_minute_run_again_decides_and_sends_as_if_nothing_had_happened(after: bool) -> None:
    clean = before_the_shot()
    counting = KilledTable(clean.table, at=10**9, after=after)
    bars_at(clean, chained(clean, on_table(clean, counting)), _SHOT_MINUTE)
    assert alerts(clean) == [(SHOT, "sector_initiator", "XMRUSDT")]
    assert counting.calls > 20
    for at in range(1, counting.calls + 1, 2 if after else 3):
        world = before_the_shot()
        killed = KilledTable(world.table, at, after)
        with pytest.raises(StorageUnavailable):
            bars_at(world, chained(world, on_table(world, killed)), _SHOT_MINUTE)
        again = chained(world, world.another())
        bars_at(world, again, _SHOT_MINUTE)
        world.clock.advance(120_000)
        again.alerts.redeliver(world.clock.now_ms())
        assert decisions(world) == decisions(clean), at
        assert tracker(world) == tracker(clean), at
        sent = alerts(world)
        assert set(sent) == set(alerts(clean)), at
        assert len(sent) <= 2, at  # twice only when the kill fell between "sent" and "noted as sent"
        world.table.close()
