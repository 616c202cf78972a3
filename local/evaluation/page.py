"""The evaluation as one HTML file: tables and charts, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from local.evaluation.plot import Point, scatter, strip_bars
from local.evaluation.report import labels_told, left_out_told

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#5b6572;--line:#d9dee4;
--c0:#0b62c4;--c1:#b3461c;--c2:#23734d;--c3:#7a3fb0;--c4:#8a6d00;--c5:#a3215b}
@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e6e9ed;--dim:#9aa5b1;--line:#2f3740;
--c0:#6cb0ff;--c1:#f0956b;--c2:#62c896;--c3:#c196f2;--c4:#d8b93f;--c5:#f08ab6}}
body{margin:2rem auto;max-width:72rem;padding:0 1rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,sans-serif}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}
.wide{overflow-x:auto}figure{margin:1.5rem 0;max-width:46rem}figcaption{font-weight:600}
svg{width:100%;height:auto;font-size:11px;fill:var(--fg)}.grid{stroke:var(--line)}
.level{stroke:var(--dim);stroke-dasharray:4 3}
@media(max-width:36rem){figure .wide svg{width:34rem}}
.key{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:1rem;color:var(--dim);margin:.2rem 0}
.dot{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.4em}
code,.dim{color:var(--dim)}code{overflow-wrap:anywhere}
"""

_FEWEST_ON_THE_CLOCK = 60  # with fewer than one a minute there is nothing to be seen
_MOST_STRIPS = 12

Row = Mapping[str, Any]


def page(report: Row) -> str:
    """Return the whole page; the report itself is embedded as JSON."""
    rows: Sequence[Row] = report["results"]
    parts = [
        "<h1>What the alerts are worth</h1>",
        f'<p class="dim">{escape(report["created"])} · Tapewatch {escape(report["version"])} · '
        f"{report['inputs']:,} inputs · {escape(report['truth'])}</p>",
        _table(rows),
        "<p class=dim>signals: every firing of the rule. news: those that pass the alert gates. alerts: those that the "
        "whole policy (cooldown, budget) lets through. Lift: movement over the next "
        f"{report['horizon_s'] // 60} minutes after it, against all other minutes of the same symbol; the bounds are "
        "95 % of a bootstrap over blocks of six hours, and missing where all alarms lie in one. At the quarters: the "
        "share of alarms at :00, :15, :30 and :45 over an equal share.</p>",
        *(
            f"<p class=dim>{escape(name)}: no alerts, because alerts of it are switched off.</p>"
            for name in report["switched_off"]
        ),
        _days(report["alerts_by_day"]),
    ]
    if any(row.get("labels") for row in rows):
        parts += ["<h2>Labelled events</h2>", _label_table(rows), f"<p class=dim>{escape(labels_told(report))}</p>"]
    parts += _charts(rows, report)
    parts += [_checks(report), _data(report)]
    embedded = json.dumps(report, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tapewatch evaluation</title>'
        '<meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{STYLE}</style></head><body>{''.join(parts)}"
        f'<script type="application/json" id="report">{embedded}</script></body></html>\n'
    )


def _table(rows: Sequence[Row]) -> str:
    head = (
        "detector", "level", "setting", "alarms", "symbol-days", "per symbol-day", "rate asked", "realised",
        "lift", "95 %", "net lift", "direction", "at the quarters",
    )  # fmt: skip
    body = []
    for row in rows:
        lift = row["lift"] or {}
        body.append(
            (
                row["detector"], row["level"], row.get("setting") or "", row["alarms"], _text(row["symbol_days"], 1),
                _text(row["per_symbol_day"], 3), _percent(row["rate_asked"]), _percent(row["rate_realised"]),
                _text(lift.get("lift"), 2), bounds(lift), _text(lift.get("net_lift"), 2),
                _percent(lift.get("agreement")), _text(row["at_quarters"], 2),
            )
        )  # fmt: skip
    return _as_table(head, body)


def _days(days: Mapping[str, int]) -> str:
    if not days:
        return ""
    told = ", ".join(map(str, days.values())) if len(days) <= 31 else f"{len(days)} days"
    return f"<p>Alerts a day, all of these together: {told}; most {max(days.values())}.</p>"


def _label_table(rows: Sequence[Row]) -> str:
    head = (
        "detector", "level", "setting", "events", "found", "missed", "false", "precision", "recall", "F1",
        "delay median", "delay p90", "false per symbol-day",
    )  # fmt: skip
    body = [
        (
            row["detector"], row["level"], row.get("setting") or "", one["events"], one["found"], one["missed"],
            one["false_alarms"], _text(one["precision"], 3), _text(one["recall"], 3), _text(one["f1"], 3),
            _seconds(one["delay_s_median"]), _seconds(one["delay_s_p90"]), _text(one["false_per_symbol_day"], 3),
        )
        for row in rows
        if (one := row.get("labels"))
    ]  # fmt: skip
    return _as_table(head, body)


def _charts(rows: Sequence[Row], report: Row) -> list[str]:
    charts = []
    lifts: list[tuple[str, list[Point]]] = []
    curves: dict[str, list[Point]] = {}
    for row in rows:
        name, rate = f"{row['detector']}, {row['level']}", row["per_symbol_day"]
        if row["lift"] and rate is not None:
            lift = row["lift"]
            point = Point(rate, lift["lift"], row.get("setting") or "", lift["low"], lift["high"])
            if not lifts or lifts[-1][0] != name:
                lifts.append((name, []))
            lifts[-1][1].append(point)
        labels = row.get("labels")
        if labels and labels["recall"] is not None and labels["false_per_symbol_day"] is not None:
            point = Point(labels["false_per_symbol_day"], labels["recall"], row.get("setting") or "")
            curves.setdefault(name, []).append(point)
    grouped: dict[str, list[Point]] = {}
    for name, points in lifts:
        grouped.setdefault(name, []).extend(points)
    swept = bool(report.get("sweep"))
    charts.append(
        scatter(list(grouped.items()), title="Lift and how often", x="alarms per symbol-day", y="lift", joined=swept)
    )
    charts.append(
        scatter(
            [(name, sorted(points, key=lambda p: p.x)) for name, points in curves.items()],
            title="Events found and false alarms", x="false alarms per symbol-day", y="recall", joined=swept,
        )
    )  # fmt: skip
    for detector in dict.fromkeys(row["detector"] for row in rows):
        charts.append(_clock([row for row in rows if row["detector"] == detector], detector))
    return ["<h2>Charts</h2>", *charts] if any(charts) else []


def _clock(rows: Sequence[Row], detector: str) -> str:
    """Draw when in the hour alarms come, one strip for each level and setting; what repeats another is left out."""
    strips: dict[tuple[float, ...], str] = {}
    for row in rows:
        counts, total = row["clock"], sum(row["clock"])
        if total >= _FEWEST_ON_THE_CLOCK:
            name = ", ".join(part for part in (row["level"], row.get("setting")) if part)
            shares = tuple(count * 60 / total for count in counts)
            strips.setdefault(shares, f"{name}: {total:,} alarms, at the quarters x {row['at_quarters']:.2f}")
    chosen = [(name, shares) for shares, name in strips.items()][:_MOST_STRIPS]
    return strip_bars(
        chosen, title=f"{detector}: the clock", x="minute of the hour", y="alarms / mean", every=15, level=1.0
    )


def _checks(report: Row) -> str:
    items = []
    for check in report["look_ahead"]:
        broken = len(check["broken"])
        answer = f"{broken} changed" if broken else "nothing changed"
        said = ", ".join(f"{name} {count}" for name, count in check["said"].items())
        items.append(
            f"<li>{escape(check['file'])} cut at {escape(check['cut'])}: {check['compared']} signals before it "
            f"({escape(said) or 'none'}), {answer}</li>"
        )
    if told := left_out_told(report):
        items.append(f"<li>{escape(told)}</li>")
    return f"<h2>Look-ahead</h2><ul>{''.join(items)}</ul>" if items else ""


def _data(report: Row) -> str:
    items = "".join(
        f"<li>{escape(name)} <code>sha256 {escape(digest)}</code></li>" for name, digest in report["files"].items()
    )
    return (
        f"<h2>Data</h2><p>Data hash <code>{escape(report['data_sha256'])}</code></p><details><summary>"
        f"{len(report['files'])} files</summary><ul>{items}</ul></details>"
    )


def _as_table(head: Sequence[str], body: Sequence[Sequence[Any]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in body)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _text(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:,.{decimals}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def bounds(lift: Row) -> str:
    """Return the interval of a lift in words."""
    return "–" if lift.get("low") is None else f"{lift['low']:.2f} – {lift['high']:.2f}"
