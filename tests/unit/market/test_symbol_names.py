from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.market.universe import Universe, normalize_symbol

LISTED = {"BTCUSDT", "ETHBTC", "BTCUSDC", "币安人生USDT"}


@pytest.mark.parametrize(
    ("text", "with_list", "without_list"),
    [
        ("btc", "BTCUSDT", "BTCUSDT"),
        (" BtcUsdt\n", "BTCUSDT", "BTCUSDT"),
        ("ethbtc", "ETHBTC", "ETHBTC"),
        ("eth", "ETHUSDT", "ETHUSDT"),
        ("usdt", "USDTUSDT", "USDTUSDT"),
        ("币安人生", "币安人生USDT", "币安人生USDT"),
        ("币安人生usdt", "币安人生USDT", "币安人生USDT"),
        ("wbtc", "WBTCUSDT", "WBTC"),
    ],
)
def test_names_the_pair_a_person_meant(text: str, with_list: str, without_list: str) -> None:
    assert normalize_symbol(text, LISTED) == with_list
    assert normalize_symbol(text, None) == without_list


@pytest.mark.parametrize("text", ["", "  ", "\n", "BTC\x00USDT", "BTC USDT", "B" * 41, "a\u202eb"])
def test_refuses_what_names_no_pair(text: str) -> None:
    with pytest.raises(ValueError):
        normalize_symbol(text, None)


@given(st.text(max_size=60))
def test_never_fails_otherwise_and_naming_twice_changes_nothing(text: str) -> None:
    try:
        symbol = normalize_symbol(text, None)
    except ValueError:
        return
    if len(symbol) <= 40:
        assert normalize_symbol(symbol, None) == symbol


def test_universe_knows_peers() -> None:
    universe = Universe("BTCUSDT", {"Privacy": ("ZECUSDT", "DASHUSDT", "XMRUSDT"), "Old": ("LTCUSDT",)})
    assert universe.sector_of("DASHUSDT") == "Privacy"
    assert universe.peers("DASHUSDT") == ("ZECUSDT", "XMRUSDT")
    assert (universe.peers("LTCUSDT"), universe.peers("BTCUSDT"), universe.sector_of("BTCUSDT")) == ((), (), None)
    assert universe.symbols() == ("BTCUSDT", "ZECUSDT", "DASHUSDT", "XMRUSDT", "LTCUSDT")
    with pytest.raises(ValueError, match="stands in"):
        Universe("BTCUSDT", {"A": ("X",), "B": ("X",)})
