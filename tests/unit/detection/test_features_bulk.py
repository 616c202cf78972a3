"""A recording at once equals the same minutes one by one."""

from __future__ import annotations

import random

import numpy as np
import pytest
from test_sector_features import MINUTE, SMALL, assert_same, random_series

from shared.detection.features import FeatureEngine
from shared.detection.features_bulk import bulk_features
from shared.market.model import Bar
from shared.settings import SectorSettings

SYMBOLS = ("BTCUSDT", "AUSDT", "BUSDT", "CUSDT")


def columns(series: dict[str, dict[int, Bar]], first: int, minutes: int) -> list[np.ndarray]:
    out = [np.full((minutes, len(SYMBOLS)), np.nan) for _ in range(3)]
    for column, symbol in enumerate(SYMBOLS):
        for minute, one in series[symbol].items():
            taker = np.nan if one.taker_buy_volume is None else one.taker_buy_volume
            for values, value in zip(out, (one.close, one.volume, taker), strict=True):
                values[minute - first, column] = value
    return out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", ["raw", "log", "log_seasonal"])
def test_at_once_equals_minute_by_minute(seed: int, scale: str) -> None:
    settings = SectorSettings(windows=SMALL.windows, volume_scale=scale)  # type: ignore[arg-type]
    minutes = 400 if scale == "log_seasonal" else 160
    series = random_series(random.Random(seed), SYMBOLS, minutes, missing=0.03)
    first = min(minute for rows in series.values() for minute in rows)
    engine = FeatureEngine(settings, "BTCUSDT", SYMBOLS)
    found = bulk_features(settings, "BTCUSDT", SYMBOLS, first * MINUTE, *columns(series, first, minutes))
    for minute in range(first, minutes):
        bars = {symbol: rows[minute] for symbol, rows in series.items() if minute in rows}
        wanted = engine.push(minute * MINUTE, bars)
        got = found.at(minute - first)
        for symbol in SYMBOLS:
            assert_same(got[symbol], wanted[symbol])
