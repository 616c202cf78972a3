"""The report as one HTML file: no scripts, nothing from elsewhere, dark and light, the JSON inside. Pure.

All text from outside passes through `_text`; numbers through `_number`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.alerts.wording import finite, sanitize
from shared.jobs.report_extras import ChartData
from shared.pictures.plots import Mark, histogram, price_plot
from shared.times import parse_utc_ms

MAX_BYTES = 1_000_000
_EVENTS_SHOWN = 200
_JSON_BYTES = 400_000
LETTERS = {
    "volume_spike": "V", "trade_spike": "T", "order_book_imbalance": "O", "sector_initiator": "I",
    "sector_diffusion": "D", "window_anomaly": "W", "pump": "P", "market_wide": "M", "system": "S",
}  # fmt: skip

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--soft:#f1f4f7;--text:#1b2027;--muted:#555e69;--line:#d3dae2;--up:#12805c;
--down:#c93c37;--accent:#2f6fb5;--mark:#b45309;--volume:#c4cdd7;--u1:#e1f7e7;--u2:#b9ecc7;--u3:#85dba0;--d1:#ffecea;
--d2:#ffd0cc;--d3:#ffada8;--bad:#b3131f}
@media (prefers-color-scheme:dark){:root{--bg:#0d1117;--soft:#1a2129;--text:#e6edf3;--muted:#9da7b3;--line:#313943;
--up:#2ea97d;--down:#f0625a;--accent:#6cb6ff;--mark:#e3b341;--volume:#3b4654;--u1:#12331e;--u2:#17492a;--u3:#1d6236;
--d1:#3d181b;--d2:#5c2022;--d3:#7d2a2b;--bad:#ff7b72}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:980px;padding:16px;background:var(--bg);color:var(--text);
font:14px/1.5 system-ui,sans-serif}
h1{font-size:22px;margin:0}h2{font-size:17px;margin:28px 0 6px}h3{font-size:14px;margin:14px 0 4px}
p{margin:4px 0}.muted{color:var(--muted)}.bad{color:var(--bad);font-weight:600}
svg{display:block;width:100%;height:auto;background:var(--soft);border-radius:6px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:3px 8px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{color:var(--muted);font-weight:600}th:first-child,td:first-child,.l{text-align:left}
td.w{white-space:normal;text-align:left;overflow-wrap:anywhere}
.grid td,.grid th{padding:3px 4px;font-size:11px;text-align:center}
.grid th:first-child{text-align:left;padding-right:8px}
.u1{background:var(--u1)}.u2{background:var(--u2)}.u3{background:var(--u3)}.d1{background:var(--d1)}
.d2{background:var(--d2)}.d3{background:var(--d3)}
pre{background:var(--soft);border-radius:6px;padding:10px;overflow:auto;max-height:480px;font-size:11px}
@media print{details{display:none}}
"""


def render(report: Mapping[str, Any], charts: Sequence[ChartData]) -> str:
    """Return the whole file, at most a megabyte: the newest events first, and how many are left out is said."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Tapewatch report {_text(report['until'])}</title><style>{_STYLE}</style></head><body>",
        _head(report),
        _counts(report),
        _times(report.get("by_time") or {}),
        _charts(charts),
        _top(report["top_symbols"]),
        _sectors(report.get("sectors") or {}),
        _forests(report.get("windows") or {}),
        _outcomes(report.get("outcomes") or {}),
        _health(report.get("feed_health") or {}),
        _events(report),
    ]
    page = "".join(parts)
    return page + _embedded(report, min(_JSON_BYTES, MAX_BYTES - 10_000 - len(page.encode()))) + "</body></html>\n"


def _head(report: Mapping[str, Any]) -> str:
    alerts = sum(one["alerts"] for one in report["counts"].values())
    signals = sum(one["signals"] for one in report["counts"].values())
    return (
        f'<h1>Tapewatch report</h1><p class="muted">{_text(report["since"])} to {_text(report["until"])}, made '
        f"{_text(report['generated'])}</p><p><b>{alerts} alerts</b> from {signals} signals.</p>"
    )


def _counts(report: Mapping[str, Any]) -> str:
    rows = []
    for name, one in report["counts"].items():
        if one["signals"]:
            held = ", ".join(f"{_text(reason)} {count}" for reason, count in one["held"].items())
            rows.append([_name(name), str(one["signals"]), str(one["alerts"]), held or "–"])
    if not rows:
        return '<h2>Counts</h2><p class="muted">No rule fired in this time.</p>'
    return "<h2>Counts</h2>" + _table(["Detector", "Signals", "Alerts", "Held back"], rows, last_left=True)


def _times(by_time: Mapping[str, Any]) -> str:
    times: Sequence[str] = by_time.get("times") or []
    rows = {name: row for name, row in (by_time.get("alerts") or {}).items() if sum(row)}
    if not times or not rows:
        return ""
    hourly = by_time.get("step_hours") == 1
    heads = "".join(f"<th>{_text(time[11:13] if hourly else time[8:10])}</th>" for time in times)
    body = "".join(
        f"<tr><th>{_name(name)}</th>"
        + "".join(f'<td class="{_shade(count)}">{count or "·"}</td>' for count in row)
        + "</tr>"
        for name, row in rows.items()
    )
    words = "hour (UTC)" if hourly else "day"
    table = f'<div class="scroll"><table class="grid"><tr><th>{words}</th>{heads}</tr>{body}</table></div>'
    return f"<h2>Alerts per {'hour' if hourly else 'day'}</h2>{table}"


def _charts(charts: Sequence[ChartData]) -> str:
    if not charts:
        return ""
    parts = ["<h2>Alerts on the price</h2><p class=\"muted\">V volume spike, T trade spike, O order book, I initiator, "
             "D diffusion, W window anomaly, P pump, M market wide. Times are UTC.</p>"]  # fmt: skip
    for one in charts:
        marks = [
            Mark(parse_utc_ms(alert["event_time"]), LETTERS.get(alert["detector"], "?"), alert["direction"] == "DOWN")
            for alert in sorted(one.alerts, key=lambda alert: alert["event_time"])[-60:]
        ]
        title = f"{sanitize(one.symbol, 40)} ({one.market.value}), {len(one.alerts)} alerts"
        parts.append(f"<h3>{html.escape(title)}</h3>{price_plot(one.bars, marks, title)}")
    return "".join(parts)


def _top(rows: Iterable[Mapping[str, Any]]) -> str:
    cells = [[_text(row["symbol"]), str(row["alerts"]), str(row["signals"])] for row in rows]
    return "<h2>Top symbols</h2>" + _table(["Symbol", "Alerts", "Signals"], cells) if cells else ""


def _sectors(found: Mapping[str, Any]) -> str:
    groups: Mapping[str, Any] = found.get("sectors") or {}
    if not groups:
        return ""
    rows = []
    for sector, members in groups.items():
        for row in members:
            z_er, z_vol = row["z_excess_return"], row["z_volume"]
            learning = row["status"] == "warming"
            state = f"learning, {row['bars']} bars" if learning else str(row["status"])
            rows.append(
                f'<tr><td>{_text(sector)}</td><td class="l">{_text(row["symbol"])}</td>'
                f'<td class="{_heat(z_er)}">{_number(z_er)}</td><td class="{_heat(z_vol)}">{_number(z_vol)}</td>'
                f"<td>{_number(row['taker_buy_share'], 1, 100)} %</td><td>{_number(row['beta'])}</td>"
                f"<td>{_number(row['r_15m'], 2, 100)} %</td><td>{_text(state)}</td></tr>"
            )
    heads = "".join(
        f"<th>{one}</th>" for one in ("Sector", "Symbol", "ER z", "Volume z", "Takers", "Beta", "15 min", "")
    )
    table = f'<div class="scroll"><table><tr>{heads}</tr>{"".join(rows)}</table></div>'
    return f'<h2>Sectors</h2><p class="muted">Minute {_text(found.get("time"))}.</p>{table}'


def _forests(found: Mapping[str, Any]) -> str:
    parts = ["<h2>Isolation Forest</h2>"] if found else []
    for symbol, one in found.items():
        rate = one["rate"]
        share = "none judged yet" if rate["rate"] is None else f"{100 * rate['rate']:.2f} %"
        parts.append(
            f"<h3>{_text(symbol)}</h3><p>{one['windows']} windows, {rate['anomalies']} anomalies of {rate['judged']} "
            f"judged ({share}).</p>"
        )
        bins = one["distribution"]
        if bins:
            edges = [row["from"] for row in bins] + [bins[-1]["to"]]
            counts = [int(row["count"]) for row in bins]
            label = f"Scores of {sanitize(symbol, 40)}"
            parts.append(histogram(edges, counts, label, threshold=one["threshold"], height=170))
        lifts = [
            [horizon, _number(row["lift"]), str(row["anomalies"]), str(row["others"])]
            for horizon, row in one["lift"].items()
            if row is not None
        ]
        if lifts:
            heads = ["Horizon", "Lift", "Anomalies", "Other windows"]
            parts.append("<p class=\"muted\">Lift: the summed absolute return after anomalies over that after other "
                         "windows.</p>" + _table(heads, lifts))  # fmt: skip
    return "".join(parts)


def _outcomes(found: Mapping[str, Any]) -> str:
    rows = []
    for name, one in found.items():
        after, chance, lift = one.get("after") or {}, one.get("random") or {}, one.get("lift") or {}
        rows.append(
            [_name(name), str(one.get("alerts", 0))]
            + [f"{_number((after.get(h) or {}).get('mean'), 2, 100)} %" for h in ("5m", "15m", "60m")]
            + [f"{_number((chance.get('60m') or {}).get('mean'), 2, 100)} %", _number(lift.get("60m"))]
        )
    if not rows:
        return ""
    heads = ["Detector", "Alerts", "5 min", "15 min", "60 min", "60 min at random", "Lift, 60 min"]
    note = '<p class="muted">Mean return in the alert\'s direction, and after random moments of the same markets.</p>'
    return "<h2>Outcomes</h2>" + note + _table(heads, rows)


def _health(found: Mapping[str, Any]) -> str:
    rows = [
        [_text(name), _state(one["state"]), _text(one["last_beat"] or "never"), _troubles(one.get("fields") or {})]
        for name, one in (found.get("components") or {}).items()
    ]
    gaps = [
        [_text(market), str(one["stored"]), _gap(one["missing"]), _text(one["first"] or "–"), _text(one["last"] or "–")]
        for market, one in (found.get("minutes") or {}).items()
    ]
    return (
        f"<h2>Feed health</h2><p>{_state(found.get('status', 'unknown'))}</p>"
        + (_table(["Part", "State", "Last sign of life", "Gaps and refusals"], rows, last_left=True) if rows else "")
        + ("<h3>Minutes and gaps</h3>" + _table(["Market", "Stored", "Missing", "First", "Last"], gaps) if gaps else "")
    )


def _events(report: Mapping[str, Any]) -> str:
    alerts = [event for event in report["events"] if event["alerted"]]
    if not alerts:
        return ""
    rows = []
    for event in alerts[:_EVENTS_SHOWN]:
        values = ", ".join(
            f"{sanitize(key, 24)} {_value(value)}"
            for key, value in event["values"].items()
            if isinstance(value, int | float | str) and key not in ("symbol", "timestamp", "signal_type")
        )
        rows.append(
            f'<tr><td>{_text(event["event_time"])}</td><td class="l">{_name(event["detector"])}</td>'
            f'<td class="l">{_text(event["symbol"])}</td><td>{_text(event["direction"] or "")}</td>'
            f'<td class="w">{_text(values, 240)}</td></tr>'
        )
    left = len(alerts) - len(rows)
    more = f'<p class="muted">{left} older alerts are in the JSON report.</p>' if left else ""
    heads = "".join(f'<th class="l">{one}</th>' for one in ("Time", "Detector", "Symbol", "", "Numbers"))
    return f'<h2>Alerts</h2><div class="scroll"><table><tr>{heads}</tr>{"".join(rows)}</table></div>{more}'


def _embedded(report: Mapping[str, Any], budget: int) -> str:
    """Return the JSON as text that can be read back: entities undone, it is the report; its lists are cut to fit."""
    kept = 1.0
    while True:
        shown = {**report}
        for name in ("events", "diffusions"):
            shown[name] = list(report[name])[: int(len(report[name]) * kept)]
        cut = {name: len(report[name]) - len(shown[name]) for name in ("events", "diffusions")}
        if any(cut.values()):
            shown["not_embedded"] = cut
        text = html.escape(json.dumps(shown, ensure_ascii=False), quote=False)
        if len(text.encode("utf-8", "replace")) <= budget or kept == 0:
            break
        kept = kept * 2 / 3 if kept > 0.01 else 0
    return f'<h2>JSON</h2><details><summary>The whole report</summary><pre id="report-json">{text}</pre></details>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, last_left: bool = False) -> str:
    """Return a table; cells are HTML already."""
    head = "".join(f"<th>{html.escape(one)}</th>" for one in heads)
    body = []
    for row in rows:
        cells = [f"<td>{cell}</td>" for cell in row]
        if last_left:
            cells[-1] = f'<td class="l">{row[-1]}</td>'
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(body)}</table></div>'


def _text(value: object, limit: int = 80) -> str:
    return html.escape(sanitize("–" if value is None else value, limit))


def _name(detector: str) -> str:
    return _text(detector.replace("_", " "))


def _number(value: object, decimals: int = 2, scale: float = 1.0) -> str:
    number = finite(value)
    return "–" if number is None else f"{number * scale:.{decimals}f}"


def _value(value: object) -> str:
    number = finite(value)
    return sanitize(value, 40) if number is None else f"{number:.6g}"


def _shade(count: int) -> str:
    return "u3" if count >= 10 else "u2" if count >= 4 else "u1" if count else ""


def _heat(z: object) -> str:
    number = finite(z)
    if number is None or abs(number) < 1:
        return ""
    return ("u" if number > 0 else "d") + ("3" if abs(number) >= 3 else "2" if abs(number) >= 2 else "1")


def _state(state: object) -> str:
    return f'<span class="bad">{_text(state)}</span>' if state in ("silent", "broken") else _text(state)


def _troubles(fields: Mapping[str, Any]) -> str:
    """Say what a part has counted that should be nothing: holes in the stream, trades not got back, refusals."""
    counted = {name: fields.get(name) for name in ("gaps", "missing", "rejected", "failed")}
    words = [f"{_number(count, 0)} {name}" for name, count in counted.items() if count]
    return ", ".join(words) or "–"


def _gap(missing: int) -> str:
    return f'<span class="bad">{missing}</span>' if missing else "0"
