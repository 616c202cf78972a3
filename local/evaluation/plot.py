"""Small charts as inline SVG: colours come from the page's variables, so one chart serves dark and light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 44


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float
    label: str = ""
    low: float | None = None
    high: float | None = None


def scatter(series: Sequence[tuple[str, Sequence[Point]]], *, title: str, x: str, y: str, joined: bool = False) -> str:
    """Draw points, joined or not, each with its label as a tooltip and, where given, its interval."""
    points = [p for _, many in series for p in many if isfinite(p.x) and isfinite(p.y)]
    if not points:
        return ""
    values = [v for p in points for v in (p.y, p.low, p.high) if v is not None and isfinite(v)]
    frame = _Frame(0.0, max(p.x for p in points), min(0.0, *values), max(values))
    parts = []
    for number, (name, many) in enumerate(series):
        colour = f"var(--c{number % 6})"
        shown = [p for p in many if isfinite(p.x) and isfinite(p.y)]
        if joined and len(shown) > 1:
            line = " ".join(f"{frame.x(p.x):.1f},{frame.y(p.y):.1f}" for p in shown)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for p in shown:
            at = f"{frame.x(p.x):.1f}"
            if p.low is not None and p.high is not None:
                low, high = frame.y(p.low), frame.y(p.high)
                parts.append(f'<line x1="{at}" x2="{at}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}"/>')
            tip = escape(f"{name} {p.label}: {x} {p.x:.4g}, {y} {p.y:.4g}")
            parts.append(
                f'<circle cx="{at}" cy="{frame.y(p.y):.1f}" r="4" fill="{colour}"><title>{tip}</title></circle>'
            )
    return _figure(title, x, y, frame, parts, [name for name, _ in series])


def bars(series: Sequence[tuple[str, Sequence[float]]], *, title: str, x: str, y: str) -> str:
    """Draw one bar for each value at 0, 1, 2, ...; several series stand side by side."""
    most = max((v for _, many in series for v in many), default=0.0)
    if most <= 0:
        return ""
    count = max(len(many) for _, many in series)
    frame = _Frame(-0.5, count - 0.5, 0.0, most)
    wide = (frame.x(1) - frame.x(0)) * 0.86 / len(series)
    parts = []
    for number, (name, many) in enumerate(series):
        for at, value in enumerate(many):
            left = frame.x(at) - wide * len(series) / 2 + number * wide
            top = frame.y(value)
            tip = escape(f"{name} {x} {at}: {value:.4g}")
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{frame.y(0) - top:.1f}" '
                f'fill="var(--c{number % 6})"><title>{tip}</title></rect>'
            )
    return _figure(title, x, y, frame, parts, [name for name, _ in series])


@dataclass(frozen=True, slots=True)
class _Frame:
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        span = self.x_high - self.x_low or 1.0
        return _LEFT + (value - self.x_low) / span * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        span = self.y_high - self.y_low or 1.0
        return HEIGHT - _BOTTOM - (value - self.y_low) / span * (HEIGHT - _TOP - _BOTTOM)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers in [low, high], about `count` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** floor(log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    first = -floor(-low / step)
    return [n * step for n in range(int(first), floor(high / step + 1e-9) + 1)]


def _figure(title: str, x: str, y: str, frame: _Frame, parts: Sequence[str], names: Sequence[str]) -> str:
    axes = []
    for value in ticks(frame.y_low, frame.y_high):
        at = frame.y(value)
        axes.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
        axes.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(max(frame.x_low, 0.0), frame.x_high, 8):
        axes.append(f'<text x="{frame.x(value):.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
    axes.append(f'<text x="{(WIDTH + _LEFT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
    middle = HEIGHT / 2 - 10
    axes.append(
        f'<text x="14" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 14 {middle:.0f})">{escape(y)}</text>'
    )
    key = "".join(
        f'<li><span class="dot" style="background:var(--c{n % 6})"></span>{escape(name)}</li>'
        for n, name in enumerate(names)
        if name
    )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(axes)}{"".join(parts)}'
        f'</svg><ul class="key">{key}</ul></figure>'
    )
