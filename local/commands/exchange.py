"""`tapewatch exchange serve | simulate`: the local exchange alone, for other programs and tests."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from typing import Any

from local.exchange.market import SimulatedMarket
from local.exchange.playback import PlaybackClock
from local.exchange.recorded import RecordedMarket
from local.exchange.scenarios import demo_plan
from local.exchange.server import LocalExchange
from local.exchange.universe import choose_symbols, default_symbols
from local.recordings import discover
from shared.clock import ScaledClock, SystemClock, iso_utc, parse_utc_ms
from shared.errors import UsageError
from shared.market.model import Market


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "exchange",
        help="the local exchange alone, for other programs and tests",
        description="Speaks Binance's REST and WebSocket protocol on this machine, spot and futures on one port.",
    )
    kinds = parser.add_subparsers(dest="exchange_command", metavar="serve|simulate", required=True)
    serve = kinds.add_parser("serve", help="replay recorded data")
    serve.add_argument("paths", nargs="+", metavar="PATH", help="files and folders of recorded data")
    serve.add_argument("--speed", default="1", help="times as fast as recorded, or `max`; starts with a subscription")
    serve.add_argument("--from", dest="start", metavar="TIME", help="begin there (UTC; default: the first message)")
    serve.add_argument("--symbol", help="the symbol, where names of files do not tell")
    serve.add_argument("--market", choices=[m.value for m in Market], help="the market, where names do not tell")
    simulate = kinds.add_parser("simulate", help="simulate a market with planted anomalies")
    simulate.add_argument("--seed", type=int, default=42, help="the same seed is the same market (default: 42)")
    simulate.add_argument("--speed", default="1", help="times as fast as the wall clock (default: 1)")
    simulate.add_argument("--symbols", nargs="+", metavar="SYMBOL", help="only these (the benchmark future stays)")
    simulate.add_argument("--start", metavar="TIME", help="market time at the start (UTC; default: now)")
    simulate.add_argument("--truth", action="store_true", help="print what is planted, one JSON object a line")
    for each in (serve, simulate):
        each.add_argument("--host", default="127.0.0.1")
        each.add_argument("--port", type=int, default=0, help="default: any free port")


def run(arguments: argparse.Namespace) -> int:
    exchange = _serve(arguments) if arguments.exchange_command == "serve" else _simulate(arguments)
    stopped = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
    with exchange:
        print(json.dumps({"rest_url": exchange.rest_url, "ws_url": exchange.ws_url}), flush=True)
        print("serving; Ctrl-C stops", file=sys.stderr, flush=True)
        stopped.wait()
    return 0


def _serve(arguments: argparse.Namespace) -> LocalExchange:
    speed = None if arguments.speed == "max" else _speed(arguments.speed)
    market = Market(arguments.market) if arguments.market else None
    start_ms = _time(arguments.start)
    recordings = discover(arguments.paths, symbol=arguments.symbol, market=market)
    source = RecordedMarket(recordings, start_ms=start_ms)
    if source.streams or start_ms is not None:
        origin_ms = source.first_ms()
    else:  # klines alone are history: unless told where to begin, all of it lies in the past
        origin_ms = source.last_ms()
        source = RecordedMarket(recordings, start_ms=origin_ms)
    return LocalExchange(source, PlaybackClock(origin_ms, speed), arguments.host, arguments.port)


def _simulate(arguments: argparse.Namespace) -> LocalExchange:
    told = _time(arguments.start)
    start_ms = SystemClock().now_ms() if told is None else told
    try:
        symbols = choose_symbols(arguments.symbols) if arguments.symbols else default_symbols()
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    plan = demo_plan(start_ms, listed=[(s.instrument.market, s.instrument.symbol) for s in symbols])
    market = SimulatedMarket(arguments.seed, start_ms, plan=plan, symbols=symbols)
    if arguments.truth:
        for truth in market.truth():
            print(json.dumps({**truth.to_json(), "time": iso_utc(truth.start_ms)}), flush=True)
    clock = ScaledClock(start_ms, _speed(arguments.speed))
    return LocalExchange(market, clock, arguments.host, arguments.port)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 100_000:
        raise UsageError(f"--speed {text}: a number above 0 is needed")
    return speed


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_utc_ms(text)
    except ValueError as exc:
        raise UsageError(f"{text}: not a time; write it as 2026-01-13T14:23:00Z") from exc
