"""A configuration is data from outside: refused with its path, or used with its origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.detection.reading import Detector
from shared.errors import ConfigurationError
from shared.settings import Settings
from shared.settings_loader import MAX_BYTES, load_settings, parse_settings
from shared.settings_ranges import DETECTORS


def write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "tapewatch.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_defaults_are_those_of_the_specification() -> None:
    settings = Settings()
    assert settings.volume_spike.threshold == 2.0
    assert (settings.trade_spike.window_trades, settings.trade_spike.multiple) == (200, 10.0)
    assert settings.sector.windows.zscore_lookback_bars == 720
    assert settings.sector.windows.beta_lookback_bars == 240
    assert settings.futures_symbols == ("BTCUSDT", "ZECUSDT", "DASHUSDT", "XMRUSDT")
    assert settings.exchange.spot_rest_url == "https://data-api.binance.vision"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("exchange: {foo: 1}", "exchange.foo: unknown key"),
        ("nonsense: 1", "nonsense: unknown key"),
        ("universe: {spot_symbols: [BTCUSDT, 1]}", "universe.spot_symbols[1]: expected `str`"),
        ("api: {port: soon}", "api.port: expected `int`"),
        ("a: &x 1\nb: *x", "line 2: aliases are not allowed"),
        ("api:\n  port: 1\n  port: 2", "line 3: the key 'port' is given twice"),
        ("api: [1", "line 2: did not find expected ',' or ']'"),
        ("just words", "expected sections"),
        ("api: {port: 70000}", "api.port must lie in 0..65535"),
        ("universe: {sectors: {A: [X], B: [X]}}", "universe.sectors.B repeats X, which already stands in A"),
        ("exchange: {spot_trades_url: 'ftp://x'}", "exchange.spot_trades_url must begin with http:// or https://"),
        ("exchange: {spot_ws_url: 'http://x'}", "exchange.spot_ws_url must begin with ws:// or wss://"),
        ("volume_spike: {threshold: 0}", "volume_spike.threshold must be greater than 0"),
        ("volume_spike: {threshold: .nan}", "volume_spike.threshold must be greater than 0"),
        ("sector: {windows: {min_zscore_bars: 1000}}", "must not exceed sector.windows.zscore_lookback_bars"),
        ("window_anomaly: {alert_rate: 1.5}", "window_anomaly.alert_rate must lie in (0, 1)"),
        ("alerts: {max_age_minutes: .nan}", "alerts.max_age_minutes must be a number of ordinary size"),
        ("alerts: {max_age_minutes: 0}", "alerts.max_age_minutes must be greater than 0"),
        ("alerts: {cooldown_minutes: {trade_spikes: 10}}", "alerts.cooldown_minutes.trade_spikes: no such detector"),
        ("alerts: {cooldown_minutes: {trade_spike: -1}}", "alerts.cooldown_minutes.trade_spike must not be negative"),
        ("alerts: {channels: [pager]}", "alerts.channels: no channel 'pager'; known: console, sns, telegram, webhook"),
        ("streamer: {watchdog_seconds: 0}", "streamer.watchdog_seconds must be greater than 0"),
        ("storage: {retention_days: -1}", "storage.retention_days must not be negative"),
        ("sector: {thresholds: {volume_z_follower: -2}}", "volume_z_follower must not be negative"),
        ("window_anomaly: {lateness_seconds: .inf}", "lateness_seconds must be a number of ordinary size"),
        ("alerts: {max_age_minutes: " + "9" * 5000 + "}", "ordinary size"),
        ("api: {host: 0.0.0.0}", "api.host 0.0.0.0 would answer strangers"),
        ("alerts: {telegram: {bot_token: '123456789:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'}}", "holds a token itself"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ],
)
def test_bad_files_are_refused_with_their_place(tmp_path: Path, text: str, says: str) -> None:
    """F604: unknown, repeated and wrong keys, with line or path."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(write(tmp_path, text), {})
    assert says in str(caught.value)
    assert "AAAAAAAA" not in str(caught.value)  # a refused secret is not repeated


def test_size_is_limited_and_missing_files_are_named(tmp_path: Path) -> None:
    """F604: size and nesting are bounded before anything is built."""
    with pytest.raises(ConfigurationError, match="may have 65536 at most"):
        load_settings(write(tmp_path, "#" * (MAX_BYTES + 1)), {})
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_settings(str(tmp_path / "none.yaml"), {})
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        load_settings(write(tmp_path, "a: " + "[" * 20_000), {})


def test_environment_wins_and_sources_are_known(tmp_path: Path) -> None:
    file = write(tmp_path, "universe:\n  spot_symbols: [SOLUSDT]\nvolume_spike:\n  threshold: 3\n")
    loaded = load_settings(
        file,
        {
            "TAPEWATCH_UNIVERSE__SPOT_SYMBOLS": "BTCUSDT, ETHUSDT",
            "TAPEWATCH_SECTOR__THRESHOLDS__SECTOR_K_MIN": "3",
            "TAPEWATCH_STREAMER__TRADE_KIND": "aggTrade",
            "TAPEWATCH_UNIVERSE__SECTORS": '{"Meme": ["DOGEUSDT"]}',
            "TAPEWATCH_RECORDED": "no section: not a setting",
        },
    )
    settings, sources = loaded.settings, loaded.sources
    assert settings.universe.spot_symbols == ("BTCUSDT", "ETHUSDT")
    assert sources["universe.spot_symbols"] == "TAPEWATCH_UNIVERSE__SPOT_SYMBOLS"
    assert settings.sector.thresholds.sector_k_min == 3
    assert settings.streamer.trade_kind == "aggTrade"
    assert settings.sectors == {"Meme": ("DOGEUSDT",)}
    assert (settings.volume_spike.threshold, sources["volume_spike.threshold"]) == (3.0, file)
    assert sources["order_book.levels"] == "default"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TAPEWATCH_UNIVERSE__NOPE", "1", "there is no setting universe.nope"),
        ("TAPEWATCH_API__PORT", "soon", "api.port: expected `int`"),
        ("TAPEWATCH_API__PORT__DEEPER", "1", "api.port: expected `int`"),
    ],
)
def test_bad_variables_are_refused(name: str, value: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(None, {name: value})
    assert says in str(caught.value)


def test_the_old_sector_configuration_is_accepted_under_its_sections() -> None:
    settings = parse_settings(
        {
            "sector": {
                "universe": {"benchmark_symbol": "ETHUSDT", "sector_symbols": {"Old": ["AUSDT", "BUSDT"]}},
                "windows": {"zscore_lookback_bars": 600, "beta_lookback_bars": 120},
                "thresholds": {
                    "excess_return_z_initiator": 2.5,
                    "volume_z_initiator": 2.5,
                    "taker_dominance_min": 0.6,
                    "sector_k_min": 1,
                    "sector_share_min": 0.5,
                },
            },
            "alerts": {
                "cooldown_minutes_per_symbol": 30,
                "direction_swap_grace_minutes": 5,
                "telegram": {"enabled": True, "bot_token": "MY_TOKEN_NAME", "chat_id": -100123},
            },
        }
    )
    assert settings.futures_symbols == ("ETHUSDT", "AUSDT", "BUSDT")
    assert settings.sector.thresholds.taker_dominance_min == 0.6
    assert settings.alerts.cooldown_minutes_per_symbol == 30.0
    assert settings.alerts.telegram.chat_id == -100123


def test_settings_cannot_be_changed_after_reading() -> None:
    with pytest.raises(AttributeError):
        Settings().api.port = 1  # type: ignore[misc]


def test_every_detector_may_have_its_cooldown() -> None:
    assert set(DETECTORS) == {one.value for one in Detector}
    assert len(DETECTORS) == len(Detector)
    parse_settings({"alerts": {"cooldown_minutes": {"market_wide": 30}}})


@pytest.mark.parametrize(
    ("hours", "days", "says"),
    [(168, 14, "less than 168"), (25, 1, "storage.retention_days"), (167, 6, "storage.retention_days")],
)
def test_what_is_pending_is_given_up_before_its_row_expires(hours: float, days: float, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"alerts.dead_after_hours.*{says}"):
        parse_settings({"alerts": {"dead_after_hours": hours}, "storage": {"retention_days": days}})


@pytest.mark.parametrize(("hours", "days"), [(24, 1), (167, 7), (167, 14)])
def test_the_longest_that_a_channel_may_be_down(hours: float, days: float) -> None:
    parse_settings({"alerts": {"dead_after_hours": hours}, "storage": {"retention_days": days}})


def test_only_the_named_channels_are_used() -> None:
    both = {"telegram": {"enabled": True, "chat_id": 1}, "webhook": {"enabled": True, "url": "https://x"}}
    for named, used in ((None, {"telegram", "webhook", "sns"}), (["webhook", "console"], {"webhook"}), ([], set())):
        alerts = parse_settings({"alerts": {**both, **({} if named is None else {"channels": named})}}).alerts
        assert {name for name in ("telegram", "webhook", "sns") if getattr(alerts, name).enabled} == used
        assert alerts.uses("console") == (named is None or "console" in named)
