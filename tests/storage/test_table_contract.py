"""What every table must do; each test runs on each implementation."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.storage.table import (
    Absent,
    AllOf,
    AnyOf,
    AtMost,
    Check,
    Condition,
    Delete,
    Equals,
    Item,
    Put,
    Table,
    Write,
)

HOSTILE = [
    "测试币456",
    "🚀" * 3,
    "a\nb\tc",
    "nul\x00inside",
    "<b>&\"'`;--",
    "\u202eright to left",
    "#%/\\",
    " ",
    "é" * 400,
    "\uffff",
    "\U0010ffff",
]


def item(sk: str, /, **fields: Any) -> Item:
    return {"pk": "p", "sk": sk, **fields}


# --- one item ------------------------------------------------------------------------------------------------
def test_reads_back_what_was_put_and_replaces_it_whole(table: Table) -> None:
    assert table.get(("p", "a")) is None
    assert table.put(item("a", x=1, y="two")).applied
    assert table.put(item("a", z=3)).applied
    assert table.get(("p", "a")) == item("a", z=3)
    assert table.get(("p", "a"), consistent=False) == item("a", z=3)


def test_deletes_and_deleting_nothing_is_fine(table: Table) -> None:
    table.put(item("a"))
    assert table.delete(("p", "a")).applied
    assert table.delete(("p", "a")).applied
    assert table.get(("p", "a")) is None


def test_keeps_every_kind_of_value(table: Table) -> None:
    full = item(
        "a",
        text="",
        data=b"\x00\xff",
        none=None,
        yes=True,
        no=False,
        whole=12,
        part=0.1,
        nothing=[],
        empty={},
        empty_bytes=b"",
        deep={"list": [1, "a", None, {"x": [b"b", 2.5, False]}], "é": {"$number": "1"}},
        marker={"$number": "12"},
        double={"$$number": 1},
    )
    table.put(full)
    found = table.get(("p", "a"))
    assert found == full
    assert found is not None
    assert found["yes"] is True
    assert found["no"] is False


@pytest.mark.parametrize("reserved", ["name", "status", "size", "count", "a.b", "a b", "#x", ":v0"])
def test_conditions_take_any_attribute_name(table: Table, reserved: str) -> None:
    table.put(item("a", **{reserved: 1}))
    assert table.put(item("a", **{reserved: 2}), Equals(reserved, 1)).applied


@pytest.mark.parametrize("text", HOSTILE)
def test_takes_any_text_as_key_and_value(table: Table, text: str) -> None:
    hostile: Item = {"pk": text, "sk": text, "symbol": text, "map": {text: text}}
    assert table.put(hostile, Absent()).applied
    assert table.get((text, text)) == hostile
    assert table.query(text) == [hostile]
    assert table.batch_get([(text, text)]) == {(text, text): hostile}


def test_takes_keys_up_to_the_limits_and_refuses_longer_or_empty_ones(table: Table) -> None:
    longest: Item = {"pk": "p" * 2048, "sk": "é" * 512}
    table.put(longest)
    assert table.get(("p" * 2048, "é" * 512)) == longest
    for key in [("p" * 2049, "a"), ("p", "é" * 513), ("", "a"), ("p", ""), ("p", "\ud800")]:
        with pytest.raises(ValueError):
            table.put({"pk": key[0], "sk": key[1]})
        with pytest.raises(ValueError):
            table.get(key)
        with pytest.raises(ValueError):
            table.delete(key)
    with pytest.raises(ValueError):
        table.put({"pk": "p"})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), [float("nan")], {"x": float("inf")}])
def test_refuses_numbers_that_are_none(table: Table, bad: Any) -> None:
    with pytest.raises(ValueError):
        table.put(item("a", x=bad))
    with pytest.raises(ValueError):
        table.batch_put([item("a", x=bad)])
    with pytest.raises(ValueError):
        table.transact([Put(item("a", x=bad))])
    assert table.get(("p", "a")) is None


@pytest.mark.parametrize("bad", [object(), {1, 2}, {1: 2}, {"": 1}, "\udfff", 1j])
def test_refuses_foreign_values(table: Table, bad: Any) -> None:
    with pytest.raises(ValueError):
        table.put(item("a", x=bad))


def test_keeps_items_up_to_four_hundred_kilobytes(table: Table) -> None:
    large = item("a", data="x" * 400_000)
    table.put(large)
    assert table.get(("p", "a")) == large
    with pytest.raises(ValueError):
        table.put(item("b", data="x" * (400 * 1024 + 1)))


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
    st.integers(-(10**60), 10**60),
    st.sampled_from([-0.0, 1e-130, -1e-130, 9.99e-131, 5e-324, 1.7976931348623157e308, 1e23, 1e37, 1e38, 0.1 + 0.2]),
    st.sampled_from([10**38 - 1, -(10**38) + 1, 10**38, 2**63, 2**64, -(2**63) - 1, 2**53 + 1]),
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"])) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "$number", "$$number", "é"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(value=values)
def test_any_value_reads_back_equal(table: Table, value: Any) -> None:
    table.put(item("a", x=value))
    found = table.get(("p", "a"))
    assert found == item("a", x=value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(number=numbers)
def test_numbers_come_back_in_the_same_type_from_every_table(table: Table, number: float) -> None:
    table.put(item("a", x=number))
    found = (table.get(("p", "a")) or {})["x"]
    whole = isinstance(number, int) or (number.is_integer() and abs(int(number)) < 10**38)
    assert type(found) is (int if whole else float)
    assert found == number


# --- conditions ----------------------------------------------------------------------------------------------
MOTO_IS_LENIENT = [Equals("b", 1), AtMost("s", 99), AtMost("b", 99), AtMost("big", 99)]
STORED = item("a", n=5, f=2.5, s="x", b=True, none=None, m={"n": 5}, big=10**40)


@pytest.mark.parametrize(
    ("condition", "with_item", "without"),
    [
        (Absent(), False, True),
        (Equals("n", 5), True, False),
        (Equals("n", 5.0), True, False),
        (Equals("n", 6), False, False),
        (Equals("n", "5"), False, False),
        (Equals("f", 2.5), True, False),
        (Equals("s", "x"), True, False),
        (Equals("s", "X"), False, False),
        (Equals("b", 1), False, False),
        (Equals("b", True), True, False),
        (Equals("none", 0), False, False),
        (Equals("none", ""), False, False),
        (Equals("missing", ""), False, False),
        (Equals("m.n", 5), False, False),
        (Equals("pk", "p"), True, False),
        (AtMost("n", 5), True, False),
        (AtMost("n", 4.999), False, False),
        (AtMost("n", 10**37), True, False),
        (AtMost("f", 3), True, False),
        (AtMost("s", 99), False, False),
        (AtMost("b", 99), False, False),
        (AtMost("none", 99), False, False),
        (AtMost("missing", 99), False, False),
        (AtMost("big", 99), False, False),
        (AnyOf((Absent(), AtMost("n", 5))), True, True),
        (AnyOf((Absent(), AtMost("n", 4))), False, True),
        (AnyOf((Equals("n", 1), AllOf((Equals("s", "x"), AtMost("n", 9))))), True, False),
        (AllOf((Equals("n", 5), Equals("s", "x"))), True, False),
        (AllOf((Equals("n", 5), Equals("s", "y"))), False, False),
        (AllOf((Absent(), Equals("n", 5))), False, False),
    ],
    ids=str,
)
def test_conditions(table: Table, condition: Condition, with_item: bool, without: bool, is_moto: bool) -> None:
    if is_moto and condition in MOTO_IS_LENIENT:
        pytest.skip("moto compares across types; DynamoDB Local proves this")
    new = item("a", new=1)
    refused = table.put(new, condition)
    assert refused.applied is without
    if not without:
        assert refused.existing is None
        assert table.get(("p", "a")) is None
    for write in ("put", "delete", "transact"):
        table.put(STORED)
        if write == "put":
            result = table.put(new, condition)
            assert (result.applied, result.existing) == (with_item, None if with_item else STORED)
        elif write == "delete":
            result = table.delete(("p", "a"), condition)
            assert (result.applied, result.existing) == (with_item, None if with_item else STORED)
        else:
            outcome = table.transact([Put(new, condition)])
            assert (outcome.applied, dict(outcome.failed)) == (with_item, {} if with_item else {0: STORED})
        if not with_item:
            assert table.get(("p", "a")) == STORED


@pytest.mark.parametrize("condition", [AnyOf(()), AllOf(()), AnyOf((AllOf(()),)), Equals("n", float("nan"))], ids=str)
def test_refuses_conditions_that_say_nothing(table: Table, condition: Condition) -> None:
    with pytest.raises(ValueError):
        table.put(item("a"), condition)
    with pytest.raises(ValueError):
        table.transact([Check(("p", "a"), condition)])


@pytest.mark.parametrize("limit", [float("inf"), "text", True, 10**39])
def test_at_most_takes_only_numbers(table: Table, limit: Any) -> None:
    with pytest.raises(ValueError):
        table.put(item("a"), AtMost("n", limit))


def test_of_many_racing_for_one_key_exactly_one_wins(table: Table, is_moto: bool) -> None:
    if is_moto:
        pytest.skip("moto's tables take no lock; DynamoDB Local proves this")
    start = threading.Barrier(8)

    def race(me: int) -> list[bool]:
        start.wait()
        return [table.put(item(f"{turn}", owner=me), Absent()).applied for turn in range(20)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(race, range(8)))
    assert [sum(turn) for turn in zip(*answers, strict=True)] == [1] * 20


def test_of_many_raising_one_counter_none_is_lost(table: Table, is_moto: bool) -> None:
    if is_moto:
        pytest.skip("moto's tables take no lock; DynamoDB Local proves this")
    table.put(item("counter", n=0))

    def raise_ten_times(_: int) -> None:
        done = 0
        while done < 10:
            seen = (table.get(("p", "counter")) or {})["n"]
            done += table.put(item("counter", n=seen + 1), Equals("n", seen)).applied

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(raise_ten_times, range(4)))
    assert table.get(("p", "counter")) == item("counter", n=40)


# --- ranges --------------------------------------------------------------------------------------------------
def test_queries_one_partition_in_bytewise_order(table: Table) -> None:
    keys = ["", *HOSTILE, "Z", "a", "B", "10", "9", "\U0001f600", "\uff5e"]
    table.batch_put([item(f"k{key}") for key in keys] + [{"pk": "other", "sk": "k"}])
    found = [str(found["sk"]) for found in table.query("p")]
    assert found == sorted((f"k{key}" for key in keys), key=str.encode)
    assert table.query("nobody") == []


LETTERS = list("bdfhj")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [None, 2])
def test_bounds_are_inclusive_and_the_cursor_exclusive(
    table: Table, reverse: bool, limit: int | None, is_moto: bool
) -> None:
    if is_moto and limit is not None:
        pytest.skip("moto takes 10 ms a query; DynamoDB Local proves this")
    table.batch_put(item(letter) for letter in LETTERS)
    for start in (None, "", "a", "d", "g", "j"):
        for end in (None, "", "d", "g", "j", "k"):
            for after in (None, "", "a", "d", "g", "j"):
                expected = [
                    letter
                    for letter in (LETTERS[::-1] if reverse else LETTERS)
                    if (start is None or letter >= start)
                    and (end is None or letter <= end)
                    and (after is None or (letter < after if reverse else letter > after))
                ][:limit]
                found = table.query("p", start=start, end=end, after=after, reverse=reverse, limit=limit)
                assert [one["sk"] for one in found] == expected, (start, end, after)


@pytest.mark.parametrize("limit", [0, 1, 4, 5, 6])
def test_limits_count_items(table: Table, limit: int) -> None:
    table.batch_put(item(letter) for letter in LETTERS)
    assert len(table.query("p", limit=limit)) == min(limit, 5)
    assert len(table.query("p", limit=limit, after="b")) == min(limit, 4)
    assert len(table.query("p", limit=limit, after="a", reverse=True)) == 0
    assert len(table.query("p", limit=limit, start="z", end="a")) == 0


def test_walks_a_partition_by_cursor(table: Table) -> None:
    table.batch_put(item(f"{number:03d}") for number in range(57))
    for reverse in (False, True):
        after, walked = None, []
        while page := table.query("p", after=after, limit=10, reverse=reverse):
            walked += [str(one["sk"]) for one in page]
            after = walked[-1]
        assert walked == [f"{number:03d}" for number in (range(56, -1, -1) if reverse else range(57))]


def test_follows_pages_beyond_one_megabyte(table: Table) -> None:
    table.batch_put(item(f"{number:02d}", data=b"x" * 200_000) for number in range(13))
    assert [one["sk"] for one in table.query("p")] == [f"{number:02d}" for number in range(13)]
    assert [one["sk"] for one in table.query("p", limit=9, after="01")] == [f"{n:02d}" for n in range(2, 11)]
    assert [one["sk"] for one in table.query("p", limit=9, reverse=True)] == [f"{n:02d}" for n in range(12, 3, -1)]


# --- batches -------------------------------------------------------------------------------------------------
def test_batches_of_any_size_where_the_last_of_a_key_counts(table: Table) -> None:
    table.batch_put([])
    table.batch_put(item(f"{number % 60:03d}", n=number) for number in range(200))
    found = table.batch_get([("p", f"{number:03d}") for number in range(130)] * 2)
    assert {key[1]: one["n"] for key, one in found.items()} == {
        f"{number:03d}": number + 180 if number < 20 else number + 120 for number in range(60)
    }
    assert table.batch_get([]) == {}


def test_reads_a_batch_beyond_sixteen_megabytes(table: Table, is_moto: bool) -> None:
    if is_moto:
        pytest.skip("moto does not cut an answer at 16 MB")
    table.batch_put(item(f"{number:02d}", data=b"x" * 390_000) for number in range(48))
    found = table.batch_get([("p", f"{number:02d}") for number in range(48)], consistent=True)
    assert sorted(key[1] for key in found) == [f"{number:02d}" for number in range(48)]


# --- transactions --------------------------------------------------------------------------------------------
def test_applies_all_kinds_of_writes_at_once(table: Table) -> None:
    table.put(item("gone"))
    table.put(item("checked", n=1))
    writes: list[Write] = [
        Put(item("new", x=1), Absent()),
        Put(item("other")),
        Delete(("p", "gone"), Equals("sk", "gone")),
        Delete(("p", "never")),
        Check(("p", "checked"), AtMost("n", 1)),
        Check(("p", "free"), Absent()),
    ]
    outcome = table.transact(writes)
    assert outcome.applied
    assert outcome.failed == {}
    assert [one["sk"] for one in table.query("p")] == ["checked", "new", "other"]


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("kind", ["put", "delete", "check"])
def test_applies_nothing_when_one_write_is_refused(table: Table, position: int, kind: str) -> None:
    table.put(item("blocker", by="somebody"))
    before = table.query("p")
    refused: Write = {
        "put": Put(item("blocker", by="me"), Absent()),
        "delete": Delete(("p", "blocker"), Equals("by", "me")),
        "check": Check(("p", "blocker"), Equals("by", "me")),
    }[kind]
    writes: list[Write] = [Put(item(f"{number}")) for number in range(4)]
    writes.insert(position, refused)
    outcome = table.transact(writes)
    assert not outcome.applied
    assert dict(outcome.failed) == {position: item("blocker", by="somebody")}
    assert table.query("p") == before


def test_names_every_refused_write_and_what_stands_there(table: Table) -> None:
    table.put(item("b", x=1))
    outcome = table.transact([Put(item("a")), Put(item("b"), Absent()), Check(("p", "c"), Equals("x", 1))])
    assert not outcome.applied
    assert dict(outcome.failed) == {1: item("b", x=1), 2: None}


def test_takes_a_hundred_writes_and_no_more(table: Table) -> None:
    assert table.transact([Put(item(f"{number}")) for number in range(100)]).applied
    assert len(table.query("p")) == 100
    for writes in ([], [Put(item(f"{number}")) for number in range(101)], [Put(item("a")), Delete(("p", "a"))]):
        with pytest.raises(ValueError):
            table.transact(writes)


def test_the_same_token_makes_a_repeated_transaction_the_same_one(table: Table, is_moto: bool) -> None:
    if is_moto:
        pytest.skip("moto ignores the token; DynamoDB Local proves this")
    writes: list[Write] = [Put(item("a"), Absent()), Check(("p", "b"), Absent())]
    token = "alert " * 20
    assert table.transact(writes, token=token).applied
    assert table.transact(writes, token=token).applied
    assert not table.transact(writes, token="another").applied
    assert not table.transact(writes).applied
    with pytest.raises(ValueError):
        table.transact([Put(item("c"))], token=token)


def test_a_refused_transaction_may_be_repeated_with_its_token(table: Table) -> None:
    table.put(item("a"))
    assert not table.transact([Put(item("a"), Absent())], token="t").applied
    table.delete(("p", "a"))
    assert table.transact([Put(item("a"), Absent())], token="t").applied


def test_of_transactions_on_the_same_items_each_applies_whole_or_not_at_all(table: Table, is_moto: bool) -> None:
    if is_moto:
        pytest.skip("moto's tables take no lock; DynamoDB Local proves this")

    def claim(me: int) -> bool:
        return table.transact([Put(item("x", by=me), Absent()), Put(item("y", by=me), Absent())]).applied

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(claim, range(6))) == 1
    first, second = table.query("p")
    assert first["by"] == second["by"]
