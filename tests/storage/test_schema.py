"""Words from outside stay in their place in a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.storage.codec import check_key
from shared.storage.schema import model_key, time_key, windows_partition, word

any_text = st.text(st.characters(exclude_categories=[]), max_size=300)


@given(any_text)
def test_any_word_makes_a_key(text: str) -> None:
    made = word(text)
    assert 0 < len(made.encode()) <= 200
    assert "#" not in made
    assert all(ord(sign) >= 0x20 for sign in made)
    check_key(model_key(text, text))


@given(any_text, any_text)
def test_distinct_words_stay_distinct(one: str, other: str) -> None:
    assert (word(one) == word(other)) is (one == other)


@pytest.mark.parametrize("text", ["BTCUSDT", "测试币456USDT", "BTCUSDT_260327", "<b>", "🚀"])
def test_ordinary_symbols_stay_readable(text: str) -> None:
    assert word(text) == text


@pytest.mark.parametrize(
    ("text", "made"), [("", "%"), ("%", "%25"), ("a#b", "a%23b"), ("\x00", "%00"), ("\ud800", "%uD800")]
)
def test_signs_that_could_break_out_are_escaped(text: str, made: str) -> None:
    assert word(text) == made


def test_long_words_are_hashed() -> None:
    assert word("x" * 200) == "x" * 200
    assert word("x" * 10_000).startswith("%h")
    assert word("x" * 10_000) != word("x" * 10_001)
    assert windows_partition("spot", "a#b") != windows_partition("spot#a", "b")


@given(st.integers(0, 10**15 - 1), st.integers(0, 10**15 - 1))
def test_the_order_of_time_keys_is_the_order_of_times(one: int, other: int) -> None:
    assert (time_key(one) < time_key(other)) is (one < other)


@pytest.mark.parametrize("bad", [-1, 10**15])
def test_absurd_times_are_refused(bad: int) -> None:
    with pytest.raises(ValueError):
        time_key(bad)
