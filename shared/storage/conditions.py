"""Conditions judged in Python, as DynamoDB judges them; for tables that have no expressions of their own."""

from __future__ import annotations

from shared.storage.codec import comparable, normal
from shared.storage.table import Absent, AllOf, AnyOf, AtMost, Condition, Equals, Item, Value


def holds(condition: Condition | None, item: Item | None) -> bool:
    """Judge a condition against the stored item (None: nothing stands there).

    Types are compared as DynamoDB compares them: True is not 1, and text is never a number.

    Raises:
        ValueError: an AnyOf or AllOf without members, or a value that cannot be compared.
    """
    match condition:
        case None:
            return True
        case Absent():
            return item is None
        case Equals(attribute, value):
            wanted = operand(value)
            return item is not None and _same(item.get(attribute), wanted)
        case AtMost(attribute, value):
            limit = number(value)
            stored = None if item is None else item.get(attribute)
            return _is_number(stored) and stored <= limit  # type: ignore[operator]
        case AnyOf(conditions):
            return any([holds(inner, item) for inner in members(conditions)])  # noqa: C419 - judge all, to refuse bad ones
        case AllOf(conditions):
            return all([holds(inner, item) for inner in members(conditions)])  # noqa: C419


def members(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """Return the members, of which there must be one; DynamoDB has no empty expression.

    Raises:
        ValueError: there is none.
    """
    if not conditions:
        raise ValueError("AnyOf and AllOf need at least one condition")
    return conditions


def operand(value: str | int | float) -> str | int | float:
    """Return a condition's value in normal form.

    Raises:
        ValueError: NaN, infinity, or a number outside what DynamoDB compares.
    """
    plain: str | int | float = normal(value)
    if not isinstance(plain, (str, bool)) and not comparable(plain):
        raise ValueError(f"{value!r} cannot be compared: it has more than 38 digits or is too small")
    return plain


def number(value: object) -> int | float:
    """Return AtMost's value in normal form. Raises ValueError as `operand` does, and when it is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("AtMost compares numbers")
    plain: int | float = operand(value)  # type: ignore[assignment]
    return plain


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and comparable(value)


def _same(stored: Value, wanted: str | int | float) -> bool:
    if _is_number(wanted):
        return _is_number(stored) and stored == wanted
    return type(stored) is type(wanted) and stored == wanted
