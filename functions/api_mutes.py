"""Mutes over the API: list, set for a while, lift; and lifting a cooldown."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from functions.api_query import decode_cursor, named_symbol, refuse_unknown
from functions.api_route import NotFound, Request
from functions.api_types import NewMute
from shared.clock import DAY_MS, HOUR_MS, MINUTE_MS, iso_utc
from shared.detection.reading import Detector
from shared.errors import UsageError
from shared.storage.cooldowns import CooldownRepository
from shared.storage.mutes import MuteRepository

_UNITS_MS = {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_LONGEST_MS = 365 * DAY_MS
_ID = re.compile(r"[0-9a-f]{16}")
_MOST = 500


def mutes(request: Request) -> dict[str, Any]:
    """The mutes in force; those of the settings have no id and no end."""
    refuse_unknown(request.query, ())
    fixed = [
        {"id": None, "symbol": symbol.strip().upper(), "until": None, "reason": "alerts.mutes"}
        for symbol in request.deps.settings.alerts.mutes
    ]
    active = MuteRepository(request.deps.table).active(request.now_ms)
    return {"mutes": [*fixed, *(_row(one.mute_id, one.symbol, one.until_ms, one.reason) for one in active)]}


def mute(request: Request) -> dict[str, Any]:
    """Hold every alert of a symbol for a while."""
    refuse_unknown(request.query, ())
    try:
        wanted = msgspec.json.decode(request.body, type=NewMute)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f'the body must be JSON like {{"symbol": "BTCUSDT", "for": "1h"}}: {exc}') from None
    span_ms = int(wanted.span[:-1]) * _UNITS_MS[wanted.span[-1]]
    if span_ms > _LONGEST_MS:
        raise UsageError("for must be at most 365d")
    symbol = named_symbol(wanted.symbol)
    # Whole minutes: pressing twice is one mute.
    until_ms = (request.now_ms + span_ms) // MINUTE_MS * MINUTE_MS + MINUTE_MS
    reason = "".join(sign if sign.isprintable() else " " for sign in wanted.reason).strip()
    repository = MuteRepository(request.deps.table)
    if len(repository.active(request.now_ms)) >= _MOST:
        raise UsageError(f"{_MOST} mutes are in force: lift some first")
    return _row(repository.put(symbol, until_ms, reason), symbol, until_ms, reason)


def unmute(request: Request) -> None:
    """Lift one mute."""
    refuse_unknown(request.query, ())
    mute_id = request.names["mute_id"]
    if not _ID.fullmatch(mute_id) or not MuteRepository(request.deps.table).remove(mute_id):
        raise NotFound("there is no mute of this id")


def release(request: Request) -> None:
    """Lift a cooldown: the next signal of its detector and symbol may alert at once."""
    refuse_unknown(request.query, ())
    try:
        key = decode_cursor(request.names["cooldown_id"]) or ""
    except UsageError:
        key = ""
    detector = key.partition("|")[0]
    known = detector in {one.value for one in Detector}
    if not known or not CooldownRepository(request.deps.table).release(key, request.now_ms):
        raise NotFound("no cooldown of this id is in force")


def _row(mute_id: str, symbol: str, until_ms: int | None, reason: str) -> dict[str, Any]:
    until = None if until_ms is None else iso_utc(until_ms)
    return {"id": mute_id, "symbol": symbol, "until": until, "reason": reason}
