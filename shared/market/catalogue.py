"""The built-in catalogue of sectors, and the universe that it makes of an exchange's listing.

The catalogue is data (`sectors.json`, with its source and date), by base asset. Where a coin is not in it, the
exchange's own words decide; what nobody has placed stands in `OTHER`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import msgspec

OTHER = "Other"
_MULTIPLIER = re.compile(r"^(?:10{3,6}|1M)(?=.)")  # 1000SHIB is a thousand SHIB, 1MBABYDOGE a million BABYDOGE


@dataclass(frozen=True, slots=True)
class Contract:
    """One listed USD-M contract, as far as the choice needs it. `kind` is the exchange's contract type."""

    symbol: str
    base: str
    quote: str
    status: str
    kind: str | None
    tags: tuple[str, ...] = ()


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sectors` maps a sector to base assets, `tags` the exchange's `underlyingSubType` words to sectors."""

    source: str
    date: str
    sectors: dict[str, tuple[str, ...]]
    tags: dict[str, str]

    def sector_of(self, base: str, tags: Iterable[str] = ()) -> str:
        """Return the sector of a base asset: its place in the catalogue, else by the first word known, else OTHER."""
        plain = _MULTIPLIER.sub("", base)
        for name in (base, plain):
            for sector, bases in self.sectors.items():
                if name in bases:
                    return sector
        return next((self.tags[tag] for tag in tags if tag in self.tags), OTHER)


@cache
def built_in() -> Catalogue:
    """Return the catalogue that comes with the product."""
    data = files("shared.market").joinpath("sectors.json").read_bytes()
    return msgspec.json.decode(data, type=Catalogue)


def choose(
    listed: Iterable[Contract],
    *,
    quote: str,
    benchmark: str,
    catalogue: Catalogue,
    overrides: Mapping[str, Collection[str]],
    exclude: Collection[str] = (),
    tradfi: bool = False,
) -> dict[str, tuple[str, ...]]:
    """Return sector -> symbols of every perpetual in `quote` that trades, both in order of their names.

    A symbol of `overrides` stands in the sector named there. Contracts settled in coins, quarterly ones, and with
    `tradfi` False those on stocks and commodities are left out, as are `exclude` and the benchmark.
    """
    kinds = {"PERPETUAL", "TRADIFI_PERPETUAL"} if tradfi else {"PERPETUAL"}
    moved = {symbol: sector for sector, symbols in overrides.items() for symbol in symbols}
    left_out = {*exclude, benchmark}
    sectors: dict[str, list[str]] = {}
    for one in listed:
        if one.kind not in kinds or one.status != "TRADING" or one.quote != quote or one.symbol in left_out:
            continue
        sector = moved.get(one.symbol) or catalogue.sector_of(one.base, one.tags)
        sectors.setdefault(sector, []).append(one.symbol)
    return {name: tuple(sorted(set(sectors[name]))) for name in sorted(sectors)}
