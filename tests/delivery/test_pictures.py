"""The chart: compared with a golden picture, from stored bars only, harmless for every name."""

from __future__ import annotations

import math
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import numpy as np
from alert_examples import NOON_MS, system, trade_spike, volume_spike
from fakes import FakeMarketData, make_bar
from hypothesis import given
from hypothesis import strategies as st
from test_alert_render import alert_of

from shared.clock import MINUTE_MS, ManualClock
from shared.detection.reading import Direction
from shared.market.model import Market
from shared.pictures.chart import HEIGHT, WIDTH, chart
from shared.pictures.drawing import Drawing
from shared.pictures.png import FONT, png_of
from shared.pictures.snapshot import Snapshot, SnapshotBar, make_snapshot
from shared.pictures.svg import drawable
from shared.storage.bars import BarRepository
from shared.storage.sqlite import SqliteTable

GOLDEN = Path(__file__).resolve().parent / "golden"


def snapshot(symbol: str = "BTCUSDT", direction: str | None = "UP") -> Snapshot:
    bars = []
    price = 43_000.0
    for minute in range(120):
        before, trigger = price, minute == 119
        price *= 1 + 0.0007 * math.sin(minute * 0.7) + 0.0005 * math.cos(minute * 2.3) + (0.004 if trigger else 0)
        volume = (20 + 9 * math.sin(minute * 1.3) + 6 * math.cos(minute * 0.4)) * (5 if trigger else 1)
        high, low = max(before, price) * 1.0004, min(before, price) * 0.9996
        bars.append(SnapshotBar(NOON_MS + (minute - 119) * MINUTE_MS, before, high, low, price, volume))
    return Snapshot(symbol, f"Volume spike: {symbol} 5.2x", NOON_MS, None, direction, tuple(bars))


def pixels(png: bytes) -> np.ndarray:
    """Decode an 8-bit RGB(A) PNG: enough to compare two pictures without a library for it."""
    assert png.startswith(b"\x89PNG")
    at, data = 8, b""
    width = height = channels = 0
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        body = png[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", body[:10])
            assert depth == 8
            channels = {2: 3, 6: 4}[color]
        elif kind == b"IDAT":
            data += body
        at += 12 + size
    raw, stride = zlib.decompress(data), width * channels
    rows, before = [], bytearray(stride)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for x in range(stride):
            left = line[x - channels] if x >= channels else 0
            up, corner = before[x], before[x - channels] if x >= channels else 0
            if kind == 1:
                line[x] = (line[x] + left) & 255
            elif kind == 2:
                line[x] = (line[x] + up) & 255
            elif kind == 3:
                line[x] = (line[x] + (left + up) // 2) & 255
            elif kind == 4:
                guess = left + up - corner
                a, b, c = abs(guess - left), abs(guess - up), abs(guess - corner)
                line[x] = (line[x] + (left if a <= b and a <= c else up if b <= c else corner)) & 255
        rows.append(bytes(line))
        before = line
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(height, width, channels)[:, :, :3].astype(int)


def test_the_chart_equals_the_golden_one():
    """Byte for byte as SVG; as a picture equal to the last bit, or (another renderer's build) nearly so."""
    svg = chart(snapshot())
    assert svg == (GOLDEN / "chart.svg").read_text(encoding="utf-8"), "look at it, then write it anew"
    png, golden = png_of(svg), (GOLDEN / "chart.png").read_bytes()
    if png != golden:
        difference = np.abs(pixels(png) - pixels(golden))
        assert difference.mean() < 0.5
        assert (difference.max(axis=2) > 64).mean() < 0.002


def test_the_text_is_really_drawn():
    """Without a font, text silently vanishes: dark ink must be where the symbol stands."""
    assert FONT.is_file()
    drawn = pixels(png_of(chart(snapshot())))
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    assert (drawn[10:32, 14:130].sum(axis=2) < 200).sum() > 150


def test_a_sign_that_the_font_lacks_becomes_a_box():
    assert drawable("测试币456") == "□□□456"
    assert drawable("BTC_260327 σ €") == "BTC_260327 σ €"


@given(st.text(max_size=60), st.sampled_from([None, "UP", "DOWN", "<script>"]))
def test_f701_no_name_makes_a_tag(name, direction):
    root = ET.fromstring(chart(snapshot(name, direction)))
    kinds = {element.tag.rsplit("}", 1)[-1] for element in root.iter()}
    assert kinds <= {"svg", "title", "rect", "line", "polyline", "polygon", "text"}


@given(
    st.lists(st.floats(min_value=1e-12, max_value=1e12), min_size=10, max_size=40),
    st.one_of(st.none(), st.floats(allow_nan=True)),
)
def test_any_prices_give_a_picture(prices, price):
    bars = tuple(SnapshotBar(NOON_MS + i * MINUTE_MS, p, p, p, p, 0.0) for i, p in enumerate(prices))
    svg = chart(Snapshot("X", "t", NOON_MS + 5 * MINUTE_MS, price, None, bars))
    assert "nan" not in svg.replace("title", "")
    assert "inf" not in svg


def test_a_snapshot_holds_only_what_had_closed():
    alert = alert_of(trade_spike(NOON_MS + 30_000))
    bars = [make_bar("BTCUSDT", NOON_MS + i * MINUTE_MS, market=Market.SPOT) for i in range(-130, 5)]
    made = make_snapshot(alert, bars)
    assert made is not None
    assert all(bar.open_ms + MINUTE_MS - 1 <= alert.detected_ms for bar in made.bars)
    assert made.bars[0].open_ms == NOON_MS - 119 * MINUTE_MS
    assert made.price == 43000.1
    assert make_snapshot(alert, bars[:5]) is None


def test_the_snapshot_is_stored_and_drawn_again_the_same():
    table, clock = SqliteTable(":memory:"), ManualClock(NOON_MS + MINUTE_MS)
    market = FakeMarketData(clock)
    market.fill(Market.SPOT, "BTCUSDT", NOON_MS - 200 * MINUTE_MS, NOON_MS + MINUTE_MS)
    alert = alert_of(volume_spike())
    drawing = Drawing(table, market)
    first = drawing.svg(alert)
    market.fill(Market.SPOT, "BTCUSDT", NOON_MS - 200 * MINUTE_MS, NOON_MS - 100 * MINUTE_MS)
    assert drawing.svg(alert) == first
    assert market.calls["klines"] == 1
    assert Drawing(table).png(alert).startswith(b"\x89PNG")  # type: ignore[union-attr]
    assert drawing.png(alert_of(system())) is None


def test_stored_bars_need_no_call():
    table, clock = SqliteTable(":memory:"), ManualClock(NOON_MS)
    bars, market = BarRepository(table), FakeMarketData(clock)
    for minute in range(-119, 1):
        at_ms = NOON_MS + minute * MINUTE_MS
        bars.put_minute(Market.SPOT, at_ms, {"BTCUSDT": make_bar("BTCUSDT", at_ms, market=Market.SPOT)})
    assert Drawing(table, market).svg(alert_of(volume_spike())) is not None
    assert market.calls["klines"] == 0


def test_a_down_alert_points_down():
    up, down = chart(snapshot(direction="UP")), chart(snapshot(direction=Direction.DOWN.value))
    assert up != down
