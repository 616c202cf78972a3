"""Small charts as inline SVG: colours come from the page's variables, so one chart serves dark and light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 44
_STRIP = 150  # height of one strip of bars


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


def strip_bars(
    series: Sequence[tuple[str, Sequence[float]]], *, title: str, x: str, y: str, every: int, level: float
) -> str:
    """Draw each series as a strip of bars at 0, 1, 2, ..., one above the other on one scale.

    Every so many values a bar has the second colour and its number below; `level` is drawn as a line.
    """
    most = max((v for _, many in series for v in many), default=0.0)
    if most <= 0:
        return ""
    count = max(len(many) for _, many in series)
    height = _STRIP * len(series) + _TOP
    parts = []
    for number, (name, many) in enumerate(series):
        frame = _Frame(-0.5, count - 0.5, 0.0, most, _STRIP * number + _TOP + 20, _STRIP * (number + 1) + _TOP - 40)
        wide = (frame.x(1) - frame.x(0)) * 0.8
        parts.append(f'<text x="{_LEFT}" y="{frame.top - 8:.1f}" font-weight="600">{escape(name)}</text>')
        parts += _rules(ticks(0.0, most, 3), frame)
        for at, value in enumerate(many):
            top, mark = frame.y(value), at % every == 0
            tip = escape(f"{name}, {x} {at}: {value:.4g}")
            parts.append(
                f'<rect x="{frame.x(at) - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" '
                f'height="{frame.bottom - top:.1f}" fill="var(--c{int(mark)})"><title>{tip}</title></rect>'
            )
            if mark:
                below = frame.bottom + 16
                parts.append(f'<text x="{frame.x(at):.1f}" y="{below:.1f}" text-anchor="middle">{at}</text>')
        line = f'y1="{frame.y(level):.1f}" y2="{frame.y(level):.1f}"'
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" {line} class="level"/>')
    parts.append(f'<text x="{(WIDTH + _LEFT) / 2:.0f}" y="{height - 8}" text-anchor="middle">{escape(x)}</text>')
    parts.append(_sideways(y, height / 2))
    return _wrapped(title, height, parts)


@dataclass(frozen=True, slots=True)
class _Frame:
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM

    def x(self, value: float) -> float:
        span = self.x_high - self.x_low or 1.0
        return _LEFT + (value - self.x_low) / span * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        span = self.y_high - self.y_low or 1.0
        return self.bottom - (value - self.y_low) / span * (self.bottom - self.top)


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
    axes = _rules(ticks(frame.y_low, frame.y_high), frame)
    for value in ticks(max(frame.x_low, 0.0), frame.x_high, 8):
        axes.append(f'<text x="{frame.x(value):.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
    axes.append(f'<text x="{(WIDTH + _LEFT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
    axes.append(_sideways(y, HEIGHT / 2 - 10))
    key = "".join(
        f'<li><span class="dot" style="background:var(--c{n % 6})"></span>{escape(name)}</li>'
        for n, name in enumerate(names)
        if name
    )
    return _wrapped(title, HEIGHT, [*axes, *parts], f'<ul class="key">{key}</ul>')


def _rules(values: Sequence[float], frame: _Frame) -> list[str]:
    """Return horizontal lines with their numbers."""
    parts = []
    for value in values:
        at = frame.y(value)
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    return parts


def _sideways(text: str, middle: float) -> str:
    turned = f'transform="rotate(-90 14 {middle:.0f})"'
    return f'<text x="14" y="{middle:.0f}" text-anchor="middle" {turned}>{escape(text)}</text>'


def _wrapped(title: str, height: float, parts: Sequence[str], key: str = "") -> str:
    """Return a figure that scrolls by itself where the screen is too narrow for its words."""
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><div class="wide" tabindex="0">'
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></div>'
        f"{key}</figure>"
    )
