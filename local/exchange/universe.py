"""The simulated exchange's listing: what is traded, at which price, how much, and how it follows the benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from local.exchange.source import Instrument
from shared.market.model import Market


@dataclass(frozen=True, slots=True)
class Coin:
    """One asset. `beta` is its pull by the benchmark; `sigma` its own standard deviation per minute (log return)."""

    price: float
    tick_decimals: int
    step_decimals: int
    beta: float
    sigma: float
    trade_quote: float  # median trade, in the quote currency
    contracts: float  # open interest, in coins
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SimulatedSymbol:
    """A coin on one market; `trades_per_hour` ordinary trades, the planted ones come on top."""

    instrument: Instrument
    coin: Coin
    trades_per_hour: int

    @property
    def key(self) -> str:
        return f"{self.instrument.market}:{self.instrument.symbol}"


BENCHMARK = "BTCUSDT"

COINS: dict[str, Coin] = {
    "BTC": Coin(64_000.0, 2, 5, 1.0, 0.00045, 400.0, 82_000.0),
    "ETH": Coin(3_100.0, 2, 4, 1.1, 0.00035, 300.0, 1_900_000.0),
    "QTUM": Coin(2.75, 4, 1, 0.8, 0.00060, 60.0, 9_000_000.0),
    "ZEC": Coin(48.5, 2, 3, 0.8, 0.00060, 120.0, 900_000.0, ("Privacy",)),
    "DASH": Coin(31.2, 2, 3, 0.7, 0.00060, 100.0, 700_000.0, ("Privacy",)),
    "XMR": Coin(162.0, 2, 3, 0.6, 0.00050, 150.0, 400_000.0, ("Privacy",)),
    "DOGE": Coin(0.12, 5, 0, 1.2, 0.00070, 200.0, 2_400_000_000.0, ("Meme",)),
    "WIF": Coin(1.85, 4, 1, 1.4, 0.00090, 120.0, 60_000_000.0, ("Meme",)),
    "BOME": Coin(0.0085, 6, 0, 1.5, 0.00095, 100.0, 9_000_000_000.0, ("Meme",)),
    "PEOPLE": Coin(0.065, 5, 0, 1.3, 0.00085, 100.0, 1_500_000_000.0, ("Meme",)),
}

SPOT = {"BTC": 3600, "ETH": 3600, "QTUM": 720}
FUTURES = {"BTC": 2400, "ZEC": 1500, "DASH": 1500, "XMR": 1500, "DOGE": 1200, "WIF": 1200, "BOME": 1200, "PEOPLE": 1200}
SECTORS = {
    "Privacy": ("ZECUSDT", "DASHUSDT", "XMRUSDT"),
    "Meme": ("DOGEUSDT", "WIFUSDT", "BOMEUSDT", "PEOPLEUSDT"),
}


def default_symbols() -> list[SimulatedSymbol]:
    """Return the whole default listing: 3 spot pairs, the futures benchmark and two sectors."""
    spot = [_symbol(Market.SPOT, base, per_hour) for base, per_hour in SPOT.items()]
    return spot + [_symbol(Market.USDM, base, per_hour) for base, per_hour in FUTURES.items()]


def choose_symbols(names: list[str]) -> list[SimulatedSymbol]:
    """Return the default listing cut down to some symbols; the benchmark's future always stays.

    Raises:
        ValueError: a name is not in the default listing.
    """
    listed = default_symbols()
    wanted = {name.upper() for name in names}
    unknown = wanted - {s.instrument.symbol for s in listed}
    if unknown:
        known = ", ".join(sorted({s.instrument.symbol for s in listed}))
        raise ValueError(f"not in the simulated market: {', '.join(sorted(unknown))} (it has {known})")
    return [
        s
        for s in listed
        if s.instrument.symbol in wanted or (s.instrument.market is Market.USDM and s.instrument.symbol == BENCHMARK)
    ]


def _symbol(market: Market, base: str, per_hour: int) -> SimulatedSymbol:
    coin = COINS[base]
    instrument = Instrument(
        market,
        f"{base}USDT",
        base,
        "USDT",
        coin.tick_decimals,
        coin.step_decimals,
        coin.tags if market is Market.USDM else (),
    )
    return SimulatedSymbol(instrument, coin, per_hour)
