"""The published schema says what alerts are. Checked by a small validator that knows the words the schema uses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alert_examples import EVERY_KIND, initiator
from test_alert_render import alert_of

from shared.alerts.model import Alert

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "alert.schema.json").read_text(encoding="utf-8"))
TYPES = {"object": dict, "string": str, "integer": int, "null": type(None)}
KNOWN = {"$schema", "title", "description", "type", "required", "properties", "const", "enum", "pattern"}
KNOWN |= {"minLength", "minimum"}


def problems(schema: dict[str, Any], value: Any, path: str = "alert") -> list[str]:
    assert set(schema) <= KNOWN, f"the validator does not know {set(schema) - KNOWN}"
    found = []
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and (isinstance(value, bool) or not isinstance(value, tuple(TYPES[kind] for kind in kinds))):
        return [f"{path} is no {kinds}"]
    if "const" in schema and value != schema["const"]:
        found.append(f"{path} is not {schema['const']}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path} is none of {schema['enum']}")
    if isinstance(value, str):
        if not re.search(schema.get("pattern", ""), value):
            found.append(f"{path} does not match")
        if len(value) < schema.get("minLength", 0):
            found.append(f"{path} is too short")
    if isinstance(value, int) and value < schema.get("minimum", value):
        found.append(f"{path} is too small")
    if isinstance(value, dict):
        found += [f"{path}.{name} is missing" for name in schema.get("required", []) if name not in value]
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                found += problems(inner, value[name], f"{path}.{name}")
    return found


@pytest.mark.parametrize("example", EVERY_KIND)
def test_every_kind_of_alert_is_as_published(example):
    body = json.loads(msgspec.json.encode(alert_of(example(), suppressed=2).to_json()))
    assert problems(SCHEMA, body) == []
    assert set(body) == set(SCHEMA["properties"]) == set(SCHEMA["required"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schema", 2),
        ("alert_id", "short"),
        ("detector", "guess"),
        ("direction", "SIDEWAYS"),
        ("event_time", "2026-01-13 14:23:00"),
        ("suppressed_since_last", -1),
        ("values", []),
        ("title", ""),
    ],
)
def test_the_schema_refuses_what_is_no_alert(name, value):
    assert problems(SCHEMA, alert_of(initiator()).to_json() | {name: value})


@pytest.mark.parametrize("example", EVERY_KIND)
def test_an_alert_reads_itself_back(example):
    alert = alert_of(example(), suppressed=2)
    assert Alert.from_json(json.loads(msgspec.json.encode(alert.to_json()))) == alert
    assert Alert.from_json(alert.to_json() | {"added_later": 1}) == alert
