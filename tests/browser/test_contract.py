"""F711: a thousand and more requests made from the published contract: no 5xx, no answer that it does not declare."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fakes import START_MS, FakeWorld
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from functions import api, api_openapi
from functions.api_access import OneTimeAccess
from local.server import ApiServer
from shared.clock import MINUTE_MS

CASES = 70  # of each operation and form
NOW_MS = START_MS + 600 * MINUTE_MS


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[ApiServer, OneTimeAccess]]:
    world = FakeWorld()
    world.clock.set(NOW_MS)
    access = OneTimeAccess()
    running = ApiServer(api.make_handler(lambda: world.deps, access), world.clock, host="127.0.0.1", port=0)
    running.start()
    yield running, access
    running.stop()
    world.table.close()


def test_no_answer_is_a_fault_or_undeclared(server: tuple[ApiServer, OneTimeAccess]) -> None:
    running, access = server
    schema = schemathesis.openapi.from_dict(api_openapi.document())
    checks = [
        schemathesis.checks.not_a_server_error,
        *schemathesis.checks.CHECKS.get_by_names(
            ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
        ),
    ]
    counts: Counter[int] = Counter()
    forms = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    for operation in (found.ok() for found in schema.get_all_operations()):
        for form in forms:
            try:
                cases = operation.as_strategy(generation_mode=form)
            except (schemathesis.errors.InvalidSchema, Unsatisfiable):  # nothing to negate
                continue

            @settings(
                max_examples=CASES,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )
            @given(case=cases)
            def ask(case: Any) -> None:
                headers = {}
                if case.method.upper() not in ("GET", "HEAD"):
                    headers["x-change-token"] = access.issue() or ""
                answer = case.call(base_url=running.url, headers=headers)
                counts[answer.status_code] += 1
                case.validate_response(answer, checks=checks)

            with suppress(Unsatisfiable):
                ask()
    print(json.dumps({"cases": sum(counts.values()), "by_status": dict(sorted(counts.items()))}))
    assert sum(counts.values()) >= 1000
    assert not [status for status in counts if status >= 500]
    assert counts[200] > 100
    assert counts[400] > 100


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND"]


@settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(METHODS),
    path=st.one_of(
        st.sampled_from(
            ["/api/mutes", "/api/bars/BTC", "/api/token", "/", "/app.js", "/api", "/api/", "/api/mutes/x/"]
        ),
        st.text(max_size=30).map(lambda text: "/api/" + text),
        st.text(max_size=30).map(lambda text: "/" + text),
    ),
    query=st.text(max_size=40),
)
def test_any_method_on_any_path_has_a_declared_answer(
    server: tuple[ApiServer, OneTimeAccess], method: str, path: str, query: str
) -> None:
    import requests

    answer = requests.request(method, server[0].url + path, params=query, timeout=10, allow_redirects=False)
    assert answer.status_code in (200, 201, 204, 304, 400, 401, 403, 404, 405, 413, 414)
    if answer.status_code == 405:
        assert re.fullmatch(r"[A-Z]+(, [A-Z]+)*", answer.headers["allow"])


def test_the_contract_is_itself_valid() -> None:
    document = json.loads((Path(__file__).resolve().parents[2] / "docs/api/openapi.json").read_text(encoding="utf-8"))
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])
