"""What DynamoDB says when it cannot or will not, and what becomes of it; on moto, with refusals put in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, NoCredentialsError
from botocore.parsers import ResponseParserError
from moto import mock_aws

from shared.errors import StorageMissing, StorageUnavailable
from shared.storage.dynamodb import DynamoTable
from shared.storage.table import Absent, Check, Delete, Equals, Put, Table

Dynamo = tuple[Any, Callable[[Any], DynamoTable]]

CALLS: dict[str, Callable[[Table], Any]] = {
    "get": lambda table: table.get(("p", "a")),
    "put": lambda table: table.put({"pk": "p", "sk": "a"}),
    "delete": lambda table: table.delete(("p", "a"), Absent()),
    "query": lambda table: table.query("p"),
    "batch_put": lambda table: table.batch_put([{"pk": "p", "sk": "a"}]),
    "batch_get": lambda table: table.batch_get([("p", "a")]),
    "transact": lambda table: table.transact([Check(("p", "a"), Absent())]),
}


class Failing:
    """A client whose first `times` calls raise, and with `after` only once the call was carried out."""

    def __init__(self, client: Any, error: Exception, *, times: int = 10**9, after: bool = False) -> None:
        self.client, self.error, self.left, self.after = client, error, times, after

    def __getattr__(self, name: str) -> Any:
        def call(**request: Any) -> Any:
            if self.left > 0:
                self.left -= 1
                if self.after:
                    getattr(self.client, name)(**request)
                raise self.error
            return getattr(self.client, name)(**request)

        return call


def refusal(code: str, message: str = "no", **more: Any) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}, **more}, "Operation")


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_table_says_what_to_run(moto_client: Any, call: str) -> None:
    with mock_aws():
        table = DynamoTable(moto_client, "nowhere")
        with pytest.raises(StorageMissing, match=r"no table nowhere.*cdk deploy"):
            CALLS[call](table)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("error", "becomes", "says"),
    [
        (refusal("ProvisionedThroughputExceededException"), StorageUnavailable, "ask again"),
        (refusal("ThrottlingException"), StorageUnavailable, "ask again"),
        (refusal("RequestLimitExceeded"), StorageUnavailable, "ask again"),
        (refusal("InternalServerError"), StorageUnavailable, "ask again"),
        (refusal("503"), StorageUnavailable, "ask again"),
        (EndpointConnectionError(endpoint_url="https://x"), StorageUnavailable, "ask again"),
        (ConnectTimeoutError(endpoint_url="https://x"), StorageUnavailable, "ask again"),
        (ResponseParserError("<html>"), StorageUnavailable, "unreadable"),
        (refusal("AccessDeniedException"), StorageMissing, "rights"),
        (refusal("UnrecognizedClientException"), StorageMissing, "credentials"),
        (refusal("ExpiredTokenException"), StorageMissing, "credentials"),
        (NoCredentialsError(), StorageMissing, "sign in"),
        (refusal("ValidationException", "bad item"), ValueError, "bad item"),
    ],
    ids=lambda value: getattr(value, "response", {}).get("Error", {}).get("Code") or type(value).__name__,
)
def test_refusals_are_translated(
    dynamo: Dynamo, call: str, error: Exception, becomes: type[Exception], says: str
) -> None:
    client, table = dynamo
    with pytest.raises(becomes, match=says) as raised:
        CALLS[call](table(Failing(client, error)))
    assert type(raised.value) is becomes
    assert raised.value.__cause__ is error


def test_a_write_refused_by_itself_shows_what_it_wrote(dynamo: Dynamo) -> None:
    """F302: the write was made, its answer lost; sent again it is refused, and the caller sees its own."""
    client, table = dynamo
    mine = {"pk": "p", "sk": "a", "owner": "me"}
    with pytest.raises(StorageUnavailable):
        table(Failing(client, ConnectTimeoutError(endpoint_url="x"), times=1, after=True)).put(mine, Absent())
    again = table(client).put(mine, Absent())
    assert not again.applied
    assert again.existing == mine


@pytest.mark.parametrize("times", [1, 3])
def test_a_write_that_meets_a_transaction_is_sent_again(dynamo: Dynamo, times: int) -> None:
    client, table = dynamo
    conflict = refusal("TransactionConflictException")
    assert table(Failing(client, conflict, times=times)).put({"pk": "p", "sk": "a"}).applied
    with pytest.raises(StorageUnavailable, match="8 attempts"):
        table(Failing(client, conflict)).delete(("p", "a"))


def cancelled(*codes: str) -> ClientError:
    return refusal("TransactionCanceledException", CancellationReasons=[{"Code": code} for code in codes])


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize(
    "code",
    ["TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError", "ItemCollectionSizeLimitExceeded"],
)
def test_a_transaction_cancelled_by_others_is_sent_again(dynamo: Dynamo, position: int, code: str) -> None:
    """F305: only a condition that failed is an answer; every other reason is bad luck."""
    client, table = dynamo
    codes = ["None"] * 3
    codes[position] = code
    writes = [Put({"pk": "p", "sk": "a"}, Absent()), Delete(("p", "b")), Check(("p", "c"), Absent())]
    assert table(Failing(client, cancelled(*codes), times=2)).transact(writes).applied
    with pytest.raises(StorageUnavailable, match=code):
        table(Failing(client, cancelled(*codes))).transact(writes)


def test_a_failed_condition_counts_even_beside_a_conflict(dynamo: Dynamo) -> None:
    client, table = dynamo
    mixed = cancelled("TransactionConflict", "ConditionalCheckFailed")
    outcome = table(Failing(client, mixed)).transact([Put({"pk": "p", "sk": "a"}), Check(("p", "b"), Absent())])
    assert (outcome.applied, dict(outcome.failed)) == (False, {1: None})


def test_an_invalid_write_in_a_transaction_is_a_mistake(dynamo: Dynamo) -> None:
    client, table = dynamo
    with pytest.raises(ValueError, match="write 1"):
        table(Failing(client, cancelled("None", "ValidationError"))).transact(
            [Put({"pk": "p", "sk": "a"}), Put({"pk": "p", "sk": "b"})]
        )


class Leaving:
    """A client that carries out only `keep` entries of a batch, and in its first `empty` calls none."""

    def __init__(self, client: Any, keep: int, empty: int = 0) -> None:
        self.client, self.keep, self.empty, self.calls = client, keep, empty, 0

    def _cut(self, entries: list[Any]) -> tuple[list[Any], list[Any]]:
        self.calls += 1
        keep = 0 if self.calls <= self.empty else self.keep
        return entries[:keep], entries[keep:]

    def batch_write_item(self, RequestItems: dict[str, list[Any]]) -> Any:  # noqa: N803
        ((name, entries),) = RequestItems.items()
        now, later = self._cut(entries)
        if now:
            self.client.batch_write_item(RequestItems={name: now})
        return {"UnprocessedItems": {name: later} if later else {}}

    def batch_get_item(self, RequestItems: dict[str, dict[str, Any]]) -> Any:  # noqa: N803
        ((name, asked),) = RequestItems.items()
        now, later = self._cut(asked["Keys"])
        found = self.client.batch_get_item(RequestItems={name: {**asked, "Keys": now}})["Responses"] if now else {}
        return {"Responses": found, "UnprocessedKeys": {name: {**asked, "Keys": later}} if later else {}}


@pytest.mark.parametrize(("keep", "empty"), [(5, 0), (24, 0), (10, 3), (25, 7)])
def test_what_is_left_of_a_batch_is_sent_again(dynamo: Dynamo, keep: int, empty: int) -> None:
    """F304: part of a batch left over."""
    client, table = dynamo
    items = [{"pk": "p", "sk": f"{number:02d}"} for number in range(25)]
    table(Leaving(client, keep, empty)).batch_put(items)
    assert table(client).query("p") == items
    found = table(Leaving(client, keep, empty)).batch_get([("p", f"{number:02d}") for number in range(25)])
    assert sorted(found.values(), key=str) == items


def test_a_batch_that_never_moves_gives_up(dynamo: Dynamo) -> None:
    client, table = dynamo
    leaving = Leaving(client, 0)
    with pytest.raises(StorageUnavailable, match="25 items were left unwritten"):
        table(leaving).batch_put({"pk": "p", "sk": f"{number}"} for number in range(25))
    assert leaving.calls == 8
    with pytest.raises(StorageUnavailable, match="keys were left unread"):
        table(Leaving(client, 0)).batch_get([("p", "a")])


def test_pauses_grow_are_spread_and_stay_below_half_a_minute(dynamo: Dynamo) -> None:
    client, _ = dynamo
    slept: list[float] = []
    table = DynamoTable(Leaving(client, 0), "x", sleep=slept.append, jitter=lambda: 1.0)  # type: ignore[arg-type]
    with pytest.raises(StorageUnavailable):
        table.batch_get([("p", "a")])
    assert slept == sorted(slept)
    assert len(slept) == 7
    assert 1 < sum(slept) < 30


def test_reads_are_consistent_unless_told_otherwise(dynamo: Dynamo) -> None:
    """F308: cooldowns and leases must never judge by an old copy."""
    client, table = dynamo
    asked: list[dict[str, Any]] = []

    class Listening:
        def __getattr__(self, name: str) -> Any:
            def call(**request: Any) -> Any:
                asked.append(request)
                return getattr(client, name)(**request)

            return call

    listening = table(Listening())
    listening.get(("p", "a"))
    listening.query("p")
    listening.get(("p", "a"), consistent=False)
    listening.query("p", consistent=False)
    assert [request["ConsistentRead"] for request in asked] == [True, True, False, False]


def test_a_condition_names_no_value_that_it_does_not_use(dynamo: Dynamo) -> None:
    """Real DynamoDB refuses unused placeholders, moto does not."""
    client, table = dynamo
    asked: list[dict[str, Any]] = []

    class Listening:
        def put_item(self, **request: Any) -> Any:
            asked.append(request)
            return client.put_item(**request)

    table(Listening()).put({"pk": "p", "sk": "a"}, Absent())
    assert "ExpressionAttributeValues" not in asked[0]
    table(Listening()).put({"pk": "p", "sk": "a"}, Equals("x", 1))
    assert set(asked[1]["ExpressionAttributeValues"]) == {":v0"}
    assert asked[1]["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
