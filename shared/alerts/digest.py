"""Many alerts as one notification. Pure; plain text only."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.alerts import wording as say
from shared.alerts.model import Alert, Severity
from shared.alerts.wording import sanitize
from shared.clock import iso_utc

_LINES = 25  # one line each for the gravest; the rest is counted, and stands in the feed
_TOP = 5
_RANK = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.INFO: 2}


class DigestKind(StrEnum):
    STORM = "storm"
    """Too many at once for a message each."""
    LATE = "late"
    """The channel could not be reached for so long that they are too old to be sent one by one."""
    DAILY = "daily"
    """What the last day held, and where its report is."""


@dataclass(frozen=True, slots=True)
class Digest:
    """`digest_id` is the same for the same alerts, so that a receiver can drop a repeat."""

    digest_id: str
    kind: DigestKind
    alerts: tuple[Alert, ...]
    title: str
    text: str
    severity: Severity
    link: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the published form: the alerts without their texts, which would make it too large."""
        return {
            "schema": 1,
            "digest_id": self.digest_id,
            "kind": self.kind.value,
            "severity": self.severity.value,
            "title": self.title,
            "text": self.text,
            "count": len(self.alerts),
            **({} if self.link is None else {"link": self.link}),
            "alerts": [
                {
                    "alert_id": alert.alert_id,
                    "detector": alert.detector.value,
                    "symbol": alert.symbol,
                    "direction": alert.direction.value if alert.direction else None,
                    "severity": alert.severity.value,
                    "event_time": iso_utc(alert.event_ms),
                    "title": alert.title,
                }
                for alert in self.alerts
            ],
        }


def make_digest(alerts: Sequence[Alert], kind: DigestKind) -> Digest:
    """Return the digest of at least one alert: counts, then the gravest with a line each."""
    ordered = tuple(sorted(alerts, key=lambda alert: (alert.event_ms, alert.alert_id)))
    first, last = ordered[0].event_ms, ordered[-1].event_ms
    span = f"{_clock(first)}-{_clock(last)} UTC" if _clock(first) != _clock(last) else f"{_clock(first)} UTC"
    many = f"{len(ordered)} alert{'s' if len(ordered) > 1 else ''}"
    title = f"{many}, {span}" if kind is DigestKind.STORM else f"{many} while this channel was down, {span}"
    by_kind = Counter(alert.detector.value for alert in ordered)
    by_severity = Counter(alert.severity.value for alert in ordered)
    gravest = sorted(ordered, key=lambda alert: _RANK[alert.severity])[:_LINES]
    lines = [
        "📦 MANY ALERTS AT ONCE" if kind is DigestKind.STORM else "📦 MISSED WHILE THIS CHANNEL WAS DOWN",
        f"{title} (from {say.moment(first // 1000 * 1000)})",
        "By kind: " + ", ".join(f"{name} {count}" for name, count in sorted(by_kind.items())),
        "By severity: " + ", ".join(f"{one.value} {by_severity[one.value]}" for one in _RANK if by_severity[one.value]),
        *(f"  • {_clock(alert.event_ms)} {sanitize(alert.title, 120)} [{alert.alert_id[:12]}]" for alert in gravest),
    ]
    if len(ordered) > len(gravest):
        lines.append(f"  • and {len(ordered) - len(gravest)} more in the feed")
    name = "|".join(sorted(alert.alert_id for alert in ordered))
    return Digest(
        digest_id=hashlib.sha256(name.encode()).hexdigest(),
        kind=kind,
        alerts=ordered,
        title=title,
        text="\n".join(lines),
        severity=min((alert.severity for alert in ordered), key=lambda one: _RANK[one]),
    )


def daily_digest(report: Mapping[str, Any], link: str | None) -> Digest:
    """Return the digest of a finished report (`ReportResult.to_json`); `link` is where its page is, None: nowhere."""
    counts = {name: one["alerts"] for name, one in report["counts"].items() if one["alerts"]}
    total, since, until = sum(counts.values()), str(report["since"]), str(report["until"])
    title = f"{total} alert{'' if total == 1 else 's'} from {_minute(since)} to {_minute(until)} UTC"
    lines = ["📊 DAILY REPORT", title]
    if counts:
        lines.append("By kind: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
        top = [row for row in report["top_symbols"] if row["alerts"]][:_TOP]
        lines.append("Most alerts: " + ", ".join(f"{sanitize(row['symbol'], 40)} {row['alerts']}" for row in top))
    status = (report.get("feed_health") or {}).get("status")
    if status not in (None, "ok"):
        lines.append(f"Health: {sanitize(status, 20)}")
    if link is not None:
        lines.append(f"Report: {link}")
    return Digest(
        digest_id=hashlib.sha256(f"daily|{since}|{until}".encode()).hexdigest(),
        kind=DigestKind.DAILY,
        alerts=(),
        title=f"Daily report: {title}",
        text="\n".join(lines),
        severity=Severity.INFO,
        link=link,
    )


def _minute(iso: str) -> str:
    return iso[:16].replace("T", " ")


def _clock(ms: int) -> str:
    return say.moment(ms // 1000 * 1000)[11:19]
