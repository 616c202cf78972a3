"""Faults on single AWS calls, injected at botocore's hooks over the emulator.

botocore calls *every* `before-send` handler, so an answer of ours does not stop the emulator from carrying the write
out. Hence three kinds: refused (the emulator is switched off for the call), lost before (raise before it), lost after
(let it run, then raise). Handlers of a service run before the generic ones, where the emulator and our last one are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError
from moto.core.models import botocore_stubber

KINDS = ("refused", "lost before", "lost after", "500", "throttled", "garbage", "kill before", "kill after")


class Killed(BaseException):
    """The process died here."""


class _Raw(BytesIO):
    def stream(self, **_: Any) -> Any:
        contents = self.read()
        while contents:
            yield contents
            contents = self.read()


class Faults:
    """Number the calls of its clients; at call `at` do what `kind` says, or run `instead` and go on."""

    def __init__(self) -> None:
        self.armed = False
        self.calls = 0
        self.at = -1
        self.kind = ""
        self.instead: Callable[[], None] | None = None
        self.operations: list[str] = []
        self._hit = self._off = False

    def attach(self, client: Any, service: str) -> Any:
        client.meta.events.register_first(f"before-send.{service}", self._before)
        client.meta.events.register_last("before-send", self._after)
        return client

    def arm(self, at: int = -1, kind: str = "", instead: Callable[[], None] | None = None) -> Faults:
        self.armed, self.calls, self.at, self.kind, self.instead = True, 0, at, kind, instead
        self.operations, self._hit, self._off = [], False, False
        return self

    def disarm(self) -> None:
        self.armed = False
        botocore_stubber.enabled = True

    def _before(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        self._hit = False
        if not self.armed:
            return None
        number, self.calls = self.calls, self.calls + 1
        self.operations.append(event_name.rsplit(".", 1)[-1])
        if number != self.at:
            return None
        self._hit = True
        if self.instead is not None:
            self.armed = False
            self.instead()
            self.armed = True
            return None
        if self.kind == "lost before":
            raise ConnectionClosedError(endpoint_url=request.url)
        if self.kind == "kill before":
            raise Killed
        if self.kind in ("lost after", "kill after"):
            return None
        botocore_stubber.enabled, self._off = False, True
        return _answer(request, self.kind, event_name)

    def _after(self, request: Any, **_: Any) -> None:
        if self._off:
            botocore_stubber.enabled, self._off = True, False
        hit, self._hit = self._hit, False
        if hit and self.kind == "lost after":
            raise ConnectionClosedError(endpoint_url=request.url)
        if hit and self.kind == "kill after":
            raise Killed


def _answer(request: Any, kind: str, event_name: str) -> AWSResponse:
    status, code = {
        "refused": (400, "AccessDeniedException"),
        "500": (500, "InternalServerError"),
        "throttled": (400, "ThrottlingException"),
        "garbage": (200, ""),
    }[kind]
    if kind == "garbage":
        body = b'{"half an ans' if ".dynamodb." in event_name else b"<half an ans"
    elif ".dynamodb." in event_name:
        body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no"}).encode()
    else:
        body = (
            "<ErrorResponse><Error><Type>Sender</Type>"
            f"<Code>{code}</Code><Message>no</Message></Error><RequestId>1</RequestId></ErrorResponse>"
        ).encode()
    return AWSResponse(request.url, status, {"Content-Type": "application/x-amz-json-1.0"}, _Raw(body))
