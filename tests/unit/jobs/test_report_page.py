"""The report as a page: self-contained, without scripts, bounded, and outside text is only ever text."""

from __future__ import annotations

import html
import json
from html.parser import HTMLParser

import pytest
from fakes import START_MS, FakeWorld, make_bar

from shared.clock import HOUR_MS, MINUTE_MS
from shared.detection.reading import Detector, Direction, Signal
from shared.jobs.common import bars_of, features_of
from shared.jobs.report_extras import full_report
from shared.jobs.report_html import MAX_BYTES, render
from shared.market.model import Market
from shared.pictures.plots import PAGE, PRINT, Mark, histogram, price_plot, ticks
from shared.storage.signals import SignalRepository
from shared.storage.windows import WindowRepository

END_MS = START_MS + 6 * HOUR_MS
HOSTILE = "<img src=x onerror=alert(1)>\u202e\"'&</pre>"


class Tags(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


def signal(minute: int, symbol: str, detector: Detector = Detector.WINDOW_ANOMALY) -> Signal:
    at_ms = START_MS + minute * MINUTE_MS
    return Signal(detector, Market.SPOT, symbol, at_ms, at_ms, {"score": -0.3, "word": HOSTILE}, {"score": -0.2},
                  direction=Direction.DOWN if minute % 2 else None, strength=2.0)  # fmt: skip


def told(world: FakeWorld, *signals: Signal) -> None:
    for one in signals:
        world.clock.set(one.known_ms)
        world.deps.alerts.handle(one)


@pytest.fixture
def busy(world: FakeWorld) -> FakeWorld:
    told(world, signal(10, "BTCUSDT"), signal(75, "BTCUSDT"), signal(80, "BTCUSDT"), signal(81, HOSTILE))
    for minute in range(360):
        at_ms = START_MS + minute * MINUTE_MS
        if minute != 200:
            bar = make_bar("BTCUSDT", at_ms, market=Market.SPOT, close=100 + minute % 7)
            bars_of(world.deps).put_minute(Market.SPOT, at_ms, {"BTCUSDT": bar})
    row = {"symbol": "XMRUSDT", "status": "normal", "z_excess_return": 3.4, "z_volume": -2.1, "taker_buy_share": 0.7,
           "beta": 0.8, "r_15m": 0.01, "bars": 720, "open_time": "x"}  # fmt: skip
    features_of(world.deps).put(END_MS - MINUTE_MS, {"XMRUSDT": row})
    WindowRepository(world.table).put_many(
        {
            "market": "spot", "symbol": "BTCUSDT", "start_ms": START_MS + n * 20_000,
            "end_ms": START_MS + n * 20_000 + 20_000, "trade_count": 3, "volume": 1.0, "avg_trade_size": 0.3,
            "return": 0.001 * (1 + (n % 50 == 1)), "volatility": 0.1, "complete": True,
            "score": 0.1 - 0.3 * (n % 50 == 0), "threshold": -0.1, "prediction": -1 if n % 50 == 0 else 1,
            "status": "normal",
        }
        for n in range(900)
    )  # fmt: skip
    world.clock.set(END_MS)
    return world


def test_the_page_shows_what_happened(busy: FakeWorld) -> None:
    report, charts = full_report(busy.deps, since_ms=START_MS, until_ms=END_MS)
    assert [(one.symbol, len(one.bars), len(one.alerts)) for one in charts] == [("BTCUSDT", 359, 2)]
    page = render(report, charts)
    seen = Tags(page)
    for words in (
        "3 alerts", "window anomaly", "cooldown 1", "Alerts per hour", "BTCUSDT (spot), 2 alerts", "XMRUSDT", "3.40",
        "18 anomalies of 900", "2.00 %", "threshold -0.1000", "Lift", "Minutes and gaps",
    ):  # fmt: skip
        assert words in seen.words, words
    assert seen.tags.count("svg") == 2
    assert 'class="u3">3.40' in page
    assert '<span class="bad">1</span>' in page  # the missing minute
    assert "prefers-color-scheme:dark" in page
    assert report["windows"]["BTCUSDT"]["lift"]["1m"]["lift"] > 1
    by_hour = report["by_time"]["alerts"]["window_anomaly"]
    assert (by_hour, len(report["by_time"]["times"])) == ([1, 2, 0, 0, 0, 0], 6)


def test_it_is_self_contained_and_outside_text_is_only_text(busy: FakeWorld) -> None:
    page = render(*full_report(busy.deps, since_ms=START_MS, until_ms=END_MS))
    seen = Tags(page)
    assert "script" not in seen.tags
    assert "img" not in seen.tags
    assert "link" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "href")]
    assert "onerror" in seen.words  # shown, as words
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert len(page.encode()) < MAX_BYTES


def test_the_json_can_be_read_back(busy: FakeWorld) -> None:
    report, charts = full_report(busy.deps, since_ms=START_MS, until_ms=END_MS)
    page = render(report, charts)
    embedded = page.partition('<pre id="report-json">')[2].partition("</pre>")[0]
    assert json.loads(html.unescape(embedded)) == json.loads(json.dumps(report))


def test_a_page_stays_under_a_megabyte_whatever_happened(world: FakeWorld) -> None:
    repository = SignalRepository(world.table)
    for n in range(3000):
        repository.put(signal(n % 300, f"C{n}USDT", Detector.SECTOR_DIFFUSION), None)
    world.clock.set(END_MS)
    report, charts = full_report(world.deps, since_ms=START_MS, until_ms=END_MS)
    page = render(report, charts)
    assert len(report["events"]) == 3000
    assert len(page.encode()) < MAX_BYTES
    assert "not_embedded" in page
    assert "2800 older alerts" in page


def test_outcomes_stand_beside_random_moments(busy: FakeWorld) -> None:
    report, charts = full_report(busy.deps, since_ms=START_MS, until_ms=END_MS)
    figures = {"5m": {"mean": 0.0012}, "15m": {"mean": None}, "60m": {"mean": -0.004}}
    one = {"alerts": 3, "after": figures, "random": {"60m": {"mean": 0.0001}}, "lift": {"60m": 2.25}}
    page = render({**report, "outcomes": {"window_anomaly": one}}, charts)
    assert "<td>3</td><td>0.12 %</td><td>– %</td><td>-0.40 %</td><td>0.01 %</td><td>2.25</td>" in page


def test_an_empty_time_says_so(world: FakeWorld) -> None:
    world.clock.set(END_MS)
    page = render(*full_report(world.deps, since_ms=START_MS, until_ms=END_MS))
    assert "No rule fired in this time." in page
    assert "<svg" not in page


def test_plots_are_whole_documents_in_either_palette() -> None:
    from xml.etree import ElementTree

    bars = [make_bar(HOSTILE, START_MS + n * MINUTE_MS, close=100 + n) for n in range(2000)]
    drawn = price_plot(bars, [Mark(START_MS + 5 * MINUTE_MS, "V"), Mark(START_MS, "I", below=True)], HOSTILE, PRINT)
    root = ElementTree.fromstring(drawn)
    assert {one.tag.rpartition("}")[2] for one in root.iter()} == {
        "svg", "title", "rect", "line", "text", "path", "polygon",
    }  # fmt: skip
    assert len(drawn) < 60_000
    assert "var(" not in drawn
    assert "var(--up)" in price_plot(bars, [], "x", PAGE)
    one = price_plot(bars[:1], [], "one bar")
    assert "nan" not in one.lower()
    for edges, counts in (([0.0, 1.0], [5]), ([-1.0, 0.0, 1.0], [0, 0])):
        assert "<svg" in histogram(edges, counts, "h", threshold=0.5)
    with pytest.raises(ValueError, match="bars"):
        price_plot([], [], "none")
    with pytest.raises(ValueError, match="edge"):
        histogram([0.0], [1], "h")


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (61_000.0, 61_900.0), (1e-8, 3e-8), (-5.0, 5.0)])
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high, 4)
    assert 2 <= len(found) <= 6
    assert all(low <= value <= high * (1 + 1e-9) for value in found)
    assert ticks(1.0, 1.0, 4) == []


def test_a_picture_carries_its_text() -> None:
    pytest.importorskip("resvg_py")
    from shared.pictures.png import png_of

    drawn = histogram([0.0, 0.5, 1.0], [3, 9], "h", PRINT, threshold=0.25)
    with_words = png_of(drawn)
    assert with_words.startswith(b"\x89PNG")
    assert png_of(drawn) == with_words  # the same picture twice is the same file
    assert png_of(drawn.replace("threshold 0.2500", "")) != with_words
