"""Symbols and the sectors they stand in."""

from __future__ import annotations

from collections.abc import Collection, Mapping

# Longest first, so that FDUSD is not taken for USD. Only quotes the exchange trades in.
KNOWN_QUOTES = (
    "FDUSD", "USDT", "USDC", "TUSD", "BUSD", "USD1", "BIDR", "IDRT", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY",
    "GBP", "AUD", "RUB", "UAH", "ARS", "COP", "CZK", "MXN", "PLN", "RON", "ZAR", "NGN", "DAI", "PAX", "USD",
)  # fmt: skip
_LONGEST = 40


def normalize_symbol(text: str, listed: Collection[str] | None, quote: str = "USDT") -> str:
    """Return the pair a person meant: trimmed, upper-cased; a listed pair stays, anything else gets the quote appended.

    An unlisted name that ends with the quote stays as well: an error should name NOPEUSDT, not NOPEUSDTUSDT. Without a
    list (None) a name stays when it is longer than a known quote that it ends with.

    Raises:
        ValueError: nothing is left of the text, or no pair can be named so.
    """
    symbol = text.strip().upper()
    if not symbol:
        raise ValueError("a symbol is needed, for example BTC or BTCUSDT")
    if len(symbol) > _LONGEST:
        raise ValueError(f"a symbol has at most {_LONGEST} characters, this one has {len(symbol)}")
    if not symbol.isprintable() or any(character.isspace() for character in symbol):
        raise ValueError("a symbol holds no blanks or control characters")
    if listed is not None:
        unlisted_pair = symbol.endswith(quote) and len(symbol) > len(quote) and symbol + quote not in listed
        return symbol if symbol in listed or unlisted_pair else symbol + quote
    if any(symbol.endswith(known) and len(symbol) > len(known) for known in (quote, *KNOWN_QUOTES)):
        return symbol
    return symbol + quote


class Universe:
    """A benchmark and named sectors; a symbol stands in one sector only.

    Raises:
        ValueError: a symbol stands in two sectors, or twice in one.
    """

    def __init__(self, benchmark: str, sectors: Mapping[str, Collection[str]]) -> None:
        self.benchmark = benchmark
        self.sectors: Mapping[str, tuple[str, ...]] = {name: tuple(members) for name, members in sectors.items()}
        self._sector_of: dict[str, str] = {}
        for name, members in self.sectors.items():
            for symbol in members:
                if symbol in self._sector_of:
                    raise ValueError(f"{symbol} stands in {self._sector_of[symbol]} and again in {name}")
                self._sector_of[symbol] = name

    def sector_of(self, symbol: str) -> str | None:
        """Return the sector's name, None for a symbol in no sector."""
        return self._sector_of.get(symbol)

    def peers(self, symbol: str) -> tuple[str, ...]:
        """Return the other coins of the symbol's sector; none for a symbol in no sector."""
        sector = self._sector_of.get(symbol)
        return () if sector is None else tuple(peer for peer in self.sectors[sector] if peer != symbol)

    def symbols(self) -> tuple[str, ...]:
        """Return every symbol once, the benchmark first."""
        return tuple(dict.fromkeys((self.benchmark, *self._sector_of)))
