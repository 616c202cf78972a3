"""Past volume ratios: a phase of the hour is one query, and nothing of another phase comes with it."""

from __future__ import annotations

from shared.clock import HOUR_MS, MINUTE_MS
from shared.storage.ratios import RatioRepository
from shared.storage.table import Table

AT = 1_767_225_600_000 + 7 * MINUTE_MS
EXACT = {"ETHUSDT": 1.1757, "测试USDT": 0.1, "A#BUSDT": 1e300}


def test_a_phase_comes_back_exactly_and_alone(table: Table) -> None:
    ratios = RatioRepository(table)
    for hours in range(5):
        ratios.put(AT - hours * HOUR_MS, {**EXACT, "BTCUSDT": float(hours)})
        ratios.put(AT - hours * HOUR_MS + MINUTE_MS, {"BTCUSDT": 1e6})
    found = ratios.phase(AT - 3 * HOUR_MS, AT - HOUR_MS)
    assert found == {AT - hours * HOUR_MS: {**EXACT, "BTCUSDT": float(hours)} for hours in (1, 2, 3)}
    assert ratios.phase(AT - 90 * HOUR_MS, AT - 80 * HOUR_MS) == {}


def test_many_are_as_one_and_a_repeat_replaces(table: Table) -> None:
    ratios = RatioRepository(table)
    ratios.put(AT, {"BTCUSDT": 1.0})
    ratios.put_many({AT: {"BTCUSDT": 2.0}, AT - HOUR_MS: {}})
    assert ratios.phase(AT - HOUR_MS, AT) == {AT - HOUR_MS: {}, AT: {"BTCUSDT": 2.0}}


def test_what_another_version_wrote_is_as_good_as_not_there(table: Table) -> None:
    ratios = RatioRepository(table, retention_s=60)
    ratios.put(AT, {"BTCUSDT": 1.0})
    [item] = table.query("RATIOS#07")
    assert item["expires_at"] == AT // 1000 + 60
    for spoilt in ({"v": 99}, {"ratios": b"no blob"}, {"ratios": "text"}):
        table.put({**item, **spoilt})
        assert ratios.phase(AT, AT) == {AT: {}}
