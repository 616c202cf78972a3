"""Throw a million mutated messages at everything that parses what a stranger sends.

    uv pip install atheris            (Linux; or: uv sync --group fuzz)
    python -m benchmarks.fuzz [--runs 1000000] [--seed 1]

Guided by coverage (atheris, LibFuzzer). A run feeds one message to the stream parser of each market, each tenth
run also to a whole session, in a batch between good ones. A crash is an exception of any kind, a trade without a usable
number, or a message that is not accounted for. The exit status is 0 when there was none; else the message is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from math import isfinite

import atheris

with atheris.instrument_imports(include=["shared", "streamer"]):
    from shared.exchange.binance.events import Liquidation
    from shared.exchange.binance.stream import StreamParser
    from shared.market.model import Market, Trade
    from shared.settings import Settings, UniverseSettings
    from streamer.liquidations import LiquidationSums
    from streamer.session import Session

RECV_MS = 1_760_000_000_500
EACH = 10
TELL = 100_000
SEEDS = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1760000000001,"s":"BTCUSDT","t":1000,"p":"60000.10000000",'
    b'"q":"0.01000000","T":1760000000000,"m":true,"M":true}}',
    b'{"e":"aggTrade","E":1760000000001,"s":"BTCUSDT","a":7,"p":"1.5","q":"2","f":1,"l":2,"T":1760000000000,"m":false}',
    b'{"stream":"x","data":{"e":"forceOrder","E":1760000000001,"o":{"s":"BTCUSDT","S":"SELL","o":"LIMIT","f":"IOC",'
    b'"q":"0.014","p":"9910","ap":"9910","X":"FILLED","l":"0.014","z":"0.014","T":1760000000000}}}',
    b'{"e":"kline","E":1760000000001,"s":"BTCUSDT","k":{"t":1759999980000,"T":1760000039999,"s":"BTCUSDT","i":"1m",'
    b'"o":"1","c":"2","h":"2","l":"1","v":"3","n":4,"x":true,"q":"5","V":"1","Q":"2"}}',
    b'{"e":"markPriceUpdate","E":1760000000001,"s":"BTCUSDT","p":"11794.15","r":"0.00038167","T":1760003600000}',
    b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":157,"u":160,"pu":149,"b":[["0.0024","10"]],"a":[["0.0026","100"]]}',
    b'{"stream":"btcusdt@depth5","data":{"lastUpdateId":1,"bids":[["1","2"]],"asks":[["3","4"]]}}',
    b'{"e":"serverShutdown","E":1760000000001}',
    b'{"result":null,"id":1}',
    b'{"error":{"code":2,"msg":"no"},"id":null}',
    b'[{"e":"markPriceUpdate","s":"BTCUSDT","p":"1"},null,[]]',
    b"[[[[[[[[[[[[",
    b"\x1f\x8b\x08\x00",
)


class Feeding:
    """What is fed: made anew now and then, for its states grow."""

    def __init__(self) -> None:
        settings = Settings(universe=UniverseSettings(spot_symbols=("BTCUSDT",)))
        self.parsers = [StreamParser(market) for market in (Market.SPOT, Market.USDM)]
        self.session = Session(settings, Market.SPOT, ("BTCUSDT",), together=True)
        self.sums = LiquidationSums(lambda minute_ms, rows: None)
        self.fed = 0

    def take(self, data: bytes) -> None:
        self.fed += 1
        for parser in self.parsers:
            for event in parser.receive(data, RECV_MS):
                if isinstance(event, Trade):
                    assert isfinite(event.price)
                    assert isfinite(event.quantity)
                    assert min(event.price, event.quantity) > 0
                    assert 0 < event.event_ms < RECV_MS + 2 * 86_400_000
                elif isinstance(event, Liquidation):
                    assert isfinite(event.notional)
        if self.fed % EACH:
            return
        before = self.session.messages
        self.session.receive_many([SEEDS[0], data, SEEDS[0], data], RECV_MS)
        assert self.session.messages == before + 4
        self.sums.receive_many([data], RECV_MS)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    feeding = [Feeding()]
    count = [0]

    def one(data: bytes) -> None:
        if feeding[0].fed >= 20_000:
            feeding[0] = Feeding()
        count[0] += 1
        if count[0] <= len(SEEDS):
            data = SEEDS[count[0] - 1]
        feeding[0].take(data)
        if count[0] % TELL == 0 or count[0] == chosen.runs:
            print(f"{count[0]} runs, no crash", flush=True)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        # Half of the time from a whole message again: bytes alone rarely find their way back to JSON.
        start = SEEDS[seed % len(SEEDS)] if seed % 2 else data
        return atheris.Mutate(start, most)

    words = [sys.argv[0], f"-runs={chosen.runs}", f"-seed={chosen.seed}", "-max_len=4096", "-verbosity=0"]
    words += [f"-artifact_prefix={tempfile.gettempdir()}/"]
    atheris.Setup(words, one, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
