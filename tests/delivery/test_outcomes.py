"""Outcomes: what the market did after an alert, without a look into the past of the move or the future of the clock."""

from __future__ import annotations

import pytest
from alert_examples import NOON_MS, initiator, system, trade_spike
from delivery_world import World
from fakes import FakeContext, FakeMarketData, make_bar
from hypothesis import given
from hypothesis import strategies as st

from functions import outcomes as outcomes_function
from shared.alerts.outcome import CONTROLS, Judged, control_moments, entry_of, outcome_of, summary
from shared.clock import HOUR_MS, MINUTE_MS, iso_utc
from shared.detection.reading import Direction
from shared.jobs import outcomes, report
from shared.jobs.deps import Dependencies
from shared.market.model import Bar, Market
from shared.storage.alerts import AlertRepository
from shared.storage.outcomes import OutcomeRepository


def path(closes: list[float], start_ms: int = NOON_MS) -> dict[int, Bar]:
    return {
        start_ms + i * MINUTE_MS: make_bar("X", start_ms + i * MINUTE_MS, market=Market.SPOT, close=close)
        for i, close in enumerate(closes)
    }


def test_returns_and_excursions_by_hand():
    closes = [100.0] + [101.0] * 4 + [102.0] * 10 + [97.0] * 30 + [110.0] * 15
    got = outcome_of(path(closes), NOON_MS, None, NOON_MS + HOUR_MS)
    assert got.entry_price == 100.0
    assert got.returns == {5: pytest.approx(0.01), 15: pytest.approx(0.02), 60: pytest.approx(0.10)}
    assert (got.best, got.worst, got.complete) == (pytest.approx(0.10), pytest.approx(-0.03), True)
    down = outcome_of(path(closes), NOON_MS, Direction.DOWN, NOON_MS + HOUR_MS)
    assert (down.best, down.worst) == (pytest.approx(0.03), pytest.approx(-0.10))
    assert down.returns == got.returns  # prices are prices; only "best" has a side


def test_the_entry_is_the_next_whole_minute():
    assert entry_of(NOON_MS) == NOON_MS
    assert entry_of(NOON_MS + 1) == NOON_MS + MINUTE_MS


@given(st.integers(0, 70))
def test_nothing_from_after_now_is_looked_at(minutes):
    closes = [100.0 + i for i in range(60)]
    now_ms = NOON_MS + minutes * MINUTE_MS
    cut = {at: bar for at, bar in path(closes).items() if at + MINUTE_MS <= now_ms}
    assert outcome_of(path(closes), NOON_MS, None, now_ms) == outcome_of(cut, NOON_MS, None, now_ms)


def test_holes_are_unknown_not_zero():
    bars = path([100.0 + i for i in range(60)])
    del bars[NOON_MS + 14 * MINUTE_MS]
    got = outcome_of(bars, NOON_MS, None, NOON_MS + HOUR_MS)
    assert got.returns[15] is None
    assert got.best is not None
    for minute in range(20, 30):
        del bars[NOON_MS + minute * MINUTE_MS]
    assert outcome_of(bars, NOON_MS, None, NOON_MS + HOUR_MS).best is None
    del bars[NOON_MS]
    assert outcome_of(bars, NOON_MS, None, NOON_MS + HOUR_MS).entry_price is None


def test_random_moments_lie_before_the_alert_and_are_always_the_same():
    moments = control_moments("a", NOON_MS)
    assert moments == control_moments("a", NOON_MS) != control_moments("b", NOON_MS)
    assert len(moments) == CONTROLS
    assert all(NOON_MS - 12 * HOUR_MS <= at_ms <= NOON_MS - 61 * MINUTE_MS for at_ms in moments)


def deps_of(world: World) -> Dependencies:
    market = FakeMarketData(world.clock)
    market.fill(Market.SPOT, "BTCUSDT", NOON_MS - 14 * HOUR_MS, NOON_MS + 3 * HOUR_MS)
    market.fill(Market.USDM, "XMRUSDT", NOON_MS - 14 * HOUR_MS, NOON_MS + 3 * HOUR_MS)
    return Dependencies(world.settings, market, world.state, world.service(), world.clock)


def test_the_job_fills_in_step_by_step_and_the_report_shows_it():
    world = World(NOON_MS)
    deps = deps_of(world)
    for signal in (trade_spike(NOON_MS - 1), initiator(NOON_MS - 2 * MINUTE_MS, Direction.DOWN), system(NOON_MS)):
        deps.alerts.handle(signal)
    alert = next(one for one in AlertRepository(world.state).range()[0] if one.symbol == "BTCUSDT")
    repository = OutcomeRepository(world.state)
    seen = []
    for minutes in (2, 6, 16, 40, 61, 70):
        world.clock.set(NOON_MS + minutes * MINUTE_MS)
        event = {"scheduled_time": iso_utc(world.clock.now_ms())}
        answer = outcomes_function.make_handler(lambda: deps)(event, FakeContext())
        seen.append((answer["filled"], answer["completed"]))
        outcome = repository.get(alert)
        if outcome is not None:
            known = [name for name in ("return_5m", "return_15m", "return_60m") if outcome[name] is not None]
            assert len(known) == sum(minutes >= horizon for horizon in (5, 15, 60))
    assert seen == [(0, 0), (2, 0), (2, 0), (0, 0), (2, 2), (0, 0)]
    found = report.run(deps, since_ms=NOON_MS - HOUR_MS, until_ms=NOON_MS + HOUR_MS).to_json()
    assert set(found["outcomes"]) == {"trade_spike", "sector_initiator"}
    figures = found["outcomes"]["trade_spike"]
    assert figures["alerts"] == figures["after"]["60m"]["count"] == 1
    assert figures["random"]["60m"]["count"] == CONTROLS
    assert figures["lift"]["60m"] is not None
    row = next(event for event in found["events"] if event["symbol"] == "BTCUSDT")
    assert row["outcome"]["return_60m"] == repository.get(alert)["return_60m"]  # type: ignore[index]


def test_bars_of_an_exchange_that_is_down_are_asked_for_again():
    from shared.errors import ExchangeUnavailable

    world = World(NOON_MS)
    deps = deps_of(world)
    market = deps.market_data
    assert isinstance(market, FakeMarketData)
    deps.alerts.handle(trade_spike(NOON_MS))
    market.errors["klines"] = ExchangeUnavailable("down")
    world.clock.set(NOON_MS + 61 * MINUTE_MS)
    assert outcomes.run(deps, scheduled_ms=world.clock.now_ms()).completed == 0
    market.errors.clear()
    world.clock.advance(5 * MINUTE_MS)
    assert outcomes.run(deps, scheduled_ms=world.clock.now_ms()).completed == 1


def test_the_summary_signs_by_direction():
    rows = [
        Judged("d", "DOWN", {"return_5m": -0.02, "return_15m": 0.01, "return_60m": None, "best": 0.03, "worst": -0.01}),
        Judged("d", None, {"return_5m": 0.04, "return_15m": 0.01, "return_60m": 0.0}, ({"return_5m": 0.01},)),
    ]
    figures = summary(rows)["d"]
    assert figures["after"]["5m"] == {"count": 2, "mean": 0.03, "median": 0.03, "mean_abs": 0.03, "in_favour": 1.0}
    assert figures["after"]["15m"]["in_favour"] == 0.5
    assert figures["after"]["60m"]["count"] == 1
    assert figures["lift"] == {"5m": 3.0, "15m": None, "60m": None}
    assert summary([]) == {}
