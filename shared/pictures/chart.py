"""Draw an alert's chart: two hours of price and volume, the baselines, the trigger. Pure: a snapshot in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from statistics import median

from shared.alerts.wording import brief
from shared.pictures.snapshot import Snapshot, SnapshotBar
from shared.pictures.svg import Svg
from shared.times import MINUTE_MS

WIDTH, HEIGHT = 960, 540
_LEFT, _RIGHT = 16.0, 872.0
_PRICE = (64.0, 356.0)  # top, bottom
_VOLUME = (384.0, 500.0)
_MEAN_BARS = 20
_BACK, _INK, _DIM, _GRID = "#ffffff", "#1b1f24", "#5b6672", "#e4e8ec"
_UP, _DOWN, _BASE, _MARK = "#1a7f53", "#c2382f", "#2f6fb5", "#d9730d"


def chart(snapshot: Snapshot) -> str:
    """Return the SVG of one alert. Bars stand at their own time, so a missing minute is a gap."""
    svg = Svg(WIDTH, HEIGHT, _BACK)
    bars = snapshot.bars
    first_ms, last_ms = bars[0].open_ms, max(bars[-1].open_ms + MINUTE_MS, snapshot.at_ms + MINUTE_MS)
    x = _Scale(first_ms, last_ms, _LEFT, _RIGHT)
    marked = [snapshot.price] if snapshot.price is not None and isfinite(snapshot.price) and snapshot.price > 0 else []
    low = min([bar.low for bar in bars] + marked)
    high = max([bar.high for bar in bars] + marked)
    pad = (high - low) * 0.06 or abs(high) * 0.001
    price = _Scale(low - pad, high + pad, _PRICE[1], _PRICE[0])
    volume = _Scale(0.0, max(bar.volume for bar in bars) * 1.08 or 1.0, _VOLUME[1], _VOLUME[0])
    svg.text(_LEFT, 28, snapshot.symbol, _INK, size=20, limit=32)
    svg.text(_LEFT, 48, snapshot.title, _DIM, size=13, limit=110)
    svg.text(_RIGHT + 72, 28, f"{_day(snapshot.at_ms)} UTC", _DIM, size=13, anchor="end")
    _grid(svg, x, price, volume)
    _trigger_band(svg, snapshot, x)
    _candles(svg, bars, x, price, volume)
    _baselines(svg, bars, x, price, volume)
    _trigger(svg, snapshot, x, price)
    return svg.finish(f"{snapshot.symbol}: {snapshot.title}")


class _Scale:
    """Map values onto coordinates, in a straight line."""

    def __init__(self, low: float, high: float, at_low: float, at_high: float) -> None:
        self.low, self.high, self._at_low = low, high, at_low
        self._step = (at_high - at_low) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self._at_low + (value - self.low) * self._step


def _grid(svg: Svg, x: _Scale, price: _Scale, volume: _Scale) -> None:
    for share in (0.1, 0.35, 0.6, 0.85):
        value = price.low + (price.high - price.low) * share
        svg.line(_LEFT, price(value), _RIGHT, price(value), _GRID)
        svg.text(_RIGHT + 8, price(value) + 4, brief(value), _DIM, size=12)
    for share in (0.45, 0.9):
        value = volume.high * share
        svg.line(_LEFT, volume(value), _RIGHT, volume(value), _GRID)
        svg.text(_RIGHT + 8, volume(value) + 4, brief(value), _DIM, size=12)
    svg.line(_LEFT, _VOLUME[1], _RIGHT, _VOLUME[1], _DIM)
    step_ms = 30 * MINUTE_MS
    tick = int(-(-x.low // step_ms) * step_ms)
    while tick < x.high:
        svg.line(x(tick), _PRICE[0], x(tick), _VOLUME[1], _GRID)
        if _LEFT + 16 < x(tick) < _RIGHT - 16:
            svg.text(x(tick), _VOLUME[1] + 18, _time(tick), _DIM, size=12, anchor="middle")
        tick += step_ms


def _candles(svg: Svg, bars: Sequence[SnapshotBar], x: _Scale, price: _Scale, volume: _Scale) -> None:
    wide = max(1.0, (x(x.low + MINUTE_MS) - x(x.low)) * 0.66)
    for bar in bars:
        middle = x(bar.open_ms + MINUTE_MS / 2)
        color = _UP if bar.close >= bar.open else _DOWN
        svg.line(middle, price(bar.high), middle, price(bar.low), color)
        top, bottom = price(max(bar.open, bar.close)), price(min(bar.open, bar.close))
        svg.rect(middle - wide / 2, top, wide, max(1.0, bottom - top), color)
        svg.rect(middle - wide / 2, volume(bar.volume), wide, _VOLUME[1] - volume(bar.volume), color, opacity=0.7)


def _baselines(svg: Svg, bars: Sequence[SnapshotBar], x: _Scale, price: _Scale, volume: _Scale) -> None:
    """The median price, and the mean volume of the 20 bars before each one (what the volume rule compares with)."""
    middle = median(bar.close for bar in bars)
    svg.line(_LEFT, price(middle), _RIGHT, price(middle), _BASE, width=1.2, dash="6 4")
    svg.text(_LEFT + 4, price(middle) - 5, f"median of 2 h  {brief(middle)}", _BASE, size=12, halo=_BACK)
    means = [
        (x(bars[at].open_ms + MINUTE_MS / 2), volume(sum(b.volume for b in bars[at - _MEAN_BARS : at]) / _MEAN_BARS))
        for at in range(_MEAN_BARS, len(bars))
    ]
    svg.polyline(means, _BASE, width=1.6)
    svg.text(_LEFT + 4, _VOLUME[0] - 6, "volume, with the mean of the 20 bars before", _BASE, size=12)


def _trigger_band(svg: Svg, snapshot: Snapshot, x: _Scale) -> None:
    start = snapshot.at_ms - snapshot.at_ms % MINUTE_MS
    svg.rect(x(start), _PRICE[0], x(start + MINUTE_MS) - x(start), _VOLUME[1] - _PRICE[0], _MARK, opacity=0.18)


def _trigger(svg: Svg, snapshot: Snapshot, x: _Scale, price: _Scale) -> None:
    """A triangle at the price, pointing the way, and the moment beside it."""
    start = snapshot.at_ms - snapshot.at_ms % MINUTE_MS
    at_x = x(start + MINUTE_MS / 2)
    own = next((bar for bar in snapshot.bars if bar.open_ms == start), snapshot.bars[-1])
    value = snapshot.price if snapshot.price is not None and isfinite(snapshot.price) else own.close
    at_y = min(max(price(value), _PRICE[0]), _PRICE[1])
    svg.line(_LEFT, at_y, _RIGHT, at_y, _MARK, width=0.8, dash="2 3")
    if snapshot.direction == "DOWN":
        tip = price(own.high) - 4
        svg.polygon([(at_x - 7, tip - 12), (at_x + 7, tip - 12), (at_x, tip)], _MARK)
    else:
        tip = price(own.low) + 4
        svg.polygon([(at_x - 7, tip + 12), (at_x + 7, tip + 12), (at_x, tip)], _MARK)
    right = at_x > WIDTH / 2
    words = f"{_time(snapshot.at_ms, seconds=True)} UTC  {brief(value)}"
    svg.text(
        at_x - 14 if right else at_x + 14, _PRICE[0] - 4, words, _MARK, size=13, anchor="end" if right else "start"
    )


def _time(ms: float, *, seconds: bool = False) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%H:%M:%S" if seconds else "%H:%M")


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%Y-%m-%d")
