from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.detection.features import FeatureEngine, SymbolFeatures
from shared.detection.reading import Status
from shared.market.model import Bar, Market
from shared.settings import SectorSettings, SectorWindows

MINUTE = 60_000
SMALL = SectorSettings(
    windows=SectorWindows(
        zscore_lookback_bars=20, beta_lookback_bars=20, return_bars=3, beta_return_bars=2, min_beta_pairs=3,
        min_zscore_bars=8, taker_bars=3, min_coverage=0.8,
    )
)  # fmt: skip


def bar(symbol: str, minute: int, close: float, volume: float = 1.0, taker: float | None = None) -> Bar:
    open_ms = minute * MINUTE
    return Bar(
        Market.USDM, symbol, open_ms, open_ms + 59_999, close, close, close, close, volume, taker_buy_volume=taker
    )


Series = Mapping[str, Mapping[int, Bar]]


class Oracle:
    """The specification in plain Python, one symbol and one bar at a time; every bar from nothing."""

    def __init__(self, settings: SectorSettings, benchmark: str, series: Series) -> None:
        self.w = settings.windows
        self.log = settings.volume_scale == "log"
        self.benchmark = benchmark
        self.series = series
        self._excess: dict[tuple[str, int], float | None] = {}

    def close(self, symbol: str, minute: int) -> float | None:
        one = self.series[symbol].get(minute)
        return math.log(one.close) if one else None

    def volume(self, symbol: str, minute: int) -> float | None:
        one = self.series[symbol].get(minute)
        if one is None or (self.log and one.volume == 0):
            return None
        return math.log(one.volume) if self.log else one.volume

    def moved(self, symbol: str, minute: int, bars: int) -> float | None:
        now, before = self.close(symbol, minute), self.close(symbol, minute - bars)
        return None if now is None or before is None else now - before

    def covered(self, symbol: str, minute: int, bars: int) -> bool:
        first = min(self.series[symbol], default=minute + 1)
        span = min(bars, minute - first + 1)
        there = sum(minute - i in self.series[symbol] for i in range(bars))
        return span > 0 and there >= self.w.min_coverage * span

    def beta(self, symbol: str, minute: int) -> float | None:
        if symbol == self.benchmark:
            return 1.0 if minute in self.series[symbol] else None
        lookback, step = self.w.beta_lookback_bars, self.w.beta_return_bars
        if not self.covered(symbol, minute, lookback) or not self.covered(self.benchmark, minute, lookback):
            return None
        pairs = [
            (self.moved(self.benchmark, minute - k * step, step), self.moved(symbol, minute - k * step, step))
            for k in range(lookback // step)
        ]
        xs = [x for x, y in pairs if x is not None and y is not None]
        ys = [y for x, y in pairs if x is not None and y is not None]
        if len(xs) < max(2, self.w.min_beta_pairs) or statistics.variance(xs) < 1e-12:
            return None
        mx, my = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
        return math.fsum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / math.fsum(
            (x - mx) ** 2 for x in xs
        )

    def excess(self, symbol: str, minute: int) -> float | None:
        key = symbol, minute
        if key not in self._excess:
            beta = self.beta(symbol, minute)
            own, other = (
                self.moved(symbol, minute, self.w.return_bars),
                self.moved(self.benchmark, minute, self.w.return_bars),
            )
            self._excess[key] = None if beta is None or own is None or other is None else own - beta * other
        return self._excess[key]

    def z(self, value_at: Callable[[int], float | None], minute: int, start: int) -> tuple[float | None, int]:
        x = value_at(minute)
        past = [value_at(m) for m in range(max(start, minute - self.w.zscore_lookback_bars), minute)]
        known = [value for value in past if value is not None]
        first = next((m for m in range(start, minute) if value_at(m) is not None), minute)
        span = min(self.w.zscore_lookback_bars, minute - first)
        if x is None or len(known) < self.w.min_zscore_bars or len(known) < self.w.min_coverage * span:
            return None, len(known)
        centre = statistics.median(known)
        deviations = [abs(value - centre) for value in known]
        scale = 1.4826 * statistics.median(deviations) or 1.2533 * math.fsum(deviations) / len(deviations)
        return (None if scale == 0 else (x - centre) / scale), len(known)

    def share(self, symbol: str, minute: int) -> float | None:
        ones = [self.series[symbol].get(minute - i) for i in range(self.w.taker_bars)]
        known = [one for one in ones if one is not None and one.taker_buy_volume is not None]
        total = sum(one.volume for one in known)
        if ones[0] not in known or len(known) < self.w.min_coverage * self.w.taker_bars or total <= 0:
            return None
        return sum(one.taker_buy_volume or 0.0 for one in known) / total

    def read(self, symbol: str, minute: int, start: int) -> SymbolFeatures:
        z_er, bars = self.z(lambda m: self.excess(symbol, m), minute, start)
        z_volume, _ = self.z(lambda m: self.volume(symbol, m), minute, start)
        share = self.share(symbol, minute)
        status = Status.NORMAL if None not in (z_er, z_volume, share) else Status.UNSCORABLE
        return SymbolFeatures(
            symbol, minute * MINUTE, self.moved(symbol, minute, 1), self.moved(symbol, minute, self.w.return_bars),
            self.beta(symbol, minute), self.excess(symbol, minute), z_er, z_volume, share,
            Status.WARMING if bars < self.w.min_zscore_bars else status, bars,
        )  # fmt: skip


def assert_same(got: SymbolFeatures, expected: SymbolFeatures) -> None:
    for name in SymbolFeatures.__slots__:
        mine, theirs = getattr(got, name), getattr(expected, name)
        if isinstance(theirs, float):
            assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-9), (name, got, expected)
        else:
            assert mine == theirs, (name, got, expected)


def random_series(
    source: random.Random, symbols: Sequence[str], minutes: int, missing: float
) -> dict[str, dict[int, Bar]]:
    series: dict[str, dict[int, Bar]] = {symbol: {} for symbol in symbols}
    for symbol in symbols:
        close, begins = 100.0, source.choice([0, 0, 9])
        for minute in range(minutes):
            close *= math.exp(source.gauss(0, 1e-3))
            if minute < begins or source.random() < missing:
                continue
            volume = source.choice([0.0, 1.0, source.lognormvariate(0, 1)])
            series[symbol][minute] = bar(
                symbol,
                minute,
                close,
                volume,
                source.choice([None, volume * source.random(), volume * 0.5])
                if source.random() < 0.3
                else volume * source.random(),
            )
    return series


def by_minute(series: Series, minutes: int) -> list[tuple[int, dict[str, Bar]]]:
    rows = [
        (minute * MINUTE, {symbol: bars[minute] for symbol, bars in series.items() if minute in bars})
        for minute in range(minutes)
    ]
    return [row for row in rows if row[1]]


@hypothesis_settings(max_examples=15)
@given(st.integers(0, 10**6).map(random.Random), st.sampled_from([0.0, 0.03, 0.2]), st.sampled_from(["raw", "log"]))
def test_equals_the_slow_oracle(source: random.Random, missing: float, scale: str) -> None:
    settings = SectorSettings(windows=SMALL.windows, volume_scale=scale)  # type: ignore[arg-type]
    symbols, minutes = ("BTC", "A", "B"), 75
    series = random_series(source, symbols, minutes, missing)
    rows = by_minute(series, minutes)
    start = rows[0][0] // MINUTE
    oracle, engine = Oracle(settings, "BTC", series), FeatureEngine(settings, "BTC", symbols)
    for minute_ms, bars in rows:
        got = engine.push(minute_ms, bars)
        for symbol in symbols:
            past = {
                name: {m: one for m, one in values.items() if m * MINUTE <= minute_ms}
                for name, values in series.items()
            }
            oracle.series = past
            assert_same(got[symbol], oracle.read(symbol, minute_ms // MINUTE, start))


@hypothesis_settings(max_examples=20)
@given(st.integers(0, 10**6).map(random.Random), st.integers(0, 90))
def test_loading_leaves_the_state_that_pushing_leaves(source: random.Random, cut: int) -> None:
    symbols, minutes = ("BTC", "A", "B"), 95
    rows = by_minute(random_series(source, symbols, minutes, 0.1), minutes)
    pushed, loaded, columns = (FeatureEngine(SMALL, "BTC", symbols) for _ in range(3))
    for minute_ms, bars in rows[:cut]:
        pushed.push(minute_ms, bars)
    loaded.load(rows[:cut])
    if rows[:cut]:
        first, last = rows[0][0], rows[:cut][-1][0]
        arrays = np.full((3, (last - first) // MINUTE + 1, 3), np.nan)
        for minute_ms, bars in rows[:cut]:
            for i, symbol in enumerate(symbols):
                if symbol in bars:
                    one = bars[symbol]
                    taker = math.nan if one.taker_buy_volume is None else one.taker_buy_volume
                    arrays[:, (minute_ms - first) // MINUTE, i] = one.close, one.volume, taker
        columns.load_arrays(first, *arrays)
    for minute_ms, bars in rows[cut:]:
        expected = pushed.push(minute_ms, bars)
        assert loaded.push(minute_ms, bars) == expected
        assert columns.push(minute_ms, bars) == expected
    assert loaded.newest_ms == pushed.newest_ms == columns.newest_ms


def test_a_long_run_and_a_refill_of_history_bars_agree() -> None:
    source, symbols, minutes = random.Random(5), ("BTC", "A"), 3_300
    rows = by_minute(random_series(source, symbols, minutes, 0.0), minutes)
    ran, refilled = FeatureEngine(SMALL, "BTC", symbols), FeatureEngine(SMALL, "BTC", symbols)
    ran.load(rows[:10])
    for minute_ms, bars in rows[10:-5]:
        ran.push(minute_ms, bars)
    refilled.load(rows[-5 - refilled.history_bars : -5])
    for minute_ms, bars in rows[-5:]:
        assert refilled.push(minute_ms, bars) == ran.push(minute_ms, bars)


@pytest.mark.parametrize("outage", [1, 50, 5_000])
def test_an_outage_of_any_length_equals_the_oracle(outage: int) -> None:
    source, symbols, minutes = random.Random(outage), ("BTC", "A"), 120
    series = random_series(source, symbols, minutes, 0.0)
    series = {
        name: {m + (outage if m >= 60 else 0): replace(one, open_ms=0) for m, one in bars.items()}
        for name, bars in series.items()
    }
    oracle, engine = Oracle(SMALL, "BTC", series), FeatureEngine(SMALL, "BTC", symbols)
    for minute_ms, bars in by_minute(series, minutes + outage):
        got = engine.push(minute_ms, bars)
        if minute_ms // MINUTE > 60:
            assert_same(got["A"], oracle.read("A", minute_ms // MINUTE, 0))


def test_the_future_never_changes_the_past_and_minutes_ascend() -> None:
    engine = FeatureEngine(SMALL, "BTC", ("A",))
    assert engine.symbols == ("BTC", "A")
    assert engine.newest_ms is None
    engine.push(MINUTE, {"A": bar("A", 1, 1.0), "OTHER": bar("OTHER", 1, 1.0)})
    for wrong in (MINUTE, 0, 2 * MINUTE + 1):
        with pytest.raises(ValueError):
            engine.push(wrong, {})
    with pytest.raises(ValueError):
        engine.load([(3 * MINUTE, {}), (3 * MINUTE, {})])
    with pytest.raises(ValueError, match="shape"):
        FeatureEngine(SMALL, "BTC", ()).load_arrays(0, *np.ones((3, 4, 2)))


@given(st.lists(st.tuples(st.floats(), st.floats(), st.one_of(st.none(), st.floats())), min_size=30, max_size=60))
def test_survives_every_float(numbers: list[tuple[float, float, float | None]]) -> None:
    """F602."""
    engine = FeatureEngine(SMALL, "BTC", ("A",))
    for minute, (close, volume, taker) in enumerate(numbers):
        out = engine.push(
            minute * MINUTE, {"BTC": bar("BTC", minute, 1.0 + minute % 3), "A": bar("A", minute, close, volume, taker)}
        )
        for value in out["A"].to_json().values():
            assert not isinstance(value, float) or math.isfinite(value)


def test_constant_series_have_no_answer() -> None:
    engine = FeatureEngine(SMALL, "BTC", ("A",))
    for minute in range(60):
        out = engine.push(minute * MINUTE, {name: bar(name, minute, 5.0, 2.0, 1.0) for name in ("BTC", "A")})
    assert (out["A"].beta, out["A"].z_volume, out["A"].taker_buy_share) == (None, None, 0.5)
    assert out["BTC"].status is Status.UNSCORABLE
    assert SymbolFeatures.from_json(out["A"].to_json()) == out["A"]


@pytest.mark.recorded
@pytest.mark.parametrize(
    ("pattern", "benchmark", "symbols"),
    [
        ("usdm_{}_1m_20230718T1200_20230726T0000.ohlcv.csv.gz", "BTCUSDT", ("ZECUSDT", "DASHUSDT", "XMRUSDT")),
        ("usdm_{}_1m_20250201_20250207.full.csv.gz", "AVAXUSDT", ("ALGOUSDT", "FILUSDT")),
    ],
)
def test_recorded_bars_equal_the_oracle(
    pattern: str, benchmark: str, symbols: tuple[str, ...], recorded_dir: Path, read_bars: Callable[[Path], list[Bar]]
) -> None:
    names = (benchmark, *symbols)
    series = {
        name: {one.open_ms // MINUTE: one for one in read_bars(recorded_dir / "klines" / pattern.format(name))}
        for name in names
    }
    start = min(series[benchmark])
    settings = SectorSettings()
    oracle, engine = Oracle(settings, benchmark, series), FeatureEngine(settings, benchmark, names)
    rows = [
        (m * MINUTE, {name: series[name][m] for name in names if m in series[name]}) for m in range(start, start + 1500)
    ]
    engine.load(rows[:1000])
    checked = 0
    for minute_ms, bars in rows[1000:]:
        got = engine.push(minute_ms, bars)
        minute = minute_ms // MINUTE
        if minute % 97 == 0 or minute == start + 1499:
            for symbol in symbols:
                assert_same(got[symbol], oracle.read(symbol, minute, start))
                checked += got[symbol].z_excess_return is not None
    assert checked > 8
    assert (got[symbols[0]].taker_buy_share is None) == ("ohlcv" in pattern)
