"""The local API server: only its own name, bounded requests, one at a time, events as API Gateway sends them."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from local.server import MAX_BODY, MAX_QUERY, ApiServer
from shared.clock import ManualClock
from shared.errors import ConfigurationError


class Echo:
    """Answers with the event; notices two requests at once."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        threading.Event().wait(0.005)
        self.inside -= 1
        return {"statusCode": 200, "body": json.dumps(event), "headers": {"X-Test": "1"}}


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def server(echo: Echo) -> Iterator[ApiServer]:
    running = ApiServer(echo, ManualClock(1234), host="127.0.0.1", port=0)
    running.start()
    yield running
    running.stop()


def ask(
    server: ApiServer, path: str, *, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, Any, Any]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.request(method, path, body or None, headers={name.replace("_", "-"): v for name, v in headers.items()})
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return answer.status, answer.headers, json.loads(raw) if raw else None


def test_the_event_is_that_of_payload_version_2(server: ApiServer) -> None:
    status, headers, event = ask(server, "/api/a%20b?x=1&y=%C3%A4&x=2", X_Own="yes")
    assert status == 200
    assert headers["x-test"] == "1"
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert event["version"] == "2.0"
    assert event["rawPath"] == "/api/a b"
    assert event["rawQueryString"] == "x=1&y=%C3%A4&x=2"
    assert event["queryStringParameters"] == {"x": "1,2", "y": "ä"}
    assert event["headers"]["x-own"] == "yes"
    assert event["requestContext"]["http"]["method"] == "GET"
    assert event["requestContext"]["timeEpoch"] == 1234


def test_another_name_is_refused(server: ApiServer) -> None:
    """F709: a foreign Host header."""
    status, _, answer = ask(server, "/api/health", Host="evil.example:80")
    assert (status, answer["code"]) == (403, "host")
    assert ask(server, "/api/health", Host="localhost:1")[0] == 200


def test_requests_are_bounded(server: ApiServer) -> None:
    """F709: long queries and large bodies."""
    assert ask(server, "/api/x?" + "q" * (MAX_QUERY + 1))[0] == 414
    assert ask(server, "/api/x", method="POST", body=b"x" * (MAX_BODY + 1))[0] == 413


def test_one_request_at_a_time(server: ApiServer, echo: Echo) -> None:
    answers: list[str] = []

    def one(n: int) -> None:
        answers.append(ask(server, f"/api/{n}")[2]["rawPath"] + f"|{n}")

    threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert echo.most == 1
    assert sorted(answers) == sorted(f"/api/{n}|{n}" for n in range(20))


def test_a_taken_port_is_a_clear_error(server: ApiServer) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match=r"set api\.port"):
        ApiServer(Echo(), ManualClock(), host="127.0.0.1", port=port).start()
