"""F301, F302, F404, F405, F501 over AWS calls: each failed in each way, each interrupted by another run.

The tables are printed; `python -m benchmarks.delivery` prints the whole one. Of the larger runs every third call is
taken here.
"""

from __future__ import annotations

from typing import Any

import pytest
import sweeps

from shared.alerts import delivery as delivery_module
from shared.alerts.delivery import Delivery
from shared.storage.alerts import AlertRepository, Claim
from shared.storage.outbox import Outbox

SMALLEST = sweeps.SCENARIOS[0]


@pytest.fixture(scope="module")
def cloud() -> sweeps.Cloud:
    return sweeps.Cloud()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "CRITICAL")


def judge(rows: list[sweeps.Row], capsys: Any) -> None:
    with capsys.disabled():
        print("\n" + sweeps.table(rows))
    assert all(row.cases for row in rows)
    for row in rows:
        assert row.lost == 0, row
        assert row.duplicates <= row.allowed, row


def test_f301_quick_no_single_failure_loses_a_signals_alert(cloud, capsys):
    judge(sweeps.call_sweep(cloud, SMALLEST, ("lost after",), every=2), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", sweeps.SCENARIOS, ids=lambda scenario: scenario.name)
def test_f301_f405_every_call_fails_in_every_way(cloud, capsys, scenario):
    judge(sweeps.call_sweep(cloud, scenario, every=1 if scenario is SMALLEST else 3), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", sweeps.SCENARIOS, ids=lambda scenario: scenario.name)
def test_f302_with_the_shipped_retries_no_false_loser(cloud, capsys, scenario):
    """The SDK's own retry of a write whose answer was lost is refused by the first write: recognised, not lost."""
    rows = sweeps.call_sweep(cloud, scenario, ("lost after", "throttled"), sdk="shipped", every=2)
    judge(rows, capsys)
    assert sum(row.duplicates for row in rows if row.fault == "throttled") == 0


@pytest.mark.slow
@pytest.mark.parametrize("scenario", sweeps.SCENARIOS, ids=lambda scenario: scenario.name)
def test_f404_another_run_at_each_call_sends_nothing_twice(cloud, capsys, scenario):
    judge([sweeps.interleaving_sweep(cloud, scenario)], capsys)


# --- does it bite: each guard removed once, and the sweep must turn red -------------------------------------------
@pytest.mark.slow
def test_guard_mark_before_send(cloud, monkeypatch):
    """Noting before sending loses an alert when the run dies in between."""

    def send(self: Delivery, channel: Any, alert: Any, item: Any) -> Any:
        self.note([item], delivery_module.DeliveryState.SENT)
        channel.send(alert)
        return delivery_module.DeliveryState.SENT

    monkeypatch.setattr(Delivery, "send", send)
    rows = sweeps.call_sweep(cloud, SMALLEST, ("kill before",))
    assert sum(row.lost for row in rows) > 0


@pytest.mark.slow
def test_guard_no_lease(cloud, monkeypatch):
    """Without a lease, two redelivery runs at once send the same alert twice."""
    from shared.alerts.redelivery import _PacedRun

    monkeypatch.setattr(Outbox, "lease", lambda self, item, *, owner, until_ms: item)
    monkeypatch.setattr(_PacedRun, "_hold", lambda self, state: state)
    monkeypatch.setattr(delivery_module, "_MARGIN_MS", -(10**15))
    scenario = next(one for one in sweeps.SCENARIOS if one.name == "redelivery, one by one")
    assert sweeps.interleaving_sweep(cloud, scenario, every=2).duplicates > 0


@pytest.mark.slow
def test_guard_no_owner_token(cloud, monkeypatch):
    """Without its token a run takes its own claim, refused on the SDK's retry, for another's: the alert comes late."""

    def claim(
        self: AlertRepository, signal: Any, states: Any, *, owner: str, alert: Any = None, outbox: Any = ()
    ) -> Claim:
        writes = [signal, *states]
        if alert is not None:
            writes += [self._alert_write(alert, owner), self._feed_write(alert)]
            writes += [self.outbox.write(item) for item in outbox]
        return Claim.WON if self.table.transact(writes).applied else Claim.TAKEN

    late = {True: 0, False: 0}
    for guarded in (True, False):
        if not guarded:
            monkeypatch.setattr(AlertRepository, "claim", claim)
        with sweeps._impatient():
            for at in range(14):
                with cloud.fresh() as case:
                    deps = case.deps("shipped")
                    cloud.faults.arm(at, "lost after")
                    sweeps._handle(case, deps)
                    cloud.faults.disarm()
                    late[guarded] += not case.pager.got
    assert late[True] == 0
    assert late[False] > 0
