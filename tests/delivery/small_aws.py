"""An AWS in memory behind botocore's `before-send` hook: as much of it as Tapewatch calls, and its state can be copied.

moto costs some milliseconds a call and cannot be forked from a prepared state; a sweep makes some 300,000 calls.
That this table behaves like DynamoDB is checked beside moto, SQLite and DynamoDB Local, by `test_table_contract.py`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.awsrequest import AWSResponse

Item = dict[str, Any]  # attribute values as they travel
_MOST_BYTES = 400 * 1024
_PAGE_BYTES = 1024 * 1024
_DIGITS = Context(prec=38, Emin=-200, Emax=200)
_one_at_a_time = threading.Lock()
_TOKENS = re.compile(r"attribute_not_exists|AND|OR|<=|=|\(|\)|#\w+|:\w+")


class Refused(Exception):
    """An error answer: its code, and what else stands in it."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.code, self.more = code, more


@dataclass
class SmallAws:
    """Tables (by partition and sort key), topics and queues (what they took), an event bus and a bucket.

    Without `remembers` a transaction that is sent again is judged again, so it is refused by its own first write: what
    happens when the token is forgotten, and the harder case.
    """

    tables: dict[str, dict[str, dict[str, Item]]] = field(default_factory=dict)
    published: dict[str, list[str]] = field(default_factory=dict)  # by topic, the JSON of its SQS subscribers
    queued: dict[str, list[str]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    remembers: bool = True

    def copy(self) -> SmallAws:
        """Return the same state for another case; stored items are never changed in place."""
        return SmallAws(
            {name: {pk: dict(rows) for pk, rows in table.items()} for name, table in self.tables.items()},
            {name: list(taken) for name, taken in self.published.items()},
            {name: list(taken) for name, taken in self.queued.items()},
            list(self.events),
            dict(self.objects),
            dict(self.tokens),
            self.remembers,
        )

    def answer(self, request: Any, event_name: str) -> AWSResponse:
        """Carry a request out, one at a time; `event_name` is botocore's `before-send.<service>.<operation>`."""
        with _one_at_a_time:
            return self._answer(request, event_name)

    def _answer(self, request: Any, event_name: str) -> AWSResponse:
        _, service, operation = event_name.split(".")
        body = request.body or b""
        text = body if isinstance(body, str) else body.decode() if isinstance(body, bytes) else ""
        if service == "dynamodb":
            return _json(request, getattr(_Dynamo(self), operation), json.loads(text))
        if service == "eventbridge":
            return _json(request, self._put_events, json.loads(text))
        if service == "sqs":
            return _json(request, self._send_message, json.loads(text))
        if service == "sns":
            return _xml(request, operation, getattr(self, f"_{operation}"), parse_qs(text))
        assert (service, operation) == ("s3", "PutObject"), event_name
        self.objects[unquote(urlsplit(request.url).path)] = body if isinstance(body, bytes) else body.read()
        return AWSResponse(request.url, 200, {"ETag": '"1"'}, _Raw(b""))

    def _put_events(self, body: dict[str, Any]) -> dict[str, Any]:
        self.events += body["Entries"]
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in body["Entries"]]}

    def _send_message(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["QueueUrl"] not in self.queued:
            raise Refused("QueueDoesNotExist")
        self.queued[body["QueueUrl"]].append(body["MessageBody"])
        return {"MessageId": "1"}

    def _Publish(self, body: Mapping[str, list[str]]) -> str:
        self._known_topic(body)
        self.published[body["TopicArn"][0]].append(json.loads(body["Message"][0])["sqs"])
        return "<MessageId>1</MessageId>"

    def _ListSubscriptionsByTopic(self, body: Mapping[str, list[str]]) -> str:
        self._known_topic(body)
        return "<Subscriptions><member><SubscriptionArn>arn:aws:sns:x:1:y:z</SubscriptionArn></member></Subscriptions>"

    def _known_topic(self, body: Mapping[str, list[str]]) -> None:
        if body["TopicArn"][0] not in self.published:
            raise Refused("NotFound")


class _Dynamo:
    """One method per operation, named as DynamoDB names it."""

    def __init__(self, aws: SmallAws) -> None:
        self._aws = aws

    def GetItem(self, body: Item) -> Item:
        found = self._find(body["TableName"], body["Key"])
        return {} if found is None else {"Item": found}

    def PutItem(self, body: Item) -> Item:
        self._write_one(body, body["Item"], body["Item"])
        return {}

    def DeleteItem(self, body: Item) -> Item:
        self._write_one(body, body["Key"], None)
        return {}

    def Query(self, body: Item) -> Item:
        values = body["ExpressionAttributeValues"]
        low, high = values.get(":low", {"S": ""})["S"], values.get(":high", {"S": "\U0010ffff" * 300})["S"]
        rows = self._rows(body["TableName"], values[":pk"]["S"])
        keys = sorted(sk for sk in rows if low <= sk <= high)
        backward = not body.get("ScanIndexForward", True)
        if backward:
            keys.reverse()
        if "ExclusiveStartKey" in body:
            last = body["ExclusiveStartKey"]["sk"]["S"]
            keys = [sk for sk in keys if (sk < last if backward else sk > last)]
        found, size = [], 0
        for sk in keys[: body.get("Limit")]:
            found.append(rows[sk])
            size += _size(rows[sk])
            if size > _PAGE_BYTES:
                break
        answer: Item = {"Items": found, "Count": len(found)}
        if len(found) < len(keys):
            answer["LastEvaluatedKey"] = _key_of(found[-1])
        return answer

    def BatchGetItem(self, body: Item) -> Item:
        found = {
            name: [item for key in wanted["Keys"] if (item := self._find(name, key)) is not None]
            for name, wanted in body["RequestItems"].items()
        }
        return {"Responses": found, "UnprocessedKeys": {}}

    def BatchWriteItem(self, body: Item) -> Item:
        for name, requests in body["RequestItems"].items():
            for request in requests:
                self._apply(name, request["PutRequest"]["Item"], request["PutRequest"]["Item"])
        return {"UnprocessedItems": {}}

    def TransactWriteItems(self, body: Item) -> Item:
        token, what = body.get("ClientRequestToken", ""), json.dumps(body["TransactItems"], sort_keys=True)
        if token and token in self._aws.tokens:
            if self._aws.tokens[token] != what:
                raise Refused("IdempotentParameterMismatchException")
            return {}
        reasons, writes = [], []
        for entry in body["TransactItems"]:
            ((kind, one),) = entry.items()
            key = one["Item"] if kind == "Put" else one["Key"]
            reasons.append(self._judge(one, key))
            if kind != "ConditionCheck":
                writes.append((one["TableName"], key, one.get("Item")))
        if any(reason["Code"] != "None" for reason in reasons):
            raise Refused("TransactionCanceledException", CancellationReasons=reasons)
        for name, _, item in writes:
            _check_size(name, item)
        for name, key, item in writes:
            self._apply(name, key, item)
        if token and self._aws.remembers:
            self._aws.tokens[token] = what
        return {}

    # --- inside -------------------------------------------------------------------------------------------------
    def _rows(self, name: str, pk: str) -> dict[str, Item]:
        if name not in self._aws.tables:
            raise Refused("ResourceNotFoundException")
        return self._aws.tables[name].setdefault(pk, {})

    def _find(self, name: str, key: Item) -> Item | None:
        return self._rows(name, key["pk"]["S"]).get(key["sk"]["S"])

    def _judge(self, one: Item, key: Item) -> Item:
        existing = self._find(one["TableName"], key)
        if "ConditionExpression" not in one or _holds(one, existing):
            return {"Code": "None"}
        return {"Code": "ConditionalCheckFailed"} | ({} if existing is None else {"Item": existing})

    def _write_one(self, body: Item, key: Item, item: Item | None) -> None:
        reason = self._judge(body, key)
        if reason["Code"] != "None":
            raise Refused("ConditionalCheckFailedException", **{k: v for k, v in reason.items() if k == "Item"})
        self._apply(body["TableName"], key, item)

    def _apply(self, name: str, key: Item, item: Item | None) -> None:
        _check_size(name, item)
        rows = self._rows(name, key["pk"]["S"])
        if item is None:
            rows.pop(key["sk"]["S"], None)
        else:
            rows[key["sk"]["S"]] = _as_stored(item)


def _check_size(name: str, item: Item | None) -> None:
    if item is not None and _size(item) > _MOST_BYTES:
        raise Refused("ValidationException", message=f"Item size has exceeded the maximum allowed size in {name}")


def _size(value: Any) -> int:
    """Return about as many bytes as DynamoDB counts."""
    if isinstance(value, dict):
        if value.keys() == {"B"}:
            return len(value["B"]) * 3 // 4
        if len(value) == 1 and next(iter(value)) in ("S", "N"):
            return _size(next(iter(value.values())))
        return sum(len(name) + _size(inner) for name, inner in value.items())
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else 1


def _key_of(item: Item) -> Item:
    return {"pk": item["pk"], "sk": item["sk"]}


def _as_stored(value: Any) -> Any:
    """Numbers as DynamoDB gives them back: 38 digits, no trailing zeros, no -0."""
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get("N"), str):
            number = Decimal(value["N"])
            return {"N": "0" if not number else format(_DIGITS.normalize(number), "f")}
        return {name: _as_stored(inner) for name, inner in value.items()}
    return [_as_stored(inner) for inner in value] if isinstance(value, list) else value


def _holds(one: Item, existing: Item | None) -> bool:
    """Judge a condition expression of the forms that `shared.storage.expressions` writes."""
    names, values = one.get("ExpressionAttributeNames", {}), one.get("ExpressionAttributeValues", {})
    left = _TOKENS.findall(one["ConditionExpression"])
    item = existing or {}

    def atom() -> bool:
        token = left.pop(0)
        if token == "(":
            answer = either()
            assert left.pop(0) == ")"
            return answer
        if token == "attribute_not_exists":
            left.pop(0)
            name = left.pop(0)
            left.pop(0)
            return names[name] not in item
        sign, wanted, stored = left.pop(0), values[left.pop(0)], item.get(names[token])
        if stored is None or stored.keys() != wanted.keys():
            return False
        ((kind, mine),), ((_, theirs),) = stored.items(), wanted.items()
        if kind == "N":
            mine, theirs = Decimal(mine), Decimal(theirs)
        return bool(mine == theirs if sign == "=" else mine <= theirs)

    def both() -> bool:
        answer = atom()
        while left and left[0] == "AND":
            left.pop(0)
            answer = atom() and answer
        return answer

    def either() -> bool:
        answer = both()
        while left and left[0] == "OR":
            left.pop(0)
            answer = both() or answer
        return answer

    return either()


class _Raw(BytesIO):
    def stream(self, **_: Any) -> Any:
        contents = self.read()
        if contents:
            yield contents


def plain_answer(request: Any, status: int, body: bytes, kind: str = "application/x-amz-json-1.0") -> AWSResponse:
    return AWSResponse(request.url, status, {"Content-Type": kind}, _Raw(body))


def error_answer(request: Any, event_name: str, status: int, code: str, **more: Any) -> AWSResponse:
    """Return an error as the service of `event_name` words it."""
    if ".sns." in event_name or ".s3." in event_name:
        inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error>"
        text = inner if ".s3." in event_name else f"<ErrorResponse>{inner}<RequestId>1</RequestId></ErrorResponse>"
        return plain_answer(request, status, text.encode(), "text/xml")
    return plain_answer(request, status, json.dumps({"__type": f"x#{code}", "message": "no", **more}).encode())


def _json(request: Any, work: Callable[[Item], Item], body: Item) -> AWSResponse:
    try:
        return plain_answer(request, 200, json.dumps(work(body)).encode())
    except Refused as exc:
        return error_answer(request, ".json.", 400, exc.code, **exc.more)


def _xml(request: Any, operation: str, work: Callable[[Any], str], body: Any) -> AWSResponse:
    try:
        inner = work(body)
    except Refused as exc:
        return error_answer(request, ".sns.", 404, exc.code)
    text = f"<{operation}Response><{operation}Result>{inner}</{operation}Result></{operation}Response>"
    return plain_answer(request, 200, text.encode(), "text/xml")
