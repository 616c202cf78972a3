"""Faults on single AWS calls, at botocore's `before-send` hook in front of an AWS in memory.

Whoever answers there keeps the request from the network, so one hook does all: refuse without carrying out, fail before
it, fail after it, or let the process die at either moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError
from small_aws import SmallAws, error_answer, plain_answer

KINDS = ("refused", "lost before", "lost after", "500", "throttled", "garbage", "kill before", "kill after")
_ERRORS = {
    "refused": (400, "AccessDeniedException"),
    "500": (500, "InternalServerError"),
    "throttled": (400, "ThrottlingException"),
}


class Killed(BaseException):
    """The process died here."""


class Faults:
    """Number the calls of its clients; at call `at` do what `kind` says, or run `instead` and go on."""

    def __init__(self, aws: SmallAws | None = None) -> None:
        self.aws = aws or SmallAws()
        self.disarm()
        self.arm()
        self.disarm()

    def attach(self, client: Any) -> Any:
        client.meta.events.register("before-send", self._answer)
        return client

    def arm(self, at: int = -1, kind: str = "", instead: Callable[[], None] | None = None) -> Faults:
        self.armed, self.calls, self.at, self.kind, self.instead = True, 0, at, kind, instead
        self.operations: list[str] = []
        return self

    def disarm(self) -> None:
        self.armed = False

    def _answer(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        if not self.armed:
            return self.aws.answer(request, event_name)
        number, self.calls = self.calls, self.calls + 1
        self.operations.append(event_name.rsplit(".", 1)[-1])
        if number != self.at:
            return self.aws.answer(request, event_name)
        if self.instead is not None:
            self.armed = False
            self.instead()
            self.armed = True
            return self.aws.answer(request, event_name)
        if self.kind in _ERRORS:
            return error_answer(request, event_name, *_ERRORS[self.kind])
        if self.kind == "garbage":
            xml = ".sns." in event_name or ".s3." in event_name
            answer = plain_answer(request, 200, b"<half an ans" if xml else b'{"half an ans')
            answer.headers["x-amz-crc32"] = "1"  # DynamoDB's checksum of what it did say; the others have none
            return answer
        if self.kind == "lost before":
            raise ConnectionClosedError(endpoint_url=request.url)
        if self.kind == "kill before":
            raise Killed
        answer = self.aws.answer(request, event_name)
        if self.kind == "lost after":
            raise ConnectionClosedError(endpoint_url=request.url)
        if self.kind == "kill after":
            raise Killed
        return answer
