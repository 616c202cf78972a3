"""The market of a soak, and the judgement of what streamers stored of it: the truth is a replay of all its trades."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from local.exchange.market import SimulatedMarket
from local.exchange.source import Instrument
from local.exchange.universe import Coin, SimulatedSymbol
from shared.detection.reading import Detector
from shared.market.model import Market, Side, Trade, TradeKind
from shared.settings import (
    AlertSettings,
    ExchangeSettings,
    SectorSettings,
    Settings,
    StreamerSettings,
    TradeSpikeSettings,
    UniverseSettings,
    WindowAnomalySettings,
)
from shared.storage.signals import SignalRepository
from shared.storage.sqlite import SqliteTable
from shared.storage.windows import WindowRepository
from streamer.actions import EmitSignal, FitModel, StoreWindows
from streamer.session import Session

SYMBOLS = ("AUSDT", "BUSDT", "CUSDT", "DUSDT")
WINDOW_S = 2
LEASE_S = 2.0
LEASE = "streamer/spot/0of1"


def settings(rest: str, stream: str) -> Settings:
    return Settings(
        exchange=ExchangeSettings(
            spot_rest_url=rest, spot_ws_url=stream, futures_rest_url=rest, futures_ws_url=stream, weight_share=1.0
        ),
        universe=UniverseSettings(spot_symbols=SYMBOLS),
        trade_spike=TradeSpikeSettings(
            window_trades=50, multiple=10.0, alert_rarity_max=1.0, alert_record_hours=0.0, burst_gap_s=0.0
        ),
        window_anomaly=WindowAnomalySettings(window_seconds=WINDOW_S, lateness_seconds=0.5, first_fit=5000),
        alerts=AlertSettings(cooldown_minutes_per_symbol=0.0, direction_swap_grace_minutes=0.0),
        sector=SectorSettings(enabled=False),
        streamer=StreamerSettings(
            lease_seconds=LEASE_S, watchdog_seconds=3.0, warmup_hours=0.01, heartbeat_seconds=1.0
        ),
    )


def market(seed: int, start_ms: int, per_s: float) -> SimulatedMarket:
    coin = Coin(10.0, 4, 2, 1.0, 0.0005, 50.0, 1_000_000.0)
    per_hour = round(per_s * 3600 / len(SYMBOLS))
    return SimulatedMarket(
        seed,
        start_ms,
        symbols=[SimulatedSymbol(Instrument(Market.SPOT, s, s[:-4], "USDT", 4, 2), coin, per_hour) for s in SYMBOLS],
    )


def golden(
    source: SimulatedMarket, chosen: Settings, first: dict[str, int], end_ms: int
) -> tuple[dict[Any, Any], dict[str, int], int]:
    """Return every window and spike of the trades from each symbol's first id on."""
    windows: dict[Any, Any] = {}
    spikes: dict[str, int] = {}
    count = 0
    for symbol in SYMBOLS:
        session, from_id = Session(chosen, Market.SPOT, [symbol]), first[symbol]
        while page := source.prints(Market.SPOT, symbol, aggregate=False, from_id=from_id, limit=1000, now_ms=end_ms):
            for p in page:
                side = Side.SELL if p.buyer_is_maker else Side.BUY
                trade = Trade(
                    Market.SPOT, symbol, TradeKind.TRADE, p.id, float(p.price), float(p.quantity), side, p.time_ms, 0
                )
                count += 1
                for action in session.trade(trade):
                    if isinstance(action, StoreWindows):
                        windows.update({(symbol, v.window.start_ms): v.window for v in action.verdicts})
                    elif isinstance(action, EmitSignal) and action.signal.detector is Detector.TRADE_SPIKE:
                        spikes[f"{symbol}:{action.signal.trade_id}"] = action.signal.event_ms
                    elif isinstance(action, FitModel):
                        session.give_up(symbol, action.request)
            from_id = page[-1].id + 1
    return windows, spikes, count


def stored_spikes(table: SqliteTable) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page, cursor = SignalRepository(table).range(detector=Detector.TRADE_SPIKE, limit=500, cursor=cursor)
        found += [f"{one.signal.symbol}:{one.signal.trade_id}" for one in page]
        if cursor is None:
            return found


def set_aside(folder: Path) -> tuple[Counter[str], int]:
    """Return what all the processes did not use, by reason, and what they took in, as far as they came to say it."""
    reasons: Counter[str] = Counter()
    taken = 0
    for note in folder.glob("status-*[0-9]"):
        status = json.loads(note.read_text())
        reasons.update(status["rejected"])
        taken += status["trades"]
    return reasons, taken


def gone_live(folder: Path) -> bool:
    """Tell whether a streamer has had its past trades: what a fresh one finds in those it learns in silence."""
    states = [json.loads(note.read_text())["warmup"]["state"] for note in folder.glob("status-*[0-9]")]
    return any(state in ("done", "not_served") for state in states)


def judged(source: SimulatedMarket, folder: Path, live_ms: int, end_ms: int) -> dict[str, Any]:
    """Compare what lies in the folder's state file with what the market did until `end_ms`; return the counts.

    Signals are asked for from `live_ms` on, when the first streamer had gone live.
    """
    table = SqliteTable(str(folder / "state.sqlite"))
    rows = {
        (symbol, row["start_ms"]): row
        for symbol in SYMBOLS
        for row in WindowRepository(table).range("spot", symbol, 0, end_ms)
    }
    first = {s: min(int(row["first_id"]) for (symbol, _), row in rows.items() if symbol == s) for s in SYMBOLS}
    last = {s: max(start for symbol, start in rows if symbol == s) for s in SYMBOLS}
    windows, spikes, trades = golden(source, settings("http://x", "ws://x"), first, end_ms)
    windows = {key: window for key, window in windows.items() if key[1] <= last[key[0]]}

    def same(row: dict[str, Any], window: Any) -> bool:
        names = ("trade_count", "volume", "first_id", "last_id", "first_price", "last_price", "complete")
        return all(row[name] == getattr(window, name) for name in names)

    told = stored_spikes(table)
    newest = {s: max((int(k.split(":")[1]) for k in told if k.startswith(s)), default=0) for s in SYMBOLS}
    expected = {
        k for k, at_ms in spikes.items() if at_ms >= live_ms and int(k.split(":")[1]) <= newest[k.split(":")[0]]
    }
    sent = (folder / "sent").read_text().split() if (folder / "sent").exists() else []
    begin_s = {s: windows_start(rows, s) for s in SYMBOLS}
    reasons, taken = set_aside(folder)
    return {
        "trades": trades,
        "trades taken in": taken,
        "trades stored": sum(row["trade_count"] for row in rows.values()),
        "set aside": dict(reasons) or 0,
        "windows stored": len(rows),
        "windows missing": len([k for k in windows.keys() - rows.keys() if k[1] >= begin_s[k[0]]]),
        "windows wrong": sum(
            not same(rows[k], windows[k]) for k in windows.keys() & rows.keys() if rows[k]["complete"]
        ),
        "windows incomplete": sum(not row["complete"] for row in rows.values()),
        "windows extra": len(rows.keys() - windows.keys()),
        "signals": len(expected),
        "signals lost": len(expected - set(told)),
        "alerts sent": len(sent),
        "alerts sent twice": len(sent) - len(set(sent)),
    }


def windows_start(rows: dict[tuple[str, int], Any], symbol: str) -> int:
    return min(start for name, start in rows if name == symbol)
