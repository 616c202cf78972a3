"""Write the API's contract, OpenAPI 3.1, from the table of routes: `python -m functions.api_openapi`.

The result is kept in `docs/api/openapi.json`; a test says when it is not current.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import msgspec

from functions.api_route import Route
from functions.api_routes import ROUTES
from functions.api_types import Error, Token

_REFUSALS = {
    400: "a parameter, a path or a body that cannot be used",
    401: "the token is missing or wrong (on AWS)",
    403: "not allowed from here, or a change without its proof",
    404: "there is nothing of this name",
    405: "the path has no such method; `Allow` names those it has",
    413: "the body is too large",
    414: "the address is too long",
    500: "the request could not be answered; the log says why",
    503: "the state cannot be read now; ask again",
}
_ETAG = {"ETag": {"description": "hand it back in If-None-Match", "schema": {"type": "string"}}}
_REF = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    """Return the whole contract."""
    answers = [route.answer for route in ROUTES if route.answer] + [route.body for route in ROUTES if route.body]
    types = [*dict.fromkeys([*answers, Error, Token])]
    refs, components = msgspec.json.schema_components(types, ref_template=_REF)
    ref_of = dict(zip(types, refs, strict=True))
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, ref_of)
    paths["/api/token"] = {"get": _token(ref_of)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tapewatch",
            "version": "1",
            "description": "Alerts about unusual activity on Binance markets. JSON; times are UTC, ISO 8601.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "change": {"type": "apiKey", "in": "header", "name": "x-change-token"},
            },
        },
    }


def _operation(route: Route, ref_of: dict[type, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": 200},
        }
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [
        {"name": one.name, "in": "query", "required": False, "description": one.about, "schema": dict(one.schema)}
        for one in route.params
    ]
    good: dict[str, Any] = {"description": "the answer"}
    if route.answer is not None:
        good["content"] = {"application/json": {"schema": ref_of[route.answer]}}
    if route.page_policy is not None:
        good["content"] = {"text/html": {"schema": {"type": "string"}}}
    responses: dict[str, Any] = {str(route.status.value): good}
    if not route.change:
        good["headers"] = _ETAG
        responses["304"] = {"description": "nothing has changed since that ETag", "headers": _ETAG}
    for status, about in _REFUSALS.items():
        responses[str(status)] = _refusal(about, ref_of)
    name = re.sub(r"\W+", "_", f"{route.method.lower()}_{route.path.removeprefix('/api/')}").strip("_")
    operation: dict[str, Any] = {"summary": route.about, "operationId": name, "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    if route.change:
        operation["security"] = [{"token": []}, {"change": []}]
    else:
        operation["security"] = [{}, {"token": []}]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref_of[route.body]}}}
    return operation


def _token(ref_of: dict[type, Any]) -> dict[str, Any]:
    return {
        "summary": "A token for one change; only the local server gives them",
        "operationId": "get_token",
        "security": [{}],
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": ref_of[Token]}}},
            **{str(status): _refusal(about, ref_of) for status, about in _REFUSALS.items()},
        },
    }


def _refusal(about: str, ref_of: dict[type, Any]) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": ref_of[Error]}}}


def text() -> str:
    return json.dumps(document(), indent=1, ensure_ascii=False, sort_keys=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
