"""`tapewatch mute`: silence one symbol for a while; list and lift mutes."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "mute",
        help="silence one symbol for a while",
        description="Holds back every alert of a symbol; its signals are still stored. Without a symbol: lists mutes.",
    )
    parser.add_argument("symbol", nargs="?", help="a pair or a coin: BTCUSDT, btc")
    parser.add_argument("--for", dest="span", default="1h", help="how long: 30m, 1h, 7d (default %(default)s)")
    parser.add_argument("--reason", default="", help="why, shown in the list")
    parser.add_argument("--off", action="store_true", help="lift the symbol's mutes")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from local.durations import parse_span_ms
    from local.exchange_time import state_clock
    from local.world import open_state
    from shared.clock import iso_utc
    from shared.errors import UsageError
    from shared.market.universe import normalize_symbol
    from shared.settings_loader import load_settings
    from shared.storage.mutes import MuteRepository

    settings = load_settings(arguments.config).settings
    table = open_state(settings, aws=arguments.aws)
    now_ms = state_clock(table).now_ms()
    try:
        mutes = MuteRepository(table)
        if arguments.symbol is not None:
            watched = {*settings.universe.spot_symbols, *settings.futures_symbols}
            try:
                symbol = normalize_symbol(arguments.symbol, watched)
            except ValueError as exc:
                raise UsageError(f"symbol: {exc}") from None
            if arguments.off:
                for mute in mutes.active(now_ms):
                    if mute.symbol == symbol:
                        mutes.remove(mute.mute_id)
            else:
                mutes.put(symbol, now_ms + parse_span_ms("--for", arguments.span), arguments.reason)
        rows = [
            {
                "id": mute.mute_id,
                "symbol": mute.symbol,
                "until": None if mute.until_ms is None else iso_utc(mute.until_ms // 1000 * 1000),
                "reason": mute.reason,
            }
            for mute in mutes.active(now_ms)
        ]
    finally:
        table.close()
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))
    elif not rows:
        print("nothing is muted")
    else:
        for row in rows:
            print(f"{row['symbol']:<14} until {row['until'] or 'lifted'}  {row['reason']}")
    return 0
