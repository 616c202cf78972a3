"""F301, F302, F404, F405, F501 over AWS calls: each failed in each way, each interrupted by another run.

The tables are printed. The slow tier takes every fourth call, each kind of fault beginning at another one;
`python -m benchmarks.delivery` takes every call.
"""

from __future__ import annotations

from typing import Any

import pytest
import sweeps
from alert_examples import trade_spike

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
    assert [row for row in rows if not row.good] == []


def test_f301_quick_no_single_failure_loses_a_signals_alert(cloud, capsys):
    judge(sweeps.call_sweep(cloud, SMALLEST, ("lost after",), every=2), capsys)


STRIDE = 4
"""Which calls the slow tier takes; the parametrised offset makes each kind of fault begin at another one."""


@pytest.mark.slow
@pytest.mark.parametrize("sdk", ["once", "shipped"])
@pytest.mark.parametrize("scenario", sweeps.SCENARIOS, ids=lambda scenario: scenario.name)
def test_f301_f302_f405_every_handler_with_calls_failing_in_every_way(cloud, capsys, scenario, sdk):
    """F301, F302 (false losers 0), F405, F501. `python -m benchmarks.delivery` takes every call.

    With the shipped retries, the SDK's own retry of a write whose answer was lost is refused by the first write.
    """
    every = 1 if scenario is SMALLEST else STRIDE
    judge(sweeps.call_sweep(cloud, scenario, sdk=sdk, every=every), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [one for one in sweeps.SCENARIOS if not one.alone], ids=lambda one: one.name)
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
        with sweeps.impatient():
            for at in range(14):
                case = sweeps.Case(cloud)
                deps = case.deps("shipped")
                cloud.faults.arm(at, "lost after")
                deps.alerts.handle(trade_spike(case.clock.now_ms(), "BTCUSDT"))
                cloud.faults.disarm()
                late[guarded] += not case.pager.got
    assert late[True] == 0
    assert late[False] > 0
