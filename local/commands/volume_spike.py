"""`tapewatch volume-spike`: one reading of the 1-minute volume rule, as one JSON object on stdout."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.exchange.market_data import MarketData
    from shared.market.model import Bar
    from shared.settings import VolumeSpikeSettings


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "volume-spike",
        help="one reading of the 1-minute volume rule",
        description=(
            "Compares the newest closed 1-minute bar's volume with the mean of the 20 bars before it and prints one "
            "JSON object: symbol, timestamp, volume_current, ma20, ratio, spike, threshold."
        ),
    )
    parser.add_argument("--symbol", required=True, help="a pair or a coin: BTCUSDT, btc")
    parser.add_argument("--threshold", type=float, help="least ratio of a spike (default: volume_spike.threshold, 2.0)")
    parser.add_argument("--datasource", choices=["binance"], default="binance", help="where the bars come from")
    parser.add_argument("--open-candle", action="store_true", help='read the running bar and say "closed": false')


def run(arguments: argparse.Namespace) -> int:
    from local.asking import exchange_for, find_symbol
    from shared.detection.volume_spike import read_volume_spike
    from shared.errors import UsageError
    from shared.market.bars import closed_bars
    from shared.market.model import Market
    from shared.settings_loader import load_settings

    settings = load_settings(arguments.config).settings
    threshold = settings.volume_spike.threshold if arguments.threshold is None else arguments.threshold
    if not threshold > 0:
        raise UsageError(f"--threshold must be greater than 0, is {threshold}")
    market_data = exchange_for(settings)
    symbol = find_symbol(market_data, arguments.symbol, settings)
    # One bar more than needed for the running one, one more in case a minute turns between the two calls.
    bars = market_data.klines(Market.SPOT, symbol, limit=settings.volume_spike.ma_bars + 3)
    now_ms = market_data.server_time_ms(Market.SPOT)
    closed = closed_bars(bars, now_ms)
    chosen = bars if arguments.open_candle else closed
    reading = read_volume_spike(
        chosen[-(settings.volume_spike.ma_bars + 1) :],
        threshold=threshold,
        ma_bars=settings.volume_spike.ma_bars,
        # A bar that still grows is not yet as rare as it will be.
        rarity_history=() if arguments.open_candle else _same_minutes(market_data, closed, settings.volume_spike),
        rarity_min_history=settings.volume_spike.rarity_min_history,
    )
    answer = reading.to_json()
    if arguments.open_candle:
        answer["closed"] = bool(closed) and closed[-1].open_ms == bars[-1].open_ms
    print(json.dumps(answer, ensure_ascii=False))
    return 0


def _same_minutes(market_data: MarketData, closed: list[Bar], settings: VolumeSpikeSettings) -> list[float]:
    """Return the ratios at the last bar's minute of the hour in the hours before, as many as a rarity needs."""
    from shared.clock import HOUR_MS, MINUTE_MS
    from shared.detection.volume_spike import same_phase_ratios
    from shared.errors import ExchangeError
    from shared.exchange.binance.paging import iter_klines

    if not closed:
        return []
    last = closed[-1]
    start_ms = last.open_ms - settings.rarity_min_history * HOUR_MS - settings.ma_bars * MINUTE_MS
    try:
        pages = list(iter_klines(market_data, last.market, last.symbol, start_ms, last.open_ms))
    except ExchangeError:
        return []  # the reading stands without its rarity
    before = [bar for page in pages for bar in page]
    return same_phase_ratios(before, open_ms=last.open_ms, ma_bars=settings.ma_bars)
