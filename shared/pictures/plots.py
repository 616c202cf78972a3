"""The plots of report and command line: price with alerts, a histogram. Pure: numbers in, SVG out.

On a page the colours are the page's own variables, so that one plot serves its dark and its light form; for a file of
its own they are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, floor, isfinite, log10

from shared.market.model import Bar
from shared.pictures.svg import Svg, escape, n
from shared.times import HOUR_MS, MINUTE_MS

_CANDLES = 288  # that many at most; more minutes are joined


@dataclass(frozen=True, slots=True)
class Palette:
    back: str
    ink: str
    dim: str
    grid: str
    up: str
    down: str
    accent: str
    mark: str
    volume: str


PAGE = Palette("none", "var(--text)", "var(--muted)", "var(--line)", "var(--up)", "var(--down)", "var(--accent)",
               "var(--mark)", "var(--volume)")  # fmt: skip
PRINT = Palette("#ffffff", "#1b2027", "#555e69", "#e2e7ed", "#12805c", "#c93c37", "#2f6fb5", "#b45309", "#c4cdd7")


@dataclass(frozen=True, slots=True)
class Mark:
    """An alert on the price: its one letter, above the bar or below it."""

    at_ms: int
    letter: str
    below: bool = False


class _Plot(Svg):
    def path(self, steps: Sequence[str], stroke: str, width: float) -> None:
        """Draw many lines of one colour as one shape."""
        if steps:
            self._shapes.append(
                f'<path d="{"".join(steps)}" fill="none" stroke="{escape(stroke)}" stroke-width="{n(width)}"/>'
            )


def price_plot(
    bars: Sequence[Bar],
    marks: Sequence[Mark],
    label: str,
    palette: Palette = PAGE,
    *,
    width: int = 900,
    height: int = 260,
) -> str:
    """Return candles, volume and alert marks over the time that the bars span.

    Raises:
        ValueError: there is no bar.
    """
    if not bars:
        raise ValueError("a price plot needs bars")
    first_ms, end_ms = bars[0].open_ms, bars[-1].open_ms + MINUTE_MS
    step_ms = ceil((end_ms - first_ms) / MINUTE_MS / _CANDLES) * MINUTE_MS
    candles = _joined(bars, step_ms)
    left, right, top, bottom, floor_y = 8.0, width - 66.0, 22.0, height * 0.74, height - 20.0
    low, high = min(bar.low for bar in candles), max(bar.high for bar in candles)
    pad = (high - low) * 0.06 or abs(high) * 0.001 or 1.0
    low, high = low - pad, high + pad
    most = max(bar.volume for bar in candles) or 1.0

    def x(at_ms: float) -> float:
        return left + (right - left) * (at_ms - first_ms) / max(1, end_ms - first_ms)

    def y(price: float) -> float:
        return bottom - (bottom - top) * (price - low) / (high - low)

    svg = _Plot(width, height, palette.back)
    for value in ticks(low, high, 4):
        svg.line(left, y(value), right, y(value), palette.grid)
        svg.text(right + 6, y(value) + 4, short(value, high - low), palette.dim, size=11)
    _hours(svg, palette, first_ms, end_ms, x, floor_y)
    wide = max(1.0, (right - left) / max(1.0, (end_ms - first_ms) / step_ms) - 1.0)
    half = step_ms / 2
    volumes, wicks, bodies = [], {True: [], False: []}, {True: [], False: []}  # type: ignore[var-annotated]
    for bar in candles:
        at, up = n(x(bar.open_ms + half)), bar.close >= bar.open
        volumes.append(f"M{at} {n(floor_y)}V{n(floor_y - (floor_y - bottom - 6) * bar.volume / most)}")
        wicks[up].append(f"M{at} {n(y(bar.low))}V{n(y(bar.high))}")
        body = y(bar.close) if abs(y(bar.close) - y(bar.open)) >= 0.7 else y(bar.open) - 0.7
        bodies[up].append(f"M{at} {n(y(bar.open))}V{n(body)}")
    svg.path(volumes, palette.volume, wide)
    for up, colour in ((True, palette.up), (False, palette.down)):
        svg.path(wicks[up], colour, min(1.0, wide))
        svg.path(bodies[up], colour, wide)
    _marks(svg, palette, candles, marks, step_ms, x, y)
    return svg.finish(label)


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    label: str,
    palette: Palette = PAGE,
    *,
    threshold: float | None = None,
    width: int = 900,
    height: int = 220,
    heading: bool = False,
) -> str:
    """Return counts over their edges; heights are square roots, so that a single odd window is seen.

    `heading` writes the label above, for a picture that stands alone.

    Raises:
        ValueError: there are no counts, or not one edge more than counts.
    """
    if not counts or len(edges) != len(counts) + 1:
        raise ValueError("a histogram needs one edge more than counts")
    svg = _Plot(width, height, palette.back)
    left, right, top, base = 8.0, width - 8.0, 50.0 if heading else 24.0, height - 24.0
    if heading:
        svg.text(left, 18, label, palette.ink, size=14)
    low, high, most = edges[0], edges[-1], max(counts) or 1

    def x(value: float) -> float:
        return left + (right - left) * (value - low) / ((high - low) or 1.0)

    for i, count in enumerate(counts):
        if count:
            tall = max(1.5, (base - top) * (count / most) ** 0.5)
            odd = threshold is not None and edges[i] < threshold
            box = x(edges[i + 1]) - x(edges[i])
            svg.rect(x(edges[i]) + 0.5, base - tall, max(1.0, box - 1), tall, palette.down if odd else palette.accent)
            if box >= 22:
                svg.text(x(edges[i]) + box / 2, base - tall - 4, _short(count), palette.dim, size=10, anchor="middle")
    svg.line(left, base, right, base, palette.grid)
    if threshold is not None and isfinite(threshold):
        at = min(right, max(left, x(threshold)))
        svg.line(at, top - 18, at, base, palette.down, width=1.5, dash="5 4")
        anchor, shift = ("start", 5) if at < width - 150 else ("end", -5)
        svg.text(at + shift, top - 9, f"threshold {threshold:.4f}", palette.dim, size=11, anchor=anchor)
    for value, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "end")):
        svg.text(x(value), height - 8, f"{value:.3f}", palette.dim, size=11, anchor=anchor)
    return svg.finish(label)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round values between low and high."""
    span = high - low
    if not isfinite(span) or span <= 0:
        return []
    step = 10.0 ** floor(log10(span / count))
    step *= next((factor for factor in (1, 2, 5) if span / (step * factor) <= count + 1), 10)
    first = ceil(low / step)
    return [value for i in range(count + 3) if (value := (first + i) * step) <= high]


def short(value: float, span: float) -> str:
    """Return a number with the decimals that a scale of this span needs."""
    decimals = min(10, max(0, 2 - floor(log10(span)))) if span > 0 else 2
    return f"{value:.{decimals}f}"


def _joined(bars: Sequence[Bar], step_ms: int) -> list[Bar]:
    """Join minutes into candles of `step_ms`; a gap stays a gap."""
    if step_ms <= MINUTE_MS:
        return list(bars)
    groups: dict[int, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar.open_ms // step_ms * step_ms, []).append(bar)
    return [
        Bar(
            group[0].market, group[0].symbol, at_ms, at_ms + step_ms - 1, group[0].open, max(b.high for b in group),
            min(b.low for b in group), group[-1].close, sum(b.volume for b in group),
        )
        for at_ms, group in sorted(groups.items())
    ]  # fmt: skip


def _hours(svg: _Plot, palette: Palette, first_ms: int, end_ms: int, x, floor_y: float) -> None:  # type: ignore[no-untyped-def]
    hours = max(1, (end_ms - first_ms) / HOUR_MS)
    every = next((step for step in (1, 2, 3, 4, 6, 12, 24, 48, 96) if hours / step <= 10), 168) * HOUR_MS
    at_ms = -(-first_ms // every) * every
    while at_ms < end_ms:
        moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
        words = moment.strftime("%d %b" if every >= 24 * HOUR_MS or moment.hour == 0 else "%H:%M")
        svg.line(x(at_ms), 8, x(at_ms), floor_y, palette.grid, width=0.5)
        svg.text(x(at_ms), floor_y + 14, words, palette.dim, size=11, anchor="start" if x(at_ms) < 30 else "middle")
        at_ms += every


def _marks(svg: _Plot, palette: Palette, candles: Sequence[Bar], marks: Sequence[Mark], step_ms: int, x, y) -> None:  # type: ignore[no-untyped-def]
    by_time = {bar.open_ms // step_ms: bar for bar in candles}
    stacked: dict[tuple[int, bool], int] = {}
    for mark in marks:
        slot = mark.at_ms // step_ms
        bar = by_time.get(slot)
        if bar is None:
            continue
        level = stacked[slot, mark.below] = stacked.get((slot, mark.below), -1) + 1
        at = x(bar.open_ms + step_ms / 2)
        if mark.below:
            base = y(bar.low) + 5
            svg.polygon([(at, base), (at - 4, base + 7), (at + 4, base + 7)], palette.mark)
            svg.text(at, base + 18 + 12 * level, mark.letter, palette.ink, size=11, anchor="middle")
        else:
            base = max(20.0, y(bar.high) - 5)
            svg.polygon([(at, base), (at - 4, base - 7), (at + 4, base - 7)], palette.mark)
            svg.text(at, max(9.0, base - 10 - 12 * level), mark.letter, palette.ink, size=11, anchor="middle")


def _short(count: int) -> str:
    """Return a count that fits above its bar."""
    return str(count) if count < 1000 else f"{count / 1000:.1f}k" if count < 99_950 else f"{count // 1000}k"
