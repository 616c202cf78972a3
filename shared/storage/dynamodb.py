"""The table on DynamoDB: one boto3 client, one table with the keys `pk` and `sk`."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from shared.errors import StorageUnavailable
from shared.storage.aws_errors import code_of, translate
from shared.storage.codec import check_key, from_attributes, key_of, to_attributes
from shared.storage.expressions import expression_of
from shared.storage.table import Condition, Item, Key, Put, TransactionResult, Value, Write, WriteResult
from shared.storage.writes import check_writes

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_BATCH_PUT = 25
_BATCH_GET = 100
_ATTEMPTS = 8  # with the pauses below about 10 s: then the caller decides
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 3.0
_TOKEN_LENGTH = 36
_BUSY = frozenset(
    {
        "ItemCollectionSizeLimitExceeded",
        "ProvisionedThroughputExceeded",
        "ThrottlingError",
        "TransactionCanceledException",
        "TransactionConflict",
        "TransactionInProgressException",
    }
)


class DynamoTable:
    """A Table in DynamoDB. The client brings its own retries and time-outs; a client may be shared by threads.

    A write whose answer was lost may have been refused by itself when the SDK sent it again: then `existing` is
    what the caller wrote, and the caller recognises its own.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        table_name: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client: Any = client  # typed dictionaries of attribute values would say nothing that the codec does not
        self._name = table_name
        self._sleep = sleep
        self._jitter = jitter

    # --- reading -----------------------------------------------------------------------------------------
    def get(self, key: Key, *, consistent: bool = True) -> Item | None:
        with self._translated():
            answer = self._client.get_item(TableName=self._name, Key=_key(key), ConsistentRead=consistent)
        return from_attributes(answer["Item"]) if "Item" in answer else None

    def query(
        self,
        pk: str,
        *,
        start: str | None = None,
        end: str | None = None,
        after: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        consistent: bool = True,
    ) -> list[Item]:
        check_key((pk, "-"))
        # The cursor becomes a bound, and the one item that may stand on it is dropped: unlike ExclusiveStartKey
        # this takes any text, also one outside the bounds.
        low = start if reverse else _larger(start, after)
        high = _smaller(end, after) if reverse else end
        remaining = None if limit is None else limit
        if (low and high is not None and low > high) or high == "" or (remaining is not None and remaining <= 0):
            return []
        request = self._range(pk, low or None, high) | {"ScanIndexForward": not reverse, "ConsistentRead": consistent}
        found: list[Item] = []
        while True:
            if remaining is not None:
                request["Limit"] = remaining - len(found) + (after is not None)
            with self._translated():
                answer = self._client.query(**request)
            if "Items" not in answer:  # the SDK takes a body that it cannot parse for an empty answer
                raise StorageUnavailable(f"table {self._name} answered with something unreadable: ask again")
            items = (from_attributes(item) for item in answer["Items"])
            found += [item for item in items if item["sk"] != after]
            if remaining is not None and len(found) >= remaining:
                return found[:remaining]
            if "LastEvaluatedKey" not in answer:
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def batch_get(self, keys: Iterable[Key], *, consistent: bool = False) -> dict[Key, Item]:
        wanted = list(dict.fromkeys(check_key(key) for key in keys))
        found: dict[Key, Item] = {}
        for at in range(0, len(wanted), _BATCH_GET):
            left = [_key(key) for key in wanted[at : at + _BATCH_GET]]
            for pause in self._pauses():
                asked = {self._name: {"Keys": left, "ConsistentRead": consistent}}
                with self._translated():
                    answer = self._client.batch_get_item(RequestItems=asked)
                if "Responses" not in answer:
                    raise StorageUnavailable(f"table {self._name} answered with something unreadable: ask again")
                for attributes in answer["Responses"].get(self._name, ()):
                    item = from_attributes(attributes)
                    found[key_of(item)] = item
                rest = answer.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])
                if not rest:
                    break
                # An answer is cut at 16 MB: that is progress, not overload, and needs no pause.
                pause(f"{len(rest)} keys were left unread", len(rest) == len(left))
                left = rest
        return found

    # --- writing -----------------------------------------------------------------------------------------
    def put(self, item: Mapping[str, Value], condition: Condition | None = None) -> WriteResult:
        key_of(item)
        return self._write_one(self._client.put_item, {"Item": to_attributes(item)}, condition)

    def delete(self, key: Key, condition: Condition | None = None) -> WriteResult:
        return self._write_one(self._client.delete_item, {"Key": _key(key)}, condition)

    def batch_put(self, items: Iterable[Mapping[str, Value]]) -> None:
        batch: dict[Key, dict[str, Any]] = {}  # DynamoDB refuses a key twice in a batch: the last one counts
        for item in items:
            batch[key_of(item)] = to_attributes(item)
            if len(batch) == _BATCH_PUT:
                self._put_batch(list(batch.values()))
                batch.clear()
        if batch:
            self._put_batch(list(batch.values()))

    def transact(self, writes: Sequence[Write], *, token: str | None = None) -> TransactionResult:
        request: dict[str, Any] = {"TransactItems": [self._transact_item(write) for write in check_writes(writes)]}
        if token is not None:  # 36 characters at most; any text of the caller's becomes such a name
            request["ClientRequestToken"] = hashlib.sha256(token.encode()).hexdigest()[:_TOKEN_LENGTH]
        for pause in self._pauses():
            try:
                with self._translated("TransactionCanceledException", "TransactionInProgressException"):
                    self._client.transact_write_items(**request)
                return TransactionResult(True)
            except ClientError as exc:
                reasons: Any = exc.response.get("CancellationReasons", [])
                codes = [reason.get("Code") for reason in reasons]
                failed = {
                    position: from_attributes(reason["Item"]) if reason.get("Item") else None
                    for position, reason in enumerate(reasons)
                    if codes[position] == "ConditionalCheckFailed"
                }
                if failed:
                    return TransactionResult(False, failed)
                if "ValidationError" in codes:
                    raise ValueError(f"table {self._name} cannot take write {codes.index('ValidationError')}") from exc
                busy = next((code for code in codes if code not in (None, "None")), code_of(exc))
                if busy not in _BUSY:
                    missing = ClientError({"Error": {"Code": str(busy)}}, "TransactWriteItems")
                    raise translate(missing, f"table {self._name}") from exc
                pause(f"a transaction met {busy}", True)  # another transaction, or throttling: not a refusal
        raise AssertionError("unreachable: the last pause raises")

    # --- inside ------------------------------------------------------------------------------------------
    def _range(self, pk: str, low: str | None, high: str | None) -> dict[str, Any]:
        clause = {
            (False, False): "",
            (True, False): " AND sk >= :low",
            (False, True): " AND sk <= :high",
            (True, True): " AND sk BETWEEN :low AND :high",
        }[(low is not None, high is not None)]
        values = {":pk": pk, ":low": low, ":high": high}
        return {
            "TableName": self._name,
            "KeyConditionExpression": "pk = :pk" + clause,
            "ExpressionAttributeValues": {name: {"S": value} for name, value in values.items() if value is not None},
        }

    def _write_one(self, call: Callable[..., Any], request: dict[str, Any], condition: Condition | None) -> WriteResult:
        request = {"TableName": self._name, **request, **_conditional(condition)}
        for pause in self._pauses():
            try:
                with self._translated("ConditionalCheckFailedException", "TransactionConflictException"):
                    call(**request)
                return WriteResult(True)
            except ClientError as exc:
                if code_of(exc) == "ConditionalCheckFailedException":
                    existing: Any = exc.response.get("Item")
                    return WriteResult(False, from_attributes(existing) if existing else None)
                pause("a write met a transaction", True)
        raise AssertionError("unreachable: the last pause raises")

    def _put_batch(self, items: list[dict[str, Any]]) -> None:
        left = [{"PutRequest": {"Item": item}} for item in items]
        for pause in self._pauses():
            with self._translated():
                answer = self._client.batch_write_item(RequestItems={self._name: left})
            left = answer.get("UnprocessedItems", {}).get(self._name, [])
            if not left:
                return
            pause(f"{len(left)} items were left unwritten", True)

    def _transact_item(self, write: Write) -> dict[str, Any]:
        kind = type(write).__name__
        if isinstance(write, Put):
            what: dict[str, Any] = {"Item": to_attributes(write.item)}
        else:
            what = {"Key": _key(write.key)}
        name = "ConditionCheck" if kind == "Check" else kind
        return {name: {"TableName": self._name, **what, **_conditional(write.condition)}}

    def _pauses(self) -> Iterator[Callable[[str, bool], None]]:
        """Yield once per attempt a function that waits before the next one, and raises after the last."""
        for attempt in range(_ATTEMPTS):

            def pause(why: str, wait: bool, attempt: int = attempt) -> None:
                if attempt + 1 == _ATTEMPTS:
                    raise StorageUnavailable(f"table {self._name}: {why} after {_ATTEMPTS} attempts; ask again")
                if wait:
                    self._sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt) * (0.5 + self._jitter() / 2))

            yield pause

    @contextmanager
    def _translated(self, *expected: str) -> Iterator[None]:
        """Raise the storage errors in AWS's stead; the `expected` codes pass as they are."""
        try:
            yield
        except ClientError as exc:
            if code_of(exc) in expected:
                raise
            raise translate(exc, f"table {self._name}") from exc
        except BotoCoreError as exc:
            raise translate(exc, f"table {self._name}") from exc
        except ResponseParserError as exc:
            raise StorageUnavailable(f"table {self._name} answered with something unreadable: ask again") from exc


def _key(key: Key) -> dict[str, Any]:
    pk, sk = check_key(key)
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _conditional(condition: Condition | None) -> dict[str, Any]:
    if condition is None:
        return {}
    return {**expression_of(condition), "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def _larger(one: str | None, other: str | None) -> str | None:
    return max((text for text in (one, other) if text is not None), default=None)


def _smaller(one: str | None, other: str | None) -> str | None:
    return min((text for text in (one, other) if text is not None), default=None)
