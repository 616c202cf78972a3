"""Integers on a grid to the decimal text that the exchange sends."""

from __future__ import annotations

SPOT_DECIMALS = 8  # spot prints every number with eight decimals


def text(value: int, decimals: int, padded: int | None = None) -> str:
    """Return value / 10**decimals as decimal text, with zeros up to `padded` decimals; never in scientific form."""
    if padded is not None and padded > decimals:
        value, decimals = value * 10 ** (padded - decimals), padded
    if decimals == 0:
        return str(value)
    whole, part = divmod(value, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"
