"""Signals, the stored facts: one feed per detector, ordered by event time, and a pointer to each symbol's newest.

A busy pair gives 50 trade spikes a minute, so a signal costs one write. The pointer is therefore renewed at most once
a minute of event time; the newest signal lies within that minute after it, which makes `latest` exact and cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.alerts.model import alert_id as id_of
from shared.detection.reading import Detector, Direction, Signal
from shared.market.model import Market
from shared.storage import alert_keys
from shared.storage.feed import read_feed
from shared.storage.table import Absent, AnyOf, AtMost, Item, Key, Put, Table
from shared.times import iso_utc

_POINTER_MS = 60_000
_LONGEST_SNAPSHOT = 100_000  # bytes; an item has 400 KB


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """A signal and what became of it: `held_reason` None means that it is the alert `alert_id`.

    `owner` names the run that stored it, so that a write whose answer was lost can be recognised.
    """

    signal: Signal
    alert_id: str
    held_reason: str | None
    held_until_ms: int | None = None
    owner: str = ""


@dataclass(slots=True)
class SignalRepository:
    table: Table
    retention_days: int = 14
    _pointed_ms: dict[tuple[str, str], int] = field(default_factory=dict)

    def write(self, stored: StoredSignal) -> Put:
        """Return the write of a signal, refused when it is stored already."""
        signal = stored.signal
        pk, sk = _key(signal, stored.alert_id)
        item: Item = {
            "pk": pk,
            "sk": sk,
            "alert_id": stored.alert_id,
            "symbol": signal.symbol,
            "direction": signal.direction.value if signal.direction else None,
            "event_ms": signal.event_ms,
            "held_reason": stored.held_reason,
            "held_until_ms": stored.held_until_ms,
            "owner": stored.owner,
            "body": encode_signal(signal),
            "expires_at": signal.event_ms // 1000 + self.retention_days * 86_400,
        }
        return Put(item, Absent())

    def put(
        self,
        signal: Signal,
        held_reason: str | None,
        alert_id: str | None = None,
        *,
        held_until_ms: int | None = None,
        owner: str = "",
    ) -> StoredSignal:
        """Store a signal once; return what stands there, which is an earlier answer if there was one."""
        stored = StoredSignal(signal, alert_id or id_of(signal), held_reason, held_until_ms, owner)
        write = self.write(stored)
        result = self.table.put(write.item, write.condition)
        self.point_to(signal)
        return stored if result.applied or result.existing is None else decode_stored(result.existing)

    def get(self, signal: Signal) -> StoredSignal | None:
        """Return what became of a signal, None when it was never stored."""
        item = self.table.get(_key(signal, id_of(signal)), consistent=True)
        return None if item is None else decode_stored(item)

    def point_to(self, signal: Signal) -> None:
        """Remember the newest signal of a symbol; call it after the signal is stored."""
        name = (signal.detector.value, signal.symbol)
        pointed_ms = self._pointed_ms.get(name)
        if pointed_ms is not None and signal.event_ms < pointed_ms + _POINTER_MS:
            return
        pk, sk = alert_keys.latest_signal(*name)
        expires_at = signal.event_ms // 1000 + self.retention_days * 86_400
        item: Item = {"pk": pk, "sk": sk, "event_ms": signal.event_ms, "expires_at": expires_at}
        self.table.put(item, AnyOf((Absent(), AtMost("event_ms", signal.event_ms))))
        self._pointed_ms[name] = signal.event_ms

    def latest(self, detector: Detector, symbol: str | None = None) -> StoredSignal | None:
        """Return the newest signal by event time, of one symbol or of all."""
        feed = alert_keys.signal_feed(detector.value)
        if symbol is None:
            rows = self.table.query(feed, reverse=True, limit=1)
            return decode_stored(rows[0]) if rows else None
        pointer = self.table.get(alert_keys.latest_signal(detector.value, symbol))
        if pointer is None or not isinstance(pointer.get("event_ms"), int | float):
            return None
        from_ms = int(pointer["event_ms"])  # type: ignore[arg-type]  # judged above
        rows = self.table.query(
            feed,
            start=alert_keys.time_part(from_ms),
            end=alert_keys.time_part(from_ms + _POINTER_MS),
            reverse=True,
        )
        return next((decode_stored(row) for row in rows if row.get("symbol") == symbol), None)

    def range(
        self,
        *,
        symbol: str | None = None,
        detector: Detector | None = None,
        direction: Direction | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
        work: int | None = None,
    ) -> tuple[list[StoredSignal], str | None]:
        """Return signals of [since_ms, until_ms), newest first, and the cursor of the next page (None: the end).

        A page may hold fewer than `limit`, or none, and still have a next one: the work of one call is bounded, and by
        `work` rows where that is given.
        """

        rows, next_cursor = self._range(symbol, detector, direction, since_ms, until_ms, limit, cursor, work)
        return [decode_stored(row) for row in rows], next_cursor

    def published(
        self,
        *,
        symbol: str | None = None,
        detector: Detector | None = None,
        direction: Direction | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
        work: int | None = None,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return the same in the form that the API shows; values and thresholds pass through as they were stored."""
        rows, next_cursor = self._range(symbol, detector, direction, since_ms, until_ms, limit, cursor, work)
        return [_published(row) for row in rows], next_cursor

    def _range(
        self,
        symbol: str | None,
        detector: Detector | None,
        direction: Direction | None,
        since_ms: int | None,
        until_ms: int | None,
        limit: int,
        cursor: str | None,
        work: int | None,
    ) -> tuple[list[Item], str | None]:
        def keep(item: Item) -> bool:
            return (symbol is None or item.get("symbol") == symbol) and (
                direction is None or item.get("direction") == direction.value
            )

        detectors = [detector] if detector else list(Detector)
        return read_feed(
            self.table,
            [alert_keys.signal_feed(one.value) for one in detectors],
            keep,
            start=None if since_ms is None else alert_keys.time_part(since_ms),
            end=None if until_ms is None else alert_keys.time_part(until_ms),
            cursor=cursor,
            limit=limit,
            work=work,
        )


class _Body(msgspec.Struct):
    """A stored signal, read only as far as it is shown."""

    detector: str
    market: str
    symbol: str
    event_ms: int
    known_ms: int
    values: msgspec.Raw
    thresholds: msgspec.Raw
    direction: str | None
    sector: str | None
    trade_id: int | None
    rule_version: str
    strength: float


_body_decoder = msgspec.json.Decoder(_Body)


def _published(item: Item) -> dict[str, Any]:
    packed, reason, until_ms = item["body"], item.get("held_reason"), item.get("held_until_ms")
    if not isinstance(packed, bytes):
        raise ValueError(f"signal row {item['sk']!r} has no body")
    body = _body_decoder.decode(packed)
    return {
        "detector": body.detector,
        "market": body.market,
        "symbol": body.symbol,
        "sector": body.sector,
        "direction": body.direction,
        "event_time": iso_utc(body.event_ms),
        "known_time": iso_utc(body.known_ms),
        "trade_id": body.trade_id,
        "strength": body.strength,
        "values": body.values,
        "thresholds": body.thresholds,
        "rule_version": body.rule_version,
        "alert_id": item["alert_id"],
        "alerted": reason is None,
        "held_reason": reason,
        "held_until": iso_utc(int(until_ms)) if isinstance(until_ms, int | float) else None,
    }


def _key(signal: Signal, id_: str) -> Key:
    return alert_keys.signal_feed(signal.detector.value), alert_keys.feed_sk(signal.event_ms, id_)


def encode_signal(signal: Signal) -> bytes:
    """Return a signal as JSON; a snapshot too large for an item is left out, the decision's numbers never are."""
    body: dict[str, Any] = {
        "detector": signal.detector.value,
        "market": signal.market.value,
        "symbol": signal.symbol,
        "event_ms": signal.event_ms,
        "known_ms": signal.known_ms,
        "values": signal.values,
        "thresholds": signal.thresholds,
        "direction": signal.direction.value if signal.direction else None,
        "sector": signal.sector,
        "trade_id": signal.trade_id,
        "rule_version": signal.rule_version,
        "strength": signal.strength,
    }
    if signal.snapshot:
        snapshot = msgspec.json.encode(signal.snapshot)
        if len(snapshot) <= _LONGEST_SNAPSHOT:
            body["snapshot"] = msgspec.Raw(snapshot)
    return msgspec.json.encode(body)


def decode_signal(data: bytes) -> Signal:
    """Read a signal back; tuples come back as lists."""
    body: Mapping[str, Any] = msgspec.json.decode(data)
    return Signal(
        detector=Detector(body["detector"]),
        market=Market(body["market"]),
        symbol=body["symbol"],
        event_ms=body["event_ms"],
        known_ms=body["known_ms"],
        values=body["values"],
        thresholds=body["thresholds"],
        direction=Direction(body["direction"]) if body["direction"] else None,
        sector=body["sector"],
        trade_id=body["trade_id"],
        rule_version=body["rule_version"],
        strength=body["strength"],
        snapshot=body.get("snapshot", {}),
    )


def decode_stored(item: Item) -> StoredSignal:
    """Read a stored row."""
    body, reason, until_ms = item["body"], item.get("held_reason"), item.get("held_until_ms")
    if not isinstance(body, bytes):
        raise ValueError(f"signal row {item['sk']!r} has no body")
    return StoredSignal(
        signal=decode_signal(body),
        alert_id=str(item["alert_id"]),
        held_reason=None if reason is None else str(reason),
        held_until_ms=int(until_ms) if isinstance(until_ms, int | float) else None,
        owner=str(item.get("owner", "")),
    )
