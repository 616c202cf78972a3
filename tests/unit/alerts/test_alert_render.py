"""Texts as the specification has them, and hostile names as nothing but text."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from alert_examples import (
    EVERY_KIND,
    diffusion,
    initiator,
    order_book,
    system,
    trade_spike,
    volume_spike,
    window_anomaly,
)
from hypothesis import given
from hypothesis import strategies as st

from shared.alerts import wording
from shared.alerts.model import Alert, Severity, alert_id
from shared.alerts.render import one_line, render, sanitize, severity_of
from shared.clock import parse_utc_ms
from shared.detection.reading import Direction, Signal


def alert_of(signal: Signal, suppressed: int = 0) -> Alert:
    text = render(signal, suppressed)
    return Alert(
        alert_id=alert_id(signal),
        detector=signal.detector,
        market=signal.market,
        symbol=signal.symbol,
        sector=signal.sector,
        direction=signal.direction,
        severity=severity_of(signal),
        event_ms=signal.event_ms,
        detected_ms=signal.known_ms + 1234,
        title=text.title,
        text=text.body,
        values=signal.values,
        thresholds=signal.thresholds,
        rule_version=signal.rule_version,
        suppressed_since_last=suppressed,
    )


def test_initiator_as_specified():
    assert render(initiator()).body == (
        "🚨 SECTOR SHOT - INITIATOR\n"
        "Symbol: XMRUSDT | Direction: UP | Status: CONFIRMED\n"
        "Time: 2026-01-13 14:23:00 UTC\n"
        "Z-Scores: ER=3.2σ, VOL=3.8σ\n"
        "Taker Buy Share: 68.5%\n"
        "Beta: 0.85 | Funding: +0.12%\n"
        "Confirmations: OI_Δ=2.3σ, Liq=unknown"
    )


def test_initiator_downwards_with_nothing_known():
    signal = initiator(
        direction=Direction.DOWN,
        z_excess_return=-3.16,
        taker_buy_share=0.315,
        beta=-0.0001,
        funding_rate=None,
        status="UNCONFIRMED",
        confirmations={"open_interest": {"state": "unknown", "z": None}, "liquidations": {"state": "unknown"}},
    )
    assert render(signal).body.splitlines()[1:] == [
        "Symbol: XMRUSDT | Direction: DOWN | Status: UNCONFIRMED",
        "Time: 2026-01-13 14:23:00 UTC",
        "Z-Scores: ER=-3.2σ, VOL=3.8σ",
        "Taker Buy Share: 31.5%",
        "Beta: 0.00 | Funding: unknown",
        "Confirmations: OI_Δ=unknown, Liq=unknown",
    ]


def test_a_known_source_is_never_called_unknown():
    sources = {"open_interest": {"state": "not_confirmed", "z": -0.04}, "liquidations": {"state": "not_confirmed"}}
    lines = render(initiator(confirmations=sources, funding_rate=-0.00015)).body.splitlines()
    assert lines[-1] == "Confirmations: OI_Δ=0.0σ, Liq=not confirmed"
    assert lines[-2] == "Beta: 0.85 | Funding: -0.01%"


def test_diffusion_as_specified():
    assert render(diffusion()).body == (
        "🎯 SECTOR DIFFUSION DETECTED\n"
        "Initiator: XMRUSDT (UP) at 2026-01-13 14:23:00 UTC\n"
        "Followers (2/2 = 100%):\n"
        "  • ZECUSDT: ER_z=2.4σ, VOL_z=2.1σ\n"
        "  • DASHUSDT: ER_z=2.8σ, VOL_z=2.5σ"
    )
    as_ms = diffusion(initiator_time=parse_utc_ms("2026-01-13T14:23:00Z"), followers_count=2, others=5, share=0.4)
    assert render(as_ms).body.splitlines()[1:3] == [
        "Initiator: XMRUSDT (UP) at 2026-01-13 14:23:00 UTC",
        "Followers (2/5 = 40%):",
    ]


def test_the_other_texts():
    assert render(volume_spike()).body == (
        "📈 VOLUME SPIKE\n"
        "Symbol: BTCUSDT | Market: spot\n"
        "Time: 2026-01-13 12:00:00 UTC\n"
        "Volume: 123.45 = 5.2x the mean of 23.74 (threshold 2.0x)\n"
        "Rarity: 0.40% of this minute's history"
    )
    assert render(trade_spike()).body == (
        "🐋 TRADE SPIKE\n"
        "Symbol: BTCUSDT | Taker: BUY\n"
        "Time: 2026-01-13 12:00:00 UTC\n"
        "Trade: 12.5 at 43000.1 = 537500 quote\n"
        "Size: 23.4x the mean of 0.53419 over 200 trades (threshold 10.0x)"
    )
    assert render(order_book()).body == (
        "⚖️ ORDER BOOK IMBALANCE\n"
        "Symbol: ETHUSDT | Direction: DOWN | Market: spot\n"
        "Time: 2026-01-13 12:00:00 UTC\n"
        "Imbalance: -0.72 over 5 levels (threshold 0.60, 3 samples in a row)\n"
        "Bids: 10500 | Asks: 64800"
    )
    assert render(window_anomaly()).body == (
        "🔍 WINDOW ANOMALY\n"
        "Symbol: BTCUSDT | Market: spot\n"
        "Time: 2026-01-13 12:00:00 UTC\n"
        "Score: -0.712 (threshold -0.654, alert rate 0.50%)\n"
        "Trades: 1312 | Volume: 45.1 | Mean size: 0.034375\n"
        "Return: -0.31% | Volatility: 12.346"
    )
    assert render(system(cure="check the network")).body.splitlines()[-2:] == [
        "The spot feed is silent for 12 s",
        "What to do: check the network",
    ]


def test_what_was_held_back_is_the_last_line():
    body = render(initiator(), 7, parse_utc_ms("2026-01-13T14:20:00Z")).body
    assert body.splitlines()[-1] == "7 more held since 2026-01-13 14:20:00 UTC"


@pytest.mark.parametrize(
    ("signal", "severity"),
    [
        (initiator(), Severity.CRITICAL),
        (initiator(status="PARTIAL"), Severity.WARNING),
        (initiator(status="UNCONFIRMED"), Severity.INFO),
        (diffusion(), Severity.WARNING),
        (volume_spike(strength=3.0), Severity.CRITICAL),
        (volume_spike(strength=1.5), Severity.WARNING),
        (volume_spike(strength=1.49), Severity.INFO),
        (system(), Severity.CRITICAL),
        (system(severity="loud"), Severity.WARNING),
    ],
)
def test_severity(signal, severity):
    assert severity_of(signal) is severity


def test_one_line_holds_time_kind_symbol_numbers_and_thresholds():
    assert one_line(alert_of(volume_spike())) == (
        "2026-01-13 12:00:00 UTC [warning] volume_spike BTCUSDT: ratio=5.2 volume_current=123.45 ma20=23.74 "
        "rarity=0.004 | threshold threshold=2 ma_bars=20 gate=both rarity_max=0.01"
    )
    for example in EVERY_KIND:
        line = one_line(alert_of(example(), suppressed=3))
        signal = example()
        assert "\n" not in line
        assert signal.detector.value in line
        assert signal.symbol in line
        assert all(name in line for name in signal.thresholds)
        assert line.endswith("(+3 held)")


# --- hostile input -----------------------------------------------------------------------------------------------
HOSTILE = [
    "<b>x</b>",
    "a\u202eb",
    "a\nb\r\x1b[31m",
    "x" * 10_000,
    "\x00",
    "🚀",
    "测试币456",
    "BTCUSDT_260327",
    "",
    "\u2028",
]
names = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=200))
oddities = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(), names, st.lists(st.none()), st.just({}), st.just(10**400)
)


def harmless(text: str) -> bool:
    return not any(
        unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and sign not in "\n\ufe0f\u200d"
        for sign in text
    )


@given(names, names, st.sampled_from(EVERY_KIND))
def test_outside_names_add_no_line_and_no_control_character(name, sector, example):
    plain = example()
    values = {key: name if isinstance(value, str) else value for key, value in plain.values.items()}
    signal = replace(plain, symbol=name, sector=sector, values=values)
    text = render(signal)
    assert len(text.body.splitlines()) == len(render(plain).body.splitlines())
    assert harmless(text.body)
    assert harmless(text.title)
    assert "\n" not in text.title
    assert "\n" not in one_line(alert_of(signal))
    assert harmless(one_line(alert_of(signal)))
    assert not text.body.startswith((" ", "\t", "\n"))


@given(st.data(), st.sampled_from(EVERY_KIND))
def test_whatever_stands_in_the_values_a_text_comes_out(data, example):
    plain = example()
    values = {key: data.draw(oddities) for key in plain.values}
    thresholds = {key: data.draw(oddities) for key in plain.thresholds}
    signal = replace(plain, values=values, thresholds=thresholds)
    text = render(signal)
    assert text.body
    assert "nan" not in text.body.lower().replace("binance", "") or any(
        "nan" in str(v).lower() for v in values.values()
    )
    assert harmless(text.body)
    assert one_line(alert_of(signal))


@given(st.text())
def test_sanitize_changes_nothing_twice_and_keeps_its_limit(text):
    once = sanitize(text)
    assert sanitize(once) == once
    assert len(once) <= 64
    assert harmless(once)
    assert "\n" not in once


def test_sanitize_keeps_ordinary_names():
    for name in ("BTCUSDT", "BTCUSDT_260327", "测试币456", "🚀", "a b", "1000SHIBUSDT"):
        assert sanitize(name) == name


@given(st.text(), st.integers(1, 120))
def test_ascii_line_is_printable_ascii(text, limit):
    line = wording.ascii_line(text, limit)
    assert len(line) <= limit
    assert all(" " <= sign <= "~" for sign in line)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00001234, "0.00001234"), (1e-8, "0.00000001"), (43000.10, "43000.1"), (0.0, "0"), (1e20, "1e+20"), (7, "7")],
)
def test_decimals_as_the_exchange_writes_them(value, text):
    assert wording.decimal(value) == text


def test_times():
    assert wording.moment(1768314180123) == "2026-01-13 14:23:00.123 UTC"
    assert wording.moment("2026-01-13T16:23:00+02:00") == "2026-01-13 14:23:00 UTC"
    for nonsense in (None, "soon", 10**30, float("nan"), True, []):
        assert wording.moment(nonsense) == "unknown"
