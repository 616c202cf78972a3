"""Conditions in DynamoDB's own words; every name and value goes through a placeholder."""

from __future__ import annotations

from typing import Any

from shared.storage.codec import to_attribute
from shared.storage.conditions import members, number, operand
from shared.storage.table import Absent, AllOf, AnyOf, AtMost, Condition, Equals


def expression_of(condition: Condition) -> dict[str, Any]:
    """Return the parts of a request that state the condition.

    Raises:
        ValueError: as `conditions.holds` does, for the same conditions.
    """
    names: dict[str, str] = {}
    values: dict[str, Any] = {}

    def name(attribute: str) -> str:
        return names.setdefault(attribute, f"#n{len(names)}")

    def value(plain: str | int | float) -> str:
        placeholder = f":v{len(values)}"
        values[placeholder] = to_attribute(operand(plain))
        return placeholder

    def text(part: Condition) -> str:
        match part:
            case Absent():
                return f"attribute_not_exists({name('pk')})"
            case Equals(attribute, wanted):
                return f"{name(attribute)} = {value(wanted)}"
            case AtMost(attribute, limit):
                return f"{name(attribute)} <= {value(number(limit))}"
            case AnyOf(conditions):
                return "(" + " OR ".join(text(inner) for inner in members(conditions)) + ")"
            case AllOf(conditions):
                return "(" + " AND ".join(text(inner) for inner in members(conditions)) + ")"

    request: dict[str, Any] = {"ConditionExpression": text(condition)}
    request["ExpressionAttributeNames"] = {placeholder: attribute for attribute, placeholder in names.items()}
    if values:
        request["ExpressionAttributeValues"] = values
    return request
