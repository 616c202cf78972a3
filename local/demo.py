"""The demo: the product as it is, an exchange of our own in place of Binance, and a clock that runs faster."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from local import logs
from local.asking import exchange_for
from local.backfilling import backfill_if_needed
from local.exchange.market import SimulatedMarket
from local.exchange.scenarios import demo_plan
from local.exchange.server import LocalExchange
from local.exchange.universe import BENCHMARK, SECTORS
from local.running import leave, run_until_stopped, stop_signals
from local.telegram import CHAT as TELEGRAM_CHAT
from local.telegram import FakeTelegram
from local.terminal import Terminal
from local.world import World, probe
from shared.alerts.channels.console import ConsoleChannel
from shared.alerts.wiring import messengers
from shared.clock import MINUTE_MS, ScaledClock, floor_minute_ms
from shared.detection.reading import Detector
from shared.market.model import Market
from shared.pictures.drawing import Drawing
from shared.secrets import Secret
from shared.settings import (
    AlertSettings,
    ApiSettings,
    ExchangeSettings,
    OrderBookSettings,
    Settings,
    StorageSettings,
    TelegramSettings,
    UniverseSettings,
)
from shared.storage.sqlite import SqliteTable

KINDS = frozenset(
    detector.value
    for detector in (
        Detector.VOLUME_SPIKE,
        Detector.TRADE_SPIKE,
        Detector.ORDER_BOOK_IMBALANCE,
        Detector.SECTOR_INITIATOR,
        Detector.SECTOR_DIFFUSION,
        Detector.WINDOW_ANOMALY,
    )
)


def demo_settings(
    exchange: LocalExchange, market: SimulatedMarket, folder: Path, port: int, telegram: FakeTelegram
) -> Settings:
    """The product's defaults, pointed at the local exchange and a Telegram on this machine.

    Order-book alerts are switched on to be seen.
    """
    return Settings(
        exchange=ExchangeSettings(
            spot_rest_url=exchange.rest_url,
            futures_rest_url=exchange.rest_url,
            spot_ws_url=exchange.ws_url,
            futures_ws_url=exchange.ws_url,
        ),
        universe=UniverseSettings(
            spot_symbols=tuple(instrument.symbol for instrument in market.instruments(Market.SPOT)),
            benchmark_symbol=BENCHMARK,
            sectors=SECTORS,
        ),
        order_book=OrderBookSettings(alert_enabled=True),
        alerts=AlertSettings(
            max_age_minutes=60.0,  # a scaled minute is a second: do not call anything late
            telegram=TelegramSettings(enabled=True, chat_id=TELEGRAM_CHAT, api_url=telegram.url),
        ),
        storage=StorageSettings(
            sqlite_path=str(folder / "demo.sqlite"), objects_path=str(folder / "objects"), table_name="demo"
        ),
        api=ApiSettings(port=port),
    )


def run_demo(*, seed: int, speed: float, port: int, as_json: bool, for_seconds: float | None, until_all: bool) -> int:
    began, ended = time.monotonic(), True
    start_ms = floor_minute_ms(time.time_ns() // 1_000_000) - MINUTE_MS
    with tempfile.TemporaryDirectory(prefix="tapewatch-demo-") as name, stop_signals() as stop:
        folder = Path(name)
        logs.configure(file=folder / "demo.log", level="INFO")
        clock = ScaledClock(start_ms, speed, running=False)
        market = SimulatedMarket(seed=seed, start_ms=start_ms, plan=demo_plan(start_ms))
        exchange = LocalExchange(market, clock)
        exchange.start()
        telegram = FakeTelegram().start()
        table = SqliteTable(str(folder / "demo.sqlite"))
        world: World | None = None
        terminal = Terminal(lambda: world.status_line() if world else "starting", as_json=as_json)
        try:
            terminal.note(
                f"Tapewatch demo: a simulated market, {speed:g} times as fast as the clock, "
                "on this machine alone. Ctrl-C ends it."
            )
            terminal.note(f"What a phone would show (a Telegram of our own, on this machine): {telegram.url}/")
            settings = demo_settings(exchange, market, folder, _free_port(port), telegram)
            market_data = exchange_for(settings, clock=clock, table=table)
            world = World(
                settings,
                clock=clock,
                table=table,
                market_data=market_data,
                channels=[
                    ConsoleChannel(terminal.alert),
                    *messengers(
                        settings,
                        clock,
                        table,
                        picture=Drawing(table, market_data).png,
                        read=lambda name, _: Secret(telegram.token, name),
                    ),
                ],
                available=probe(settings, market_data),
                speed=speed,
            )
            backfill_if_needed(world, terminal.note, stop)
            running = world

            def begin() -> None:
                running.wait_until_live(stop, within_s=20.0)
                clock.start()

            with terminal:
                ended = run_until_stopped(
                    world,
                    terminal,
                    stop,
                    done=(lambda: set(terminal.shown) >= KINDS) if until_all else None,
                    started=begin,
                    limit_s=None if for_seconds is None else for_seconds - (time.monotonic() - began),
                )
        finally:
            exchange.stop()
            telegram.stop()
            table.close()
        seen = sorted(set(terminal.shown) & KINDS)
        terminal.note(f"{len(terminal.shown)} alerts shown; kinds seen: {', '.join(seen) or 'none'}")
        terminal.note(f"Telegram took {len(telegram.texts)} messages and {len(telegram.photos)} charts")
    return leave(ended)


def _free_port(port: int) -> int:
    """The wanted port where it is free, else 0, which takes any: the demo should start beside anything."""
    import socket

    with socket.socket() as probe_socket:
        probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe_socket.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port
