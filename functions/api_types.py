"""The shapes of the API's answers. They are what `docs/api/openapi.json` publishes, and tests hold answers to them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Time = Annotated[str, Meta(description="UTC, ISO 8601", examples=["2026-01-13T14:23:00Z"])]
Cursor = Annotated[str, Meta(description="hand it back as `cursor` for the next page")]


class Error(msgspec.Struct):
    """What every refusal looks like."""

    error: Annotated[str, Meta(description="for a person")]
    code: Annotated[str, Meta(description="for a program; stable")]


class LatestSignal(msgspec.Struct, omit_defaults=True):
    """The latest trade spike, or the word that none has come yet."""

    status: str = ""
    signal_type: str = ""
    symbol: str = ""
    price: float = 0.0
    volume: float = 0.0
    timestamp: Time = ""
    ratio: float | None = None
    mean: float | None = None
    trade_id: int | None = None
    side: str | None = None
    market: str = ""
    event_time: Time = ""
    thresholds: dict[str, Any] = {}
    alert_id: str | None = None
    alerted: bool = False
    held_reason: str | None = None


class SignalRow(msgspec.Struct):
    """A rule that fired; `held_reason` says why it is no alert, `held_until` until when."""

    detector: str
    market: str
    symbol: str
    sector: str | None
    direction: str | None
    event_time: Time
    known_time: Time
    trade_id: int | None
    strength: float
    values: dict[str, Any]
    thresholds: dict[str, Any]
    rule_version: str
    alert_id: str | None
    alerted: bool
    held_reason: str | None
    held_until: Time | None


class Signals(msgspec.Struct):
    signals: list[SignalRow]
    cursor: Cursor | None


class AlertRow(msgspec.Struct):
    """An alert, version 1; `docs/alert.schema.json` has every field."""

    schema: int
    alert_id: str
    detector: str
    market: str
    symbol: str
    sector: str | None
    direction: str | None
    severity: Literal["info", "warning", "critical"]
    event_time: Time
    detected_time: Time
    title: str
    text: str
    values: dict[str, Any]
    thresholds: dict[str, Any]
    rule_version: str
    suppressed_since_last: int


class Alerts(msgspec.Struct):
    alerts: list[AlertRow]
    cursor: Cursor | None


class Delivery(msgspec.Struct):
    state: str
    time: Time
    attempts: int
    error: str


class Outcome(msgspec.Struct):
    """What the market did in the hour after an alert: fractions of the entry, the open of the next whole minute."""

    entry_time: Time
    entry_price: float | None
    return_5m: float | None
    return_15m: float | None
    return_60m: float | None
    best: float | None
    worst: float | None
    minutes: int
    complete: bool


class Feedback(msgspec.Struct):
    """How many people found an alert useful, and how many noise."""

    useful: int
    noise: int


class OneAlert(AlertRow):
    deliveries: dict[str, Delivery]
    outcome: Outcome | None
    feedback: Feedback


class Bars(msgspec.Struct):
    """Closed 1-minute bars, ascending, one list per column."""

    symbol: str
    market: str
    open_time: list[Time]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]
    quote_volume: list[float | None]
    trades: list[int | None]
    taker_buy_volume: list[float | None]
    cursor: Cursor | None


class FeatureRow(msgspec.Struct):
    symbol: str
    sector: str | None
    open_time: Time
    status: str
    r_1m: float | None
    r_15m: float | None
    beta: float | None
    excess_return: float | None
    z_excess_return: float | None
    z_volume: float | None
    taker_buy_share: float | None
    bars: int


class Features(msgspec.Struct):
    """The newest minute of every sector symbol, or with `symbol` that symbol's minutes, ascending."""

    time: Time | None
    needed: dict[str, int]
    features: list[FeatureRow]
    cursor: Cursor | None


class WindowRow(msgspec.Struct):
    start_time: Time
    end_time: Time
    trade_count: int
    volume: float
    avg_trade_size: float
    return_: float = msgspec.field(name="return")
    volatility: float
    complete: bool
    status: str
    score: float | None
    threshold: float | None
    prediction: int | None


class Windows(msgspec.Struct):
    symbol: str
    windows: list[WindowRow]
    cursor: Cursor | None


class Scores(msgspec.Struct):
    """The newest windows' scores as a histogram; `edges` has one entry more than `counts`."""

    symbol: str
    windows: int
    first: Time | None
    last: Time | None
    state: Literal["empty", "learning", "judging"]
    edges: list[float]
    counts: list[int]
    threshold: float | None
    judged: int
    anomalies: int
    rate: float | None
    model_age_windows: int | None
    wanted_rate: float
    needed: dict[str, int]
    scored: int
    scores: dict[str, float] | None


class BookRow(msgspec.Struct):
    timestamp: Time
    symbol: str
    obi: float
    notional_bid: float
    notional_ask: float
    levels: int
    status: str


class Books(msgspec.Struct):
    symbol: str
    readings: list[BookRow]
    cursor: Cursor | None


class Component(msgspec.Struct, omit_defaults=True):
    state: str
    last_beat: Time | None
    age_s: float | None
    limit_s: float | None = None
    fields: dict[str, Any] = {}


class Feed(msgspec.Struct):
    """The trade stream; `good` False is what a page shows red."""

    state: str
    good: bool
    reason: str
    last_event: Time | None
    age_s: float | None
    lag_ms: float | None
    trades: int | None
    trades_per_s: float | None
    windows: int | None
    models: int | None
    learning: dict[str, int] | None


class DetectorState(msgspec.Struct):
    state: str
    reason: str
    last_run: Time | None
    last_bar: Time | None
    alerts_24h: int


class Ban(msgspec.Struct):
    host: str
    banned: bool
    not_before: Time | None


class ChannelHealth(msgspec.Struct):
    """Whether a channel takes alerts; `error` says what to do when it does not."""

    state: Literal["ok", "failing", "dead"]
    since: Time | None
    error: str


class Health(msgspec.Struct):
    status: Literal["ok", "starting", "silent"]
    time: Time
    components: dict[str, Component]
    feed: Feed
    detectors: dict[str, DetectorState]
    last_minute: dict[str, Time | None]
    exchange: dict[str, Ban]
    channels: dict[str, ChannelHealth]


class Hour(msgspec.Struct):
    hour: Time
    total: int
    detectors: dict[str, int]


class Summary(msgspec.Struct):
    """Alerts of the last 24 hours by hour, the running hour last."""

    hours: list[Hour]
    detectors: dict[str, int]
    total: int


class Cooldown(msgspec.Struct):
    id: Annotated[str, Meta(description="lifts it: DELETE /api/cooldowns/{id}, both directions at once")]
    detector: str
    symbol: str
    direction: str | None
    alert_id: str
    since: Time
    until: Time
    held: int
    held_since: Time | None


class Cooldowns(msgspec.Struct):
    cooldowns: list[Cooldown]


class MuteRow(msgspec.Struct):
    """`until` null holds for ever; an `id` null is one of the settings, which no call lifts."""

    id: str | None
    symbol: str
    until: Time | None
    reason: str


class Mutes(msgspec.Struct):
    mutes: list[MuteRow]


class NewMute(msgspec.Struct, forbid_unknown_fields=True):
    """Hold every alert of a symbol; its signals are still stored."""

    symbol: Annotated[str, Meta(min_length=1, max_length=40, examples=["BTCUSDT"])]
    span: Annotated[str, Meta(max_length=12, pattern="^[1-9][0-9]{0,4}[mhd]$", examples=["30m", "1h", "7d"])] = (
        msgspec.field(name="for", default="1h")
    )
    reason: Annotated[str, Meta(max_length=200)] = ""


class Universe(msgspec.Struct):
    """What is watched; a page builds its choices from it."""

    spot: list[str]
    futures: list[str]
    benchmark: str
    sectors: dict[str, list[str]]
    thresholds: dict[str, float]
    demo: bool
    changes: Annotated[bool, Meta(description="whether mutes and cooldowns can be changed here")]


class Quality(msgspec.Struct, omit_defaults=True):
    """The last evaluation, else how the last day's alerts turned out; `state` is `none` where neither is there."""

    state: Literal["none", "outcomes", "evaluated"]
    time: Time | None = None
    data: str = ""
    rows: list[dict[str, Any]] = []
    note: str = ""


class ReportRow(msgspec.Struct):
    id: str
    until: Annotated[Time, Meta(description="where the reported day ends")]
    path: Annotated[str, Meta(description="serves the page")]


class Reports(msgspec.Struct):
    reports: list[ReportRow]


class Token(msgspec.Struct):
    """Good for one change within five minutes; only the local server gives them."""

    token: str
