"""Values in and out: one set of rules for both tables, so that an item reads the same wherever it was kept.

Rules, which are DynamoDB's own where it has any:
- NaN and infinity are refused. -0.0 becomes 0, and a whole float an int (`5.0` reads back as `5`; they are equal).
- A number that DynamoDB's 38 digits cannot hold exactly travels as text under the marker `$number`; it reads back
  equal, but AtMost and Equals never hold for it.
- Text must be encodable as UTF-8 (no lone surrogates); the empty string is fine, except as a key or as a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import msgspec

from shared.storage.table import Item, Key, Value

MAX_PK_BYTES = 2048
MAX_SK_BYTES = 1024
MAX_ITEM_BYTES = 400 * 1024

_NUMBER = "$number"
_EXACT = 10**38  # |n| below this has at most 38 digits
_TINY = 1e-130  # DynamoDB's smallest magnitude
_WORD = 2**63
_BIG_INT = 1  # msgpack extension: a decimal integer as text


def key_of(item: Mapping[str, Value]) -> Key:
    """Return the item's key, checked.

    Raises:
        ValueError: pk or sk is absent, not text, empty or too long.
    """
    return check_key((item.get("pk"), item.get("sk")))


def check_key(key: tuple[Value, Value]) -> Key:
    """Return a key whose parts DynamoDB would take: text of 1..2048 (pk) and 1..1024 (sk) bytes of UTF-8.

    Raises:
        ValueError: it would not.
    """
    pk, sk = key
    if not isinstance(pk, str) or not isinstance(sk, str):
        raise ValueError("pk and sk must be text")
    if not 0 < len(pk.encode()) <= MAX_PK_BYTES:
        raise ValueError(f"pk must be 1 to {MAX_PK_BYTES} bytes of UTF-8")
    if not 0 < len(sk.encode()) <= MAX_SK_BYTES:
        raise ValueError(f"sk must be 1 to {MAX_SK_BYTES} bytes of UTF-8")
    return str(pk), str(sk)


def normal(value: Any) -> Any:
    """Return the value as it will read back, in plain types.

    Raises:
        ValueError: NaN, infinity, text that is not UTF-8, a map key that is not text, or a foreign type.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        value.encode()
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return normal_float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Mapping):
        return {_name(name): normal(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [normal(inner) for inner in value]
    raise ValueError(f"a table cannot hold a {type(value).__name__}")


def normal_float(value: float) -> int | float:
    """Return the number as DynamoDB would give it back: a whole number within 38 digits as an int.

    Raises:
        ValueError: NaN or infinity.
    """
    if not isfinite(value):
        raise ValueError("a table cannot hold NaN or infinity")
    if value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return float(value)


def comparable(value: int | float) -> bool:
    """Return whether DynamoDB holds this number as a number (and not under the marker)."""
    return abs(value) < _EXACT and (value == 0 or abs(value) >= _TINY)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise ValueError("the keys of a map must be text, and not empty")
    name.encode()
    return str(name)


# --- SQLite: MessagePack -----------------------------------------------------------------------------------
def pack(item: Mapping[str, Value]) -> bytes:
    """Return the item as MessagePack. Raises ValueError as `normal` does, or when it is beyond DynamoDB's limit."""
    packed = _encoder.encode(_hide_big(normal(item)))
    if len(packed) > MAX_ITEM_BYTES:
        raise ValueError(f"an item may have {MAX_ITEM_BYTES} bytes, this one has about {len(packed)}")
    return packed


def unpack(packed: bytes) -> Item:
    """Return the item. Raises msgspec.DecodeError when the bytes are not one."""
    return _decoder.decode(packed)


def _hide_big(value: Any) -> Any:
    if isinstance(value, int) and not -_WORD <= value < _WORD:  # MessagePack's integers have 64 bits
        return msgspec.msgpack.Ext(_BIG_INT, str(value).encode())
    if isinstance(value, dict):
        return {name: _hide_big(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_hide_big(inner) for inner in value]
    return value


def _show_big(code: int, data: memoryview) -> Any:
    if code != _BIG_INT:
        raise msgspec.DecodeError(f"unknown extension {code}")
    return int(bytes(data))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=_show_big)


# --- DynamoDB: attribute values ------------------------------------------------------------------------------
def to_attributes(item: Mapping[str, Value]) -> dict[str, Any]:
    """Return the item as boto3's client takes it. Raises ValueError as `normal` does."""
    plain = normal(item)
    return {name: _to_attribute(value) for name, value in plain.items()}


def to_attribute(value: Value) -> dict[str, Any]:
    """Return one value as an attribute value. Raises ValueError as `normal` does."""
    return _to_attribute(normal(value))


def from_attributes(attributes: Mapping[str, Any]) -> Item:
    """Return the item that boto3's client gave."""
    return {name: _from_attribute(value) for name, value in attributes.items()}


def _to_attribute(value: Any) -> dict[str, Any]:
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, (int, float)):
        return {"N": repr(value)} if comparable(value) else {"M": {_NUMBER: {"S": repr(value)}}}
    if isinstance(value, bytes):
        return {"B": value}
    if isinstance(value, list):
        return {"L": [_to_attribute(inner) for inner in value]}
    if len(value) == 1:  # a map that looks like the marker gets one more `$`
        ((name, inner),) = value.items()
        return {"M": {f"${name}" if _is_marker(name) else name: _to_attribute(inner)}}
    return {"M": {name: _to_attribute(inner) for name, inner in value.items()}}


def _from_attribute(attribute: Mapping[str, Any]) -> Value:
    ((kind, value),) = attribute.items()
    if kind == "N":
        return _number(value)
    if kind in ("S", "BOOL"):
        return value  # type: ignore[no-any-return]
    if kind == "B":
        return bytes(value)
    if kind == "NULL":
        return None
    if kind == "L":
        return [_from_attribute(inner) for inner in value]
    if kind == "M":
        if len(value) == 1:
            ((name, inner),) = value.items()
            if name == _NUMBER:
                return _number(inner["S"])
            return {name[1:] if _is_marker(name) else name: _from_attribute(inner)}
        return {name: _from_attribute(inner) for name, inner in value.items()}
    raise ValueError(f"unknown attribute type {kind}")


def _is_marker(name: str) -> bool:
    return name.endswith(_NUMBER) and set(name[: -len(_NUMBER)]) <= {"$"}


def _number(text: str) -> int | float:
    digits = text.removeprefix("-")
    if digits.isdigit():
        return int(text)
    number = float(text)  # "1E+3" is how DynamoDB may write a whole number
    return int(number) if number.is_integer() and abs(number) < _EXACT else number
