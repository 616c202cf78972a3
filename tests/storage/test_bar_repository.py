"""Bars packed by the minute: nothing lost, little stored, quickly read."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import StorageUnavailable
from shared.market.model import Bar, Market
from shared.storage.bars import BarRepository
from shared.storage.packed_bars import pack_bars, unpack_bar, unpack_bars
from shared.storage.sqlite import SqliteTable
from shared.storage.table import Table

T0 = 1_767_225_600_000
MINUTE = 60_000


def bar(symbol: str, open_ms: int = T0, **changes: Any) -> Bar:
    fields: dict[str, Any] = {
        "market": Market.USDM,
        "symbol": symbol,
        "open_ms": open_ms,
        "close_ms": open_ms + 59_999,
        "open": 1.5,
        "high": 2.0,
        "low": 1.25,
        "close": 1.75,
        "volume": 1000.125,
        "quote_volume": 1600.5,
        "trades": 12,
        "taker_buy_volume": 400.0,
    }
    return Bar(**{**fields, **changes})


def minute(*symbols: str, open_ms: int = T0, **changes: Any) -> dict[str, Bar]:
    return {symbol: bar(symbol, open_ms, **changes) for symbol in symbols}


def realistic(open_ms: int, count: int, rng: random.Random) -> dict[str, Bar]:
    """Bars with the digits that the exchange sends."""
    bars = {}
    for number in range(count):
        symbol, price = f"COIN{number}USDT", rng.lognormvariate(0, 3)
        digits = rng.choice([2, 4, 5])
        quotes = sorted(round(price * (1 + rng.gauss(0, 0.001)), digits) for _ in range(4))
        volume = round(rng.lognormvariate(8, 2), rng.choice([0, 1, 3]))
        bars[symbol] = bar(
            symbol,
            open_ms,
            open=quotes[1],
            high=quotes[3],
            low=quotes[0],
            close=quotes[2],
            volume=volume,
            quote_volume=round(volume * price, 7),
            trades=int(rng.lognormvariate(4, 1)),
            taker_buy_volume=round(volume * rng.random(), 3),
        )
    return bars


floats = st.floats(allow_nan=False)
some_bars = st.dictionaries(
    st.text(max_size=30).filter(lambda text: not any(0xD800 <= ord(sign) <= 0xDFFF for sign in text)),
    st.tuples(
        floats,
        floats,
        floats,
        floats,
        floats,
        st.none() | floats,
        st.none() | st.integers(0, 2**53),
        st.none() | floats,
    ),
    max_size=6,
)


@given(some_bars, st.sampled_from([0, 1, T0]), st.booleans())
def test_any_bars_unpack_as_they_were_packed(rows: dict[str, Any], open_ms: int, odd: bool) -> None:
    bars = {
        symbol: Bar(Market.SPOT, symbol, open_ms, open_ms + (len(symbol) if odd else 59_999), *row)
        for symbol, row in rows.items()
    }
    packed = pack_bars(open_ms, bars)
    found = unpack_bars(Market.SPOT, open_ms, packed)
    assert found == bars
    assert all(type(one.trades) in (int, type(None)) for one in found.values())
    for symbol in [*bars, "absent"]:
        one = unpack_bar(Market.SPOT, open_ms, packed, symbol)
        assert one == bars.get(symbol)
        assert one is None or type(one.trades) in (int, type(None))


@pytest.mark.parametrize(
    "damaged", [b"", b"\x01", b"\x02\x00abc", b"\x01\x01abc", b"\x01\x00abc", b"\x01\x00\x93\x91\xa1A\x01\xc4\x01x"]
)
def test_damaged_bars_are_an_error_and_not_a_crash(damaged: bytes) -> None:
    with pytest.raises(StorageUnavailable):
        unpack_bars(Market.SPOT, 0, damaged)
    with pytest.raises(StorageUnavailable):
        unpack_bar(Market.SPOT, 0, damaged, "A")


# Written by version 1 of the form; must be readable for ever.
SAMPLE = """
0101789c9b3c69a1e342a7b3afe28f3430d008383a323181e81f3f1818be7cf9f3a7bf7fe64c8d1f953feced1d1ceced4124
10d43bd4030084b415f4
"""


def test_reads_what_an_earlier_release_stored() -> None:
    """F310: an old row after an upgrade."""
    assert unpack_bars(Market.USDM, T0, bytes.fromhex(SAMPLE)) == minute("A") | minute(
        "B", taker_buy_volume=None, trades=None
    )


def test_reads_ranges_of_whole_minutes(table: Table) -> None:
    repo = BarRepository(table)
    for number in (3, 0, 1):
        repo.put_minute(Market.USDM, T0 + number * MINUTE, minute("A", "B", open_ms=T0 + number * MINUTE))
    repo.put_minute(Market.SPOT, T0, {"A": bar("A", market=Market.SPOT)})
    assert [open_ms for open_ms, _ in repo.minutes(Market.USDM, T0, T0 + 3 * MINUTE)] == [T0, T0 + MINUTE]
    assert [open_ms for open_ms, _ in repo.minutes(Market.USDM, T0 + 1, T0 + 3 * MINUTE + 1)] == [
        T0 + MINUTE,
        T0 + 3 * MINUTE,
    ]
    assert repo.minutes(Market.USDM, T0, T0) == []
    assert repo.minutes(Market.USDM, -5, 0) == []
    assert repo.one(Market.USDM, "B", 0, T0 + 10 * MINUTE) == [bar("B", T0 + n * MINUTE) for n in (0, 1, 3)]
    assert repo.one(Market.USDM, "C", 0, T0 + 10 * MINUTE) == []
    assert repo.have(Market.USDM, T0, T0 + MINUTE) == {T0: {"A", "B"}}
    assert repo.newest_ms(Market.USDM) == T0 + 3 * MINUTE
    assert BarRepository(table).newest_ms(Market.SPOT) == T0


def test_what_a_source_lacks_stays_none(table: Table) -> None:
    repo = BarRepository(table)
    bars = minute("A", taker_buy_volume=None) | minute("B", quote_volume=None, trades=None) | minute("C")
    repo.put_minute(Market.USDM, T0, bars)
    assert repo.minutes(Market.USDM, T0, T0 + 1) == [(T0, bars)]


def test_late_bars_join_and_newer_ones_replace(table: Table) -> None:
    repo = BarRepository(table)
    repo.put_minute(Market.USDM, T0, {})
    assert repo.minutes(Market.USDM, T0, T0 + 1) == []
    repo.put_minute(Market.USDM, T0, minute("A", "C"))
    repo.put_minute(Market.USDM, T0, minute("测试币456") | minute("C", close=9.0))
    repo.put_minute(Market.USDM, T0, minute("A"))
    assert repo.minutes(Market.USDM, T0, T0 + 1) == [(T0, minute("A", "测试币456") | minute("C", close=9.0))]


def test_repeating_a_minute_writes_nothing() -> None:
    table = SqliteTable(":memory:")
    repo = BarRepository(table, retention_s=100)
    for _ in range(3):
        repo.put_minute(Market.USDM, T0, minute("A", "B"))
    (stored,) = table.query("BARS#usdm")
    assert stored["version"] == 1
    assert stored["expires_at"] == T0 // 1000 + 100


def test_refuses_bars_of_another_minute_market_or_name(table: Table) -> None:
    repo = BarRepository(table)
    for wrong in ({"A": bar("B")}, {"A": bar("A", T0 + MINUTE)}, {"A": bar("A", market=Market.SPOT)}):
        with pytest.raises(ValueError):
            repo.put_minute(Market.USDM, T0, wrong)


def test_writers_of_the_same_minute_lose_nothing_of_each_other(table: Table, is_moto: bool) -> None:
    if is_moto:
        pytest.skip("moto's tables take no lock; DynamoDB Local proves this")
    start = threading.Barrier(4)

    def write(me: int) -> None:
        start.wait()
        for number in range(8):
            BarRepository(table).put_minute(Market.USDM, T0, minute(f"S{me}-{number}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    wanted = minute(*(f"S{me}-{number}" for me in range(4) for number in range(8)))
    assert BarRepository(table).minutes(Market.USDM, T0, T0 + 1) == [(T0, wanted)]


def test_a_minute_too_large_for_one_item_is_split_and_grows(table: Table) -> None:
    repo, rng = BarRepository(table, item_bytes=1_500), random.Random(1)
    bars = realistic(T0, 300, rng)
    first, late = dict(list(bars.items())[:100]), dict(list(bars.items())[100:])
    repo.put_minute(Market.USDM, T0, first)
    assert repo.minutes(Market.USDM, T0, T0 + 1) == [(T0, first)]
    repo.put_minute(Market.USDM, T0, late)
    repo.put_minute(Market.USDM, T0 + MINUTE, minute("A", open_ms=T0 + MINUTE))
    assert len(table.query("BARS#usdm")) > 3
    assert dict(repo.minutes(Market.USDM, T0, T0 + MINUTE)) == {T0: bars}
    assert repo.one(Market.USDM, "COIN299USDT", T0, T0 + 1) == [bars["COIN299USDT"]]
    assert set(repo.have(Market.USDM, T0, T0 + 2 * MINUTE)) == {T0, T0 + MINUTE}


def test_a_minute_of_500_symbols_stays_small() -> None:
    packed = pack_bars(T0, realistic(T0, 500, random.Random(7)))
    assert len(packed) <= 14_000  # leaves room for features, charts and open interest in 45 write units


@pytest.mark.slow
def test_960_minutes_of_500_symbols_load_whole(tmp_path: Path) -> None:
    table = SqliteTable(tmp_path / "state.sqlite")
    repo, bars = BarRepository(table), realistic(T0, 500, random.Random(3))
    packed = pack_bars(T0, bars)
    table.batch_put(
        {"pk": "BARS#usdm", "sk": f"{T0 + number * MINUTE:015d}", "bars": packed, "version": 1} for number in range(960)
    )
    loaded = repo.minutes(Market.USDM, T0, T0 + 960 * MINUTE)  # how fast: benchmarks.minute
    assert [open_ms for open_ms, _ in loaded] == [T0 + number * MINUTE for number in range(960)]
    assert all(len(found) == 500 for _, found in loaded)
    assert loaded[0][1] == bars
    table.close()


def test_both_forms_of_a_minute_are_read_and_told_by_their_first_byte() -> None:
    bars = realistic(T0, 60, random.Random(5))
    few = dict(list(bars.items())[:20])
    old, new = pack_bars(T0, few), pack_bars(T0, bars)
    assert (old[0], new[0]) == (1, 2)
    assert unpack_bars(Market.USDM, T0, old) == few
    assert unpack_bars(Market.USDM, T0, new) == bars
    table = SqliteTable(":memory:")
    table.put({"pk": "BARS#usdm", "sk": f"{T0:015d}", "bars": old, "version": 1})
    table.put({"pk": "BARS#usdm", "sk": f"{T0 + MINUTE:015d}", "bars": pack_bars(T0 + MINUTE, bars), "version": 1})
    columns = BarRepository(table).columns(Market.USDM, sorted(bars), T0 - MINUTE, T0 + 2 * MINUTE)
    assert columns.stored == 2
    assert columns.close.shape == (3, 60)
    at = sorted(bars).index(min(few))
    assert columns.close[:, at].tolist()[1:] == [few[min(few)].close] * 2
    assert columns.volume[1, at] == few[min(few)].volume
    with pytest.raises(StorageUnavailable, match="upgrade"):
        unpack_bars(Market.USDM, T0, b"\x09" + new[1:])


@given(some_bars)
def test_many_of_any_bars_unpack_as_they_were_packed(rows: dict[str, Any]) -> None:
    bars = {
        **realistic(T0, 24, random.Random(1)),
        **{symbol: bar(symbol, T0, **_named(row)) for symbol, row in rows.items()},
    }
    assert unpack_bars(Market.USDM, T0, pack_bars(T0, bars)) == bars


def _named(row: tuple[Any, ...]) -> dict[str, Any]:
    names = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume")
    return dict(zip(names, row, strict=True))
