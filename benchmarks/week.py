"""A store with a week of ten symbols, as the product itself would have filled it, for benchmarks and slow tests."""

from __future__ import annotations

import math
import random
from pathlib import Path

from shared.alerts.model import Alert, Severity, alert_id
from shared.alerts.policy import CooldownState, cooldown_key
from shared.clock import MINUTE_MS, iso_utc
from shared.detection.features import SymbolFeatures
from shared.detection.reading import Detector, Direction, Signal, Status
from shared.market.model import Bar, Market
from shared.settings import Settings, UniverseSettings, WindowAnomalySettings
from shared.storage import alert_keys
from shared.storage.alerts import AlertRepository
from shared.storage.bars import BarRepository
from shared.storage.cooldowns import CooldownRepository
from shared.storage.features import FeatureRepository
from shared.storage.heartbeats import HeartbeatRepository
from shared.storage.mutes import MuteRepository
from shared.storage.readings import ReadingRepository
from shared.storage.signals import SignalRepository, StoredSignal
from shared.storage.sqlite import SqliteTable
from shared.storage.table import Put
from shared.storage.windows import WindowRepository

START_MS = 1_767_225_600_000
COINS = ("BTC", "ETH", "SOL", "BNB", "XRP", "DOGE", "ZEC", "DASH", "XMR", "ADA")
SYMBOLS = tuple(f"{coin}USDT" for coin in COINS)
WINDOW_MS = 20_000


def settings() -> Settings:
    """Ten spot symbols and nine coins in two sectors."""
    return Settings(
        universe=UniverseSettings(
            spot_symbols=SYMBOLS,
            sectors={"Privacy": ("ZECUSDT", "DASHUSDT", "XMRUSDT"), "Majors": ("ETHUSDT", "SOLUSDT", "BNBUSDT",
                     "XRPUSDT", "DOGEUSDT", "ADAUSDT")},
        ),
        window_anomaly=WindowAnomalySettings(),
    )  # fmt: skip


def fill(path: Path, *, days: float = 7.0, start_ms: int = START_MS, seed: int = 11) -> tuple[SqliteTable, int]:
    """Fill a new state file; return the open table and the time at which its week ends."""
    rng = random.Random(seed)
    table = SqliteTable(path)
    minutes = round(days * 1440)
    end_ms = start_ms + minutes * MINUTE_MS
    _minutes(table, rng, start_ms, minutes)
    _windows(table, rng, start_ms, minutes)
    _signals(table, rng, start_ms, minutes)
    beats = HeartbeatRepository(table)
    for name in ("volume-spike", "order-book", "kline-bars", "features", "sector", "watchdog", "redelivery"):
        beats.beat(name, end_ms - 5_000, {"minute_ms": end_ms - MINUTE_MS})
    beats.beat("streamer", end_ms - 1_000, {"state": "live", "last_event_ms": end_ms - 900, "lag_ms": 80, "trades": 10})
    mutes = MuteRepository(table)
    for symbol in SYMBOLS[:3]:
        mutes.put(symbol, end_ms + 3_600_000, "a test")
    return table, end_ms


def _minutes(table: SqliteTable, rng: random.Random, start_ms: int, minutes: int) -> None:
    bars, features, readings = BarRepository(table), FeatureRepository(table), ReadingRepository(table)
    prices = {symbol: 100.0 * (i + 1) for i, symbol in enumerate(SYMBOLS)}
    ratios: dict[int, dict[str, dict[str, object]]] = {}
    books: dict[int, dict[str, dict[str, object]]] = {}
    for number in range(minutes):
        at_ms = start_ms + number * MINUTE_MS
        for market in Market:
            row = {symbol: _bar(rng, market, symbol, at_ms, prices) for symbol in SYMBOLS}
            bars.put_minute(market, at_ms, row)
        features.put(at_ms, {symbol: _features(rng, symbol, at_ms) for symbol in SYMBOLS})
        stamp = iso_utc(at_ms + MINUTE_MS)
        ratios[at_ms] = {
            symbol: {
                "symbol": symbol, "timestamp": stamp, "volume_current": rng.uniform(1, 50), "ma20": 10.0,
                "ratio": rng.lognormvariate(0, 0.5), "spike": False, "threshold": 2.0, "rarity": rng.random(),
                "status": "normal",
            }
            for symbol in SYMBOLS
        }  # fmt: skip
        books[at_ms] = {
            symbol: {
                "timestamp": iso_utc(at_ms), "symbol": symbol, "obi": round(rng.uniform(-1, 1), 6),
                "notional_bid": round(rng.uniform(1e3, 1e6), 6), "notional_ask": round(rng.uniform(1e3, 1e6), 6),
                "levels": 5, "status": "ok",
            }
            for symbol in SYMBOLS
        }  # fmt: skip
        if len(ratios) == 500 or number == minutes - 1:
            readings.put_many("volume_spike", ratios)
            readings.put_many("order_book", books)
            ratios, books = {}, {}


def _bar(rng: random.Random, market: Market, symbol: str, at_ms: int, prices: dict[str, float]) -> Bar:
    opened = prices[symbol]
    closed = opened * math.exp(rng.gauss(0, 0.0005))
    prices[symbol] = closed
    volume = rng.lognormvariate(2, 0.7)
    return Bar(market, symbol, at_ms, at_ms + MINUTE_MS - 1, opened, max(opened, closed) * 1.0002,
               min(opened, closed) * 0.9998, closed, volume, volume * closed, 120, volume / 2)  # fmt: skip


def _features(rng: random.Random, symbol: str, at_ms: int) -> dict[str, object]:
    values: dict[str, object] = dict.fromkeys(SymbolFeatures.__slots__, 0.5)
    values |= {
        "symbol": symbol, "open_ms": at_ms, "status": Status.NORMAL, "z_excess_return": rng.gauss(0, 1),
        "z_volume": rng.gauss(0, 1), "reason": "", "history": 960,
    }  # fmt: skip
    known = {name: value for name, value in values.items() if name in SymbolFeatures.__slots__}
    return {**known, "bars": 720, "status": "normal", "open_time": iso_utc(at_ms)}


def _windows(table: SqliteTable, rng: random.Random, start_ms: int, minutes: int) -> None:
    windows = WindowRepository(table)
    for symbol in SYMBOLS:
        windows.put_many(
            {
                "market": "spot", "symbol": symbol, "start_ms": at_ms, "end_ms": at_ms + WINDOW_MS,
                "trade_count": rng.randrange(1, 200), "volume": rng.lognormvariate(1, 1), "avg_trade_size": 0.1,
                "return": rng.gauss(0, 0.0003), "volatility": 0.02, "first_price": 100.0, "last_price": 100.1,
                "first_id": 1, "last_id": 2, "complete": True, "late_trades": 0, "score": -0.4 + rng.gauss(0, 0.05),
                "threshold": -0.6, "prediction": -1 if rng.random() < 0.005 else 1, "status": "normal",
            }
            for at_ms in range(start_ms, start_ms + minutes * MINUTE_MS, WINDOW_MS)
        )  # fmt: skip


def _signals(table: SqliteTable, rng: random.Random, start_ms: int, minutes: int) -> None:
    """Store 5,000 trade spikes a day and a few hundred of each other kind; one in thirty became an alert."""
    signals, alerts = SignalRepository(table), AlertRepository(table)
    items, feed = [], []
    last: dict[str, dict[str, int]] = {}  # cooldown key -> when each lane alerted last
    kinds = [d for d in Detector if d is not Detector.SYSTEM]
    for number in range(round(minutes / 1440 * 7_000)):
        detector = Detector.TRADE_SPIKE if number % 7 < 5 else kinds[number % len(kinds)]
        at_ms = start_ms + rng.randrange(minutes * MINUTE_MS)
        market = Market.USDM if detector.value.startswith("sector") else Market.SPOT
        signal = Signal(
            detector=detector, market=market, symbol=rng.choice(SYMBOLS), event_ms=at_ms, known_ms=at_ms,
            values={"ratio": 12.5, "price": 100.0, "volume": 3.0, "mean": 0.2, "timestamp": iso_utc(at_ms),
                    "signal_type": "VolumeSpike", "side": "BUY", "trade_id": number, "symbol": "X"},
            thresholds={"multiple": 10.0, "window_trades": 200}, trade_id=number,
            direction=rng.choice([Direction.UP, Direction.DOWN, None]),
        )  # fmt: skip
        id_ = alert_id(signal)
        held = None if number % 30 == 0 else "gate"
        items.append(signals.write(StoredSignal(signal, id_, held)).item)
        if held is None:
            alert = Alert(
                id_, detector, market, signal.symbol, None, signal.direction, Severity.INFO, at_ms, at_ms + 50,
                f"{detector.value} on {signal.symbol}", "Every number of the decision. " * 6, signal.values,
                signal.thresholds, "1",
            )  # fmt: skip
            row = alerts._row(alert)
            feed.append(Put(row | {"pk": alert_keys.ALERT_FEED, "sk": alert_keys.feed_sk(at_ms, id_)}).item)
            pk, sk = alert_keys.alert(id_)
            feed.append(Put(row | {"pk": pk, "sk": sk}).item)
            lane = {Direction.UP: "last_up_ms", Direction.DOWN: "last_down_ms", None: "last_any_ms"}[signal.direction]
            lanes = last.setdefault(cooldown_key(signal), {})
            lanes[lane] = max(at_ms, lanes.get(lane, 0))
        signals.point_to(signal)
    table.batch_put(items)
    table.batch_put(feed)
    cooldowns = CooldownRepository(table)
    states = ((key, CooldownState(**lanes)) for key, lanes in last.items())
    table.batch_put(cooldowns.write(key, state, max(one.at_ms for one in state.sent())).item for key, state in states)
