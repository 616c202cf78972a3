"""Charts: a day of one symbol out of few small items, bit for bit, whatever numbers the bars hold."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bar_repository import MINUTE, T0, realistic

from shared.errors import StorageUnavailable
from shared.market.model import Bar, Market
from shared.storage.charts import ChartRepository, bucket_of
from shared.storage.schema import charts_partition, time_key
from shared.storage.sqlite import SqliteTable

HOUR = 60 * MINUTE


def an_hour(count: int, seed: int = 5) -> dict[int, dict[str, Bar]]:
    """Prices that walk as on a market: each symbol a grid of its own, some minutes missing."""
    rng = random.Random(seed)
    first = realistic(T0, count, rng)
    minutes: dict[int, dict[str, Bar]] = {}
    for symbol, bar in first.items():
        digits = len(str(bar.close).partition(".")[2])
        close = bar.close
        for number in range(60):
            open_ms = T0 + number * MINUTE
            if rng.random() < 0.02:
                continue
            start, close = close, max(10.0**-digits, round(close * (1 + rng.gauss(0, 5e-4)), digits))
            made = replace(
                bar,
                open_ms=open_ms,
                close_ms=open_ms + MINUTE - 1,
                open=start,
                close=close,
                high=max(start, close),
                low=min(start, close),
                volume=round(bar.volume * rng.lognormvariate(0, 1), 3),
                quote_volume=round(bar.volume * close, 5),
                trades=rng.randrange(2_000),
                taker_buy_volume=round(bar.volume * rng.random(), 3),
            )
            minutes.setdefault(open_ms, {})[symbol] = made
    return minutes


def test_an_hour_comes_back_bit_for_bit() -> None:
    charts, minutes = ChartRepository(SqliteTable(":memory:")), an_hour(40)
    charts.put_hour(Market.USDM, T0, minutes)
    for symbol in ("COIN0USDT", "COIN17USDT", "COIN39USDT"):
        wanted = [minutes[at][symbol] for at in sorted(minutes) if symbol in minutes[at]]
        assert charts.hours(Market.USDM, symbol, T0, T0 + HOUR) == {T0: wanted}


def test_a_day_of_one_symbol_is_a_hundredth_of_the_minutes_of_all() -> None:
    table = SqliteTable(":memory:")
    charts, minutes = ChartRepository(table), an_hour(500)
    assert charts.put_hour(Market.USDM, T0, minutes) == 32
    items = table.query(charts_partition("usdm", bucket_of("COIN7USDT")))
    sizes = [len(packed) for item in items if isinstance(packed := item["bars"], bytes)]
    assert 24 * sizes[0] < 450_000  # against 1,440 minutes of about 11 KB


def test_a_symbol_that_was_not_listed_yet_has_an_empty_hour() -> None:
    charts = ChartRepository(SqliteTable(":memory:"))
    charts.put_hour(Market.USDM, T0, an_hour(100))
    stranger = next(name for name in map("NEW{}USDT".format, range(99)))
    assert charts.hours(Market.USDM, stranger, T0, T0 + HOUR) in ({}, {T0: []})
    assert charts.hours(Market.USDM, "COIN1USDT", T0 + HOUR, T0) == {}


numbers = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
flows = st.tuples(st.none() | numbers, st.none() | st.integers(0, 10**9), st.none() | numbers)


@given(st.dictionaries(st.integers(0, 59), st.tuples(numbers, numbers, numbers, numbers, numbers, flows), min_size=1))
def test_any_numbers_survive(rows: dict[int, tuple[float, float, float, float, float, Any]]) -> None:
    name = "我踏马来了USDT"
    minutes = {
        T0 + at * MINUTE: {
            name: Bar(Market.USDM, name, T0 + at * MINUTE, T0 + at * MINUTE + MINUTE - 1, *row[:5], *row[5])
        }
        for at, row in rows.items()
    }
    charts = ChartRepository(SqliteTable(":memory:"))
    charts.put_hour(Market.USDM, T0, minutes)
    wanted = [minutes[at][name] for at in sorted(minutes)]
    assert charts.hours(Market.USDM, name, T0, T0 + 1) == {T0: wanted}


FORM_1 = bytes.fromhex(
    "0101789c9b3c71a96368b04bc811a6ff8c538f323ee430c960201b18a78dea25167cfef6815c60535fff9f5cd0008a630613b29d6dc2604c"
    "b65ee391a6f7c367b2e3d89ad2383e43b6b3193228d09b36d2f4fe61203b8eedea1b28ccc7a3802ee0c50bb2e3f80505f9b8fe4825d3ad77"
    "8ce482327676b27dcc0300a76de477"
)


def test_the_form_without_flows_is_still_read() -> None:
    """Three bars as an earlier release stored them."""
    table = SqliteTable(":memory:")
    table.put({"pk": charts_partition("usdm", bucket_of("AUSDT")), "sk": time_key(T0), "bars": FORM_1})
    (bars,) = ChartRepository(table).hours(Market.USDM, "AUSDT", T0, T0 + 1).values()
    wanted = [(n, 1.5 + n / 10, 1.9 + n / 10, 1.25, 1.6 + n / 10, 100.5 + n, None, None, None) for n in (0, 1, 59)]
    names = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume")
    got = [((bar.open_ms - T0) // MINUTE, *(getattr(bar, name) for name in names)) for bar in bars]
    assert got == wanted


def test_a_newer_or_damaged_form_is_said_not_guessed() -> None:
    table = SqliteTable(":memory:")
    for packed in (b"\x09\x00rest", b"\x01\x01not zlib", b"\x01\x00\x93", b"\x02\x01not zlib", b"\x02" + FORM_1[1:]):
        table.put({"pk": charts_partition("usdm", bucket_of("AUSDT")), "sk": time_key(T0), "bars": packed})
        with pytest.raises(StorageUnavailable):
            ChartRepository(table).hours(Market.USDM, "AUSDT", T0, T0 + 1)
    with pytest.raises(ValueError, match="does not lie"):
        ChartRepository(table).put_hour(Market.USDM, T0, {T0 - MINUTE: {}})
