"""Refuses settings that are well-typed but cannot be used, or not together: one function a section."""

from __future__ import annotations

import re
from typing import NoReturn

from shared.errors import ConfigurationError
from shared.settings import Settings
from shared.settings_ranges import OUTBOX_KEPT_DAYS

_ENDPOINTS = {
    "email": r"[^@\s]+@[^@\s]+",
    "email-json": r"[^@\s]+@[^@\s]+",
    "sms": r"\+[1-9][0-9]{6,14}",
    "https": r"https://\S+",
    "sqs": r"arn:aws[a-z-]*:sqs:[a-z0-9-]+:[0-9]{12}:\S+",
}
_ATTRIBUTES = ("detector", "symbol", "sector", "direction", "severity")
_RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
_FARGATE_GB = {256: (0.5, 1, 2), 512: (1, 2, 3, 4), 1024: tuple(range(2, 9)), 2048: tuple(range(4, 17))}


def check(settings: Settings) -> None:
    """Refuse values that are well-typed but cannot work together.

    Raises:
        ConfigurationError: names the setting and what it may be.
    """
    for part in (_universe, _exchange, _trades_and_books, _sector, _windows_and_pumps, _alerts, _running, _aws):
        part(settings)


def _refuse(path: str, must: str) -> NoReturn:
    raise ConfigurationError(f"{path} {must}")


def _positive(path: str, value: float) -> None:
    if not value > 0:
        _refuse(path, f"must be greater than 0, is {value}")


def _share(path: str, value: float) -> None:
    if not 0 < value <= 1:
        _refuse(path, f"must lie in (0, 1], is {value}")


def _universe(settings: Settings) -> None:
    for symbol in settings.universe.spot_symbols:
        if not symbol or len(symbol) > 40 or not symbol.isprintable():
            _refuse("universe.spot_symbols", f"holds {symbol!r}, which is no symbol")
    seen: dict[str, str] = {}
    for sector, symbols in settings.sectors.items():
        for symbol in symbols:
            if not symbol or len(symbol) > 40 or not symbol.isprintable():
                _refuse(f"universe.sectors.{sector}", f"holds {symbol!r}, which is no symbol")
            if symbol in seen:
                _refuse(f"universe.sectors.{sector}", f"repeats {symbol}, which already stands in {seen[symbol]}")
            seen[symbol] = sector


def _exchange(settings: Settings) -> None:
    for path, schemes, url in (
        ("exchange.spot_rest_url", ("http://", "https://"), settings.exchange.spot_rest_url),
        ("exchange.futures_rest_url", ("http://", "https://"), settings.exchange.futures_rest_url),
        ("exchange.spot_ws_url", ("ws://", "wss://"), settings.exchange.spot_ws_url),
        ("exchange.futures_ws_url", ("ws://", "wss://"), settings.exchange.futures_ws_url),
    ):
        if not url.startswith(schemes):
            _refuse(path, f"must begin with {' or '.join(schemes)}, is {url!r}")
    trades_url = settings.exchange.spot_trades_url
    if trades_url and not trades_url.startswith(("http://", "https://")):
        _refuse("exchange.spot_trades_url", f"must begin with http:// or https://, or be empty, is {trades_url!r}")
    _positive("exchange.request_timeout_s", settings.exchange.request_timeout_s)
    _positive("exchange.max_connections", settings.exchange.max_connections)
    _share("exchange.weight_share", settings.exchange.weight_share)


def _trades_and_books(settings: Settings) -> None:
    _positive("volume_spike.threshold", settings.volume_spike.threshold)
    _positive("volume_spike.ma_bars", settings.volume_spike.ma_bars)
    _share("volume_spike.rarity_max", settings.volume_spike.rarity_max)
    _positive("trade_spike.window_trades", settings.trade_spike.window_trades)
    _positive("trade_spike.multiple", settings.trade_spike.multiple)
    _positive("trade_spike.burst_gap_s", settings.trade_spike.burst_gap_s)
    _share("trade_spike.alert_rarity_max", settings.trade_spike.alert_rarity_max)
    if not 1 <= settings.order_book.levels <= 1000:
        _refuse("order_book.levels", f"must lie in 1..1000, is {settings.order_book.levels}")
    _positive("order_book.interval_seconds", settings.order_book.interval_seconds)
    _share("order_book.alert_threshold", settings.order_book.alert_threshold)
    _positive("order_book.alert_samples", settings.order_book.alert_samples)
    if settings.order_book.alert_release > settings.order_book.alert_threshold:
        _refuse("order_book.alert_release", "must not exceed order_book.alert_threshold")


def _sector(settings: Settings) -> None:
    windows, thresholds = settings.sector.windows, settings.sector.thresholds
    for name in ("zscore_lookback_bars", "beta_lookback_bars", "return_bars", "beta_return_bars", "min_beta_pairs"):
        _positive(f"sector.windows.{name}", getattr(windows, name))
    for name in ("min_zscore_bars", "taker_bars", "diffusion_minutes"):
        _positive(f"sector.windows.{name}", getattr(windows, name))
    _share("sector.windows.min_coverage", windows.min_coverage)
    if windows.min_zscore_bars > windows.zscore_lookback_bars:
        _refuse("sector.windows.min_zscore_bars", "must not exceed sector.windows.zscore_lookback_bars")
    if windows.beta_lookback_bars % windows.beta_return_bars:
        _refuse("sector.windows.beta_lookback_bars", "must be a multiple of sector.windows.beta_return_bars")
    if not 0.5 <= thresholds.taker_dominance_min <= 1:
        _refuse("sector.thresholds.taker_dominance_min", f"must lie in 0.5..1, is {thresholds.taker_dominance_min}")
    _share("sector.thresholds.sector_share_min", thresholds.sector_share_min)
    for name in ("market_wide_share", "diffusion_p_max"):
        if (value := getattr(settings.sector, name)) is not None:
            _share(f"sector.{name}", value)
    if settings.sector.budget_per_day is not None:
        _positive("sector.budget_per_day", settings.sector.budget_per_day)
    _positive("sector.thresholds.sector_k_min", thresholds.sector_k_min)


def _windows_and_pumps(settings: Settings) -> None:
    anomaly = settings.window_anomaly
    for name in ("window_seconds", "trees", "refit_every", "calibration_scores", "calibration_min"):
        _positive(f"window_anomaly.{name}", getattr(anomaly, name))
    if anomaly.first_fit < 2 or anomaly.buffer < 2:
        _refuse("window_anomaly.first_fit", "and window_anomaly.buffer must be at least 2")
    _share("window_anomaly.smoothing", anomaly.smoothing)
    if anomaly.calibration_min > anomaly.calibration_scores:
        _refuse("window_anomaly.calibration_min", "must not exceed window_anomaly.calibration_scores")
    if not 0 < anomaly.alert_rate < 1:
        _refuse("window_anomaly.alert_rate", f"must lie in (0, 1), is {anomaly.alert_rate}")
    if not 0 < settings.pump.threshold < 1:
        _refuse("pump.threshold", f"must lie in (0, 1), is {settings.pump.threshold}")
    for name in ("mean_hours", "history_hours"):
        _positive(f"pump.{name}", getattr(settings.pump, name))
    for path, least in (
        ("pump.pause_minutes", settings.pump.pause_minutes),
        ("pump.warmup_hours", settings.pump.warmup_hours),
        ("volume_spike.alert_surprise_min", settings.volume_spike.alert_surprise_min),
        ("trade_spike.alert_record_hours", settings.trade_spike.alert_record_hours),
        ("window_anomaly.alert_record_hours", anomaly.alert_record_hours),
    ):
        if not 0 <= least < float("inf"):
            _refuse(path, f"must be 0 or more, is {least}")


def _alerts(settings: Settings) -> None:
    for name in ("cooldown_minutes_per_symbol", "direction_swap_grace_minutes", "max_age_minutes"):
        if getattr(settings.alerts, name) < 0:
            _refuse(f"alerts.{name}", "must not be negative")
    dead_hours, kept_days = settings.alerts.dead_after_hours, settings.storage.retention_days
    _positive("alerts.dead_after_hours", dead_hours)
    if dead_hours >= OUTBOX_KEPT_DAYS * 24:  # a row that expires first is given up without a word
        _refuse("alerts.dead_after_hours", f"must be less than {OUTBOX_KEPT_DAYS * 24}, is {dead_hours:g}")
    if 0 < kept_days * 24 < dead_hours:
        _refuse("alerts.dead_after_hours", f"must not exceed storage.retention_days ({kept_days:g} days)")
    _positive("alerts.storm.notifications", settings.alerts.storm.notifications)
    _positive("alerts.storm.window_seconds", settings.alerts.storm.window_seconds)
    telegram, webhook = settings.alerts.telegram, settings.alerts.webhook
    if telegram.enabled and telegram.chat_id is None:
        _refuse("alerts.telegram.chat_id", "must be set while alerts.telegram.enabled is true")
    if not telegram.api_url.startswith(("http://", "https://")):
        _refuse("alerts.telegram.api_url", "must begin with http:// or https://")
    if webhook.enabled and not (webhook.url or "").startswith(("http://", "https://")):
        _refuse("alerts.webhook.url", "must begin with http:// or https:// while alerts.webhook.enabled is true")
    if not 0 < webhook.timeout_s <= 12:
        _refuse("alerts.webhook.timeout_s", f"must lie in (0, 12], is {webhook.timeout_s}")


def _running(settings: Settings) -> None:
    if not 0 <= settings.api.port <= 65535:
        _refuse("api.port", f"must lie in 0..65535, is {settings.api.port}")
    _positive("streamer.shards", settings.streamer.shards)
    if not 0 <= settings.streamer.flush_seconds <= 600:
        _refuse("streamer.flush_seconds", f"must lie in 0..600, is {settings.streamer.flush_seconds}")
    if not 1 <= settings.streamer.lease_seconds <= 300:
        _refuse("streamer.lease_seconds", f"must lie in 1..300, is {settings.streamer.lease_seconds}")
    if not 0 <= settings.streamer.shard_index < settings.streamer.shards:
        _refuse("streamer.shard_index", f"must lie in 0..{settings.streamer.shards - 1}")


def _aws(settings: Settings) -> None:
    aws = settings.aws
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,99}", aws.stack_name):
        _refuse(
            "aws.stack_name", f"must be letters, digits and hyphens, beginning with a letter, is {aws.stack_name!r}"
        )
    if aws.region is not None and not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-[0-9]", aws.region):
        _refuse("aws.region", f"must be a region such as eu-central-1, is {aws.region!r}")
    if aws.log_retention_days not in _RETENTIONS:
        _refuse("aws.log_retention_days", f"must be one of {', '.join(map(str, _RETENTIONS))}")
    for number, subscription in enumerate(aws.subscriptions):
        path = f"aws.subscriptions[{number}]"
        if not re.fullmatch(_ENDPOINTS[subscription.protocol], subscription.endpoint):
            _refuse(f"{path}.endpoint", f"is not an address for {subscription.protocol}: {subscription.endpoint!r}")
        for name, values in subscription.filter.items():
            if name not in _ATTRIBUTES:
                _refuse(f"{path}.filter", f"knows {', '.join(_ATTRIBUTES)}, not {name!r}")
            if not values:
                _refuse(f"{path}.filter.{name}", "names no value that may pass")
    for number, address in enumerate(aws.alarm_emails):
        if not re.fullmatch(_ENDPOINTS["email"], address):
            _refuse(f"aws.alarm_emails[{number}]", f"is not an e-mail address: {address!r}")
    if aws.streamer.cpu not in _FARGATE_GB:
        _refuse("aws.streamer.cpu", f"must be one of {', '.join(map(str, _FARGATE_GB))}, is {aws.streamer.cpu}")
    sizes = [round(size * 1024) for size in _FARGATE_GB[aws.streamer.cpu]]
    if aws.streamer.memory_mb not in sizes:
        _refuse("aws.streamer.memory_mb", f"must be one of {', '.join(map(str, sizes))} at cpu {aws.streamer.cpu}")
    token = settings.api.token_sha256
    if token is not None and not re.fullmatch(r"[0-9a-f]{64}", token):
        _refuse("api.token_sha256", "must be 64 hexadecimal digits: the SHA-256 of the token, not the token")
