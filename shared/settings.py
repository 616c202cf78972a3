"""One frozen tree of settings, read once at the edge and passed down in parts.

`tapewatch.yaml` says how the product behaves, the environment says where it runs. Reading and merging are in
`shared/settings_loader.py`; this file is only the tree, its defaults and its own consistency.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from shared.errors import ConfigurationError


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: immutable, and an unknown key is an error that names its path."""


class ExchangeSettings(Section, frozen=True):
    spot_rest_url: str = "https://data-api.binance.vision"
    spot_ws_url: str = "wss://data-stream.binance.vision"
    futures_rest_url: str = "https://fapi.binance.com"
    futures_ws_url: str = "wss://fstream.binance.com"
    api_key_secret: str | None = None  # the name of the secret, never the key
    request_timeout_s: float = 10.0
    weight_share: float = 0.8  # share of the exchange's weight limit that we allow ourselves, 0..1
    max_connections: int = 32  # parallel REST calls


class UniverseSettings(Section, frozen=True):
    spot_symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")
    benchmark_symbol: str = "BTCUSDT"
    sectors: Mapping[str, tuple[str, ...]] = msgspec.field(
        default_factory=lambda: {"Privacy": ("ZECUSDT", "DASHUSDT", "XMRUSDT")}
    )
    sector_symbols: Mapping[str, tuple[str, ...]] | None = None  # the old name of `sectors`
    all: str | None = None  # a quote currency: every spot pair in it, e.g. USDT
    futures_all: str | None = None  # the same for USD-M perpetuals, in the sectors of the built-in catalogue
    futures_exclude: tuple[str, ...] = ()  # symbols that `futures_all` leaves out
    futures_tradfi: bool = False  # `futures_all` takes perpetuals on stocks and commodities too


class VolumeSpikeSettings(Section, frozen=True):
    enabled: bool = True
    threshold: float = 2.0
    ma_bars: int = 20
    gate: Literal["ratio", "rarity", "both"] = "both"  # what turns a signal into an alert
    rarity_max: float = 0.01  # share of the symbol's own history at this phase of the hour, 0..1
    rarity_min_history: int = 24  # bars of the same phase needed before a rarity is stated
    alert_surprise_min: float = 5.0  # robust z of the log ratio among the same bars; 0: not asked


class TradeSpikeSettings(Section, frozen=True):
    enabled: bool = True
    window_trades: int = 200
    multiple: float = 10.0
    include_current: bool = False  # compatibility: the current trade is one of the window
    burst_gap_s: float = 60.0  # hits closer than this are one event
    alert_floor_quote: float = 0.0  # least price x quantity of an alert, in the quote currency
    alert_rarity_max: float = 0.01  # share of this symbol's earlier spike ratios that were at least this large
    alert_record_hours: float = 24.0  # the largest ratio for so long; 0: not asked


class OrderBookSettings(Section, frozen=True):
    enabled: bool = True
    levels: int = 5
    interval_seconds: int = 60
    alert_enabled: bool = False
    alert_threshold: float = 0.6
    alert_samples: int = 3
    alert_release: float = 0.5  # hysteresis: armed again once |obi| is below this


class SectorUniverse(Section, frozen=True):
    benchmark_symbol: str | None = None
    sector_symbols: Mapping[str, tuple[str, ...]] | None = None


class SectorWindows(Section, frozen=True):
    zscore_lookback_bars: int = 720
    beta_lookback_bars: int = 240
    return_bars: int = 15
    beta_return_bars: int = 5
    min_beta_pairs: int = 10
    min_zscore_bars: int = 360
    taker_bars: int = 15
    diffusion_minutes: int = 120
    min_coverage: float = 0.95  # share of the minutes of a lookback that must be there


class SectorThresholds(Section, frozen=True):
    excess_return_z_initiator: float = 3.0
    volume_z_initiator: float = 3.0
    taker_dominance_min: float = 0.65
    excess_return_z_follower: float = 2.0
    volume_z_follower: float = 2.0
    sector_k_min: int = 2
    sector_share_min: float = 0.40
    open_interest_z: float = 2.0
    liquidation_z: float = 2.0
    funding_rate_abs: float = 0.001


class SectorSettings(Section, frozen=True):
    enabled: bool = True
    universe: SectorUniverse = SectorUniverse()
    windows: SectorWindows = SectorWindows()
    thresholds: SectorThresholds = SectorThresholds()
    volume_scale: Literal["raw", "log", "log_seasonal"] = "raw"
    takers_agree: bool = False
    market_wide_share: float | None = None  # so many symbols at once are one market-wide alert, 0..1
    diffusion_p_max: float | None = None  # largest chance that so many coins would have followed anyway
    budget_per_day: int | None = None  # alerts a day that the rarest signals share
    open_interest_minutes: bool = True  # sample the open interest each minute where the weight budget allows


class WindowAnomalySettings(Section, frozen=True):
    enabled: bool = True
    window_seconds: int = 20
    lateness_seconds: float = 2.0
    trees: int = 100
    seed: int = 42
    first_fit: int = 500
    refit_every: int = 100
    buffer: int = 500
    smoothing: float = 0.3  # weight of the newest window in what the model sees, 0..1; 1: each window for itself
    alert_rate: float = 0.005
    alert_record_hours: float = 24.0  # the lowest score for so long; 0: not asked
    calibration_scores: int = 1500
    calibration_min: int = 300


class PumpSettings(Section, frozen=True):
    enabled: bool = False  # measured on thin coins against BTC; on other pairs its worth is not known
    threshold: float = 0.65  # the model's probability from which a chunk is a pump, 0..1
    pause_minutes: float = 30.0  # after an alert
    warmup_hours: float = 6.0
    mean_hours: int = 12  # what a chunk's mean is taken over
    history_hours: int = 24  # what its records are taken over


class TelegramSettings(Section, frozen=True):
    enabled: bool = False
    bot_token: str = "TELEGRAM_BOT_TOKEN"  # noqa: S105 - the name of the secret, never the token
    chat_id: str | int | None = None
    api_url: str = "https://api.telegram.org"
    allowed_chats: tuple[int, ...] = ()  # may send commands; empty: only chat_id
    commands: bool = True
    charts: bool = True
    silent_below: Literal["info", "warning", "critical"] = "warning"  # lesser alerts arrive without a sound


class WebhookSettings(Section, frozen=True):
    enabled: bool = False
    url: str | None = None
    secret: str = "TAPEWATCH_WEBHOOK_SECRET"  # noqa: S105 - the name of the secret, never the key
    timeout_s: float = 10.0


class StormSettings(Section, frozen=True):
    notifications: int = 2  # single alerts of a channel in a window; what comes beyond leaves as one digest
    window_seconds: float = 60.0


class SnsSettings(Section, frozen=True):
    enabled: bool = True
    topic_arn: str | None = None


class AlertSettings(Section, frozen=True):
    cooldown_minutes_per_symbol: float = 60.0
    direction_swap_grace_minutes: float = 15.0
    cooldown_minutes: Mapping[str, float] = msgspec.field(default_factory=dict)  # by detector, over the default
    mutes: tuple[str, ...] = ()  # symbols muted by configuration
    max_age_minutes: float = 10.0  # nothing older is sent late, except in a digest
    dead_after_hours: float = 24.0  # nothing older is sent at all
    budget_per_day: int | None = None
    channels: tuple[str, ...] = ("console",)
    storm: StormSettings = StormSettings()
    telegram: TelegramSettings = TelegramSettings()
    webhook: WebhookSettings = WebhookSettings()
    sns: SnsSettings = SnsSettings()


class StorageSettings(Section, frozen=True):
    sqlite_path: str = "tapewatch-state/tapewatch.sqlite"
    objects_path: str = "tapewatch-state/objects"
    table_name: str = "tapewatch"
    bucket_name: str | None = None
    retention_days: int = 14


class StreamerSettings(Section, frozen=True):
    trade_kind: Literal["trade", "aggTrade"] = "trade"
    watchdog_seconds: float = 5.0
    renew_hours: float = 23.8
    warmup_trades: bool = True  # fill the windows from past trades where the exchange serves them
    warmup_hours: float = 5.0
    heartbeat_seconds: float = 5.0
    lease_seconds: float = 5.0  # a streamer silent for this long is replaced by the one that stands by
    flush_seconds: float = 0.0  # closed windows are stored at once (0), or together with others after this long
    liquidations: bool = True  # sum the futures' forced orders by minute, for the sector detector
    shards: int = 1
    shard_index: int = 0


class ApiSettings(Section, frozen=True):
    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 8080
    token_secret: str | None = None
    open_reads: bool = False  # reads need no token although one is set
    public_url: str | None = None  # where the page is reached from outside; set by the deployment
    token_sha256: str | None = None  # on AWS: of the token, in hexadecimal; none: made and printed at the first synth


class AwsSubscription(Section, frozen=True):
    """One subscriber of the alert topic: an e-mail address, a phone number, an https:// address or a queue's ARN."""

    protocol: Literal["email", "email-json", "sms", "https", "sqs"]
    endpoint: str
    filter: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)  # attribute -> values that pass


class AwsStreamerSettings(Section, frozen=True):
    enabled: bool = True
    cpu: int = 256  # 1024 are one vCPU
    memory_mb: int = 512
    spot: bool = False  # Fargate Spot: about a third of the price, with interruptions
    image: str | None = None  # an image built elsewhere; none: built at deploy, as `build` says
    build: Literal["auto", "docker", "codebuild"] = "auto"  # auto: in the account where no `docker` is on the PATH


class AwsSettings(Section, frozen=True):
    region: str | None = None
    stack_name: str = "Tapewatch"
    event_bus: str | None = None  # set by the deployment; none: the account's default bus
    telegram_queue_url: str | None = None  # set by the deployment
    dead_letter_urls: tuple[str, ...] = ()  # set by the deployment: the queues of what was given up
    subscriptions: tuple[AwsSubscription, ...] = ()
    alarm_emails: tuple[str, ...] = ()
    log_retention_days: int = 14
    dashboard: bool = False  # 3 US dollars a month
    reserved_concurrency: bool = True  # off for accounts whose limit leaves nothing to reserve
    streamer: AwsStreamerSettings = AwsStreamerSettings()


class Settings(Section, frozen=True):
    exchange: ExchangeSettings = ExchangeSettings()
    universe: UniverseSettings = UniverseSettings()
    volume_spike: VolumeSpikeSettings = VolumeSpikeSettings()
    trade_spike: TradeSpikeSettings = TradeSpikeSettings()
    order_book: OrderBookSettings = OrderBookSettings()
    sector: SectorSettings = SectorSettings()
    window_anomaly: WindowAnomalySettings = WindowAnomalySettings()
    pump: PumpSettings = PumpSettings()
    alerts: AlertSettings = AlertSettings()
    storage: StorageSettings = StorageSettings()
    streamer: StreamerSettings = StreamerSettings()
    api: ApiSettings = ApiSettings()
    aws: AwsSettings = AwsSettings()

    @property
    def watches_trades(self) -> bool:
        """Some rule looks at every trade, so a streamer is needed."""
        return self.trade_spike.enabled or self.window_anomaly.enabled or self.pump.enabled

    @property
    def benchmark_symbol(self) -> str:
        """The sector detector's benchmark; the old section's word wins where it is given."""
        return self.sector.universe.benchmark_symbol or self.universe.benchmark_symbol

    @property
    def sectors(self) -> Mapping[str, tuple[str, ...]]:
        """Sector name to symbols, under whichever of its three accepted names it was given."""
        if self.sector.universe.sector_symbols is not None:
            return self.sector.universe.sector_symbols
        if self.universe.sector_symbols is not None:
            return self.universe.sector_symbols
        return self.universe.sectors

    @property
    def futures_symbols(self) -> tuple[str, ...]:
        """Every symbol that the sector detector needs bars of, the benchmark first, each once."""
        names = [self.benchmark_symbol, *(symbol for members in self.sectors.values() for symbol in members)]
        return tuple(dict.fromkeys(names))


def check(settings: Settings) -> None:
    """Refuse values that are well-typed but cannot work together.

    Raises:
        ConfigurationError: names the setting and what it may be.
    """

    def refuse(path: str, must: str) -> None:
        raise ConfigurationError(f"{path} {must}")

    def positive(path: str, value: float) -> None:
        if not value > 0:
            refuse(path, f"must be greater than 0, is {value}")

    def share(path: str, value: float) -> None:
        if not 0 < value <= 1:
            refuse(path, f"must lie in (0, 1], is {value}")

    for symbol in settings.universe.spot_symbols:
        if not symbol or len(symbol) > 40 or not symbol.isprintable():
            refuse("universe.spot_symbols", f"holds {symbol!r}, which is no symbol")
    seen: dict[str, str] = {}
    for sector, symbols in settings.sectors.items():
        for symbol in symbols:
            if not symbol or len(symbol) > 40 or not symbol.isprintable():
                refuse(f"universe.sectors.{sector}", f"holds {symbol!r}, which is no symbol")
            if symbol in seen:
                refuse(f"universe.sectors.{sector}", f"repeats {symbol}, which already stands in {seen[symbol]}")
            seen[symbol] = sector
    for path, schemes, url in (
        ("exchange.spot_rest_url", ("http://", "https://"), settings.exchange.spot_rest_url),
        ("exchange.futures_rest_url", ("http://", "https://"), settings.exchange.futures_rest_url),
        ("exchange.spot_ws_url", ("ws://", "wss://"), settings.exchange.spot_ws_url),
        ("exchange.futures_ws_url", ("ws://", "wss://"), settings.exchange.futures_ws_url),
    ):
        if not url.startswith(schemes):
            refuse(path, f"must begin with {' or '.join(schemes)}, is {url!r}")
    positive("exchange.request_timeout_s", settings.exchange.request_timeout_s)
    positive("exchange.max_connections", settings.exchange.max_connections)
    share("exchange.weight_share", settings.exchange.weight_share)
    positive("volume_spike.threshold", settings.volume_spike.threshold)
    positive("volume_spike.ma_bars", settings.volume_spike.ma_bars)
    share("volume_spike.rarity_max", settings.volume_spike.rarity_max)
    positive("trade_spike.window_trades", settings.trade_spike.window_trades)
    positive("trade_spike.multiple", settings.trade_spike.multiple)
    positive("trade_spike.burst_gap_s", settings.trade_spike.burst_gap_s)
    share("trade_spike.alert_rarity_max", settings.trade_spike.alert_rarity_max)
    if not 1 <= settings.order_book.levels <= 1000:
        refuse("order_book.levels", f"must lie in 1..1000, is {settings.order_book.levels}")
    positive("order_book.interval_seconds", settings.order_book.interval_seconds)
    share("order_book.alert_threshold", settings.order_book.alert_threshold)
    positive("order_book.alert_samples", settings.order_book.alert_samples)
    if settings.order_book.alert_release > settings.order_book.alert_threshold:
        refuse("order_book.alert_release", "must not exceed order_book.alert_threshold")
    windows, thresholds = settings.sector.windows, settings.sector.thresholds
    for name in ("zscore_lookback_bars", "beta_lookback_bars", "return_bars", "beta_return_bars", "min_beta_pairs"):
        positive(f"sector.windows.{name}", getattr(windows, name))
    for name in ("min_zscore_bars", "taker_bars", "diffusion_minutes"):
        positive(f"sector.windows.{name}", getattr(windows, name))
    share("sector.windows.min_coverage", windows.min_coverage)
    if windows.min_zscore_bars > windows.zscore_lookback_bars:
        refuse("sector.windows.min_zscore_bars", "must not exceed sector.windows.zscore_lookback_bars")
    if windows.beta_lookback_bars % windows.beta_return_bars:
        refuse("sector.windows.beta_lookback_bars", "must be a multiple of sector.windows.beta_return_bars")
    if not 0.5 <= thresholds.taker_dominance_min <= 1:
        refuse("sector.thresholds.taker_dominance_min", f"must lie in 0.5..1, is {thresholds.taker_dominance_min}")
    share("sector.thresholds.sector_share_min", thresholds.sector_share_min)
    for name in ("market_wide_share", "diffusion_p_max"):
        if (value := getattr(settings.sector, name)) is not None:
            share(f"sector.{name}", value)
    if settings.sector.budget_per_day is not None:
        positive("sector.budget_per_day", settings.sector.budget_per_day)
    positive("sector.thresholds.sector_k_min", thresholds.sector_k_min)
    anomaly = settings.window_anomaly
    for name in ("window_seconds", "trees", "refit_every", "calibration_scores", "calibration_min"):
        positive(f"window_anomaly.{name}", getattr(anomaly, name))
    if anomaly.first_fit < 2 or anomaly.buffer < 2:
        refuse("window_anomaly.first_fit", "and window_anomaly.buffer must be at least 2")
    share("window_anomaly.smoothing", anomaly.smoothing)
    if anomaly.calibration_min > anomaly.calibration_scores:
        refuse("window_anomaly.calibration_min", "must not exceed window_anomaly.calibration_scores")
    if not 0 < anomaly.alert_rate < 1:
        refuse("window_anomaly.alert_rate", f"must lie in (0, 1), is {anomaly.alert_rate}")
    if not 0 < settings.pump.threshold < 1:
        refuse("pump.threshold", f"must lie in (0, 1), is {settings.pump.threshold}")
    for name in ("mean_hours", "history_hours"):
        positive(f"pump.{name}", getattr(settings.pump, name))
    for path, least in (
        ("pump.pause_minutes", settings.pump.pause_minutes),
        ("pump.warmup_hours", settings.pump.warmup_hours),
        ("volume_spike.alert_surprise_min", settings.volume_spike.alert_surprise_min),
        ("trade_spike.alert_record_hours", settings.trade_spike.alert_record_hours),
        ("window_anomaly.alert_record_hours", anomaly.alert_record_hours),
    ):
        if not 0 <= least < float("inf"):
            refuse(path, f"must be 0 or more, is {least}")
    for name in ("cooldown_minutes_per_symbol", "direction_swap_grace_minutes", "max_age_minutes"):
        if getattr(settings.alerts, name) < 0:
            refuse(f"alerts.{name}", "must not be negative")
    positive("alerts.dead_after_hours", settings.alerts.dead_after_hours)
    positive("alerts.storm.notifications", settings.alerts.storm.notifications)
    positive("alerts.storm.window_seconds", settings.alerts.storm.window_seconds)
    telegram, webhook = settings.alerts.telegram, settings.alerts.webhook
    if telegram.enabled and telegram.chat_id is None:
        refuse("alerts.telegram.chat_id", "must be set while alerts.telegram.enabled is true")
    if not telegram.api_url.startswith(("http://", "https://")):
        refuse("alerts.telegram.api_url", "must begin with http:// or https://")
    if webhook.enabled and not (webhook.url or "").startswith(("http://", "https://")):
        refuse("alerts.webhook.url", "must begin with http:// or https:// while alerts.webhook.enabled is true")
    if not 0 < webhook.timeout_s <= 12:
        refuse("alerts.webhook.timeout_s", f"must lie in (0, 12], is {webhook.timeout_s}")
    if not 0 <= settings.api.port <= 65535:
        refuse("api.port", f"must lie in 0..65535, is {settings.api.port}")
    _check_aws(settings, refuse)
    positive("streamer.shards", settings.streamer.shards)
    if not 0 <= settings.streamer.flush_seconds <= 600:
        refuse("streamer.flush_seconds", f"must lie in 0..600, is {settings.streamer.flush_seconds}")
    if not 1 <= settings.streamer.lease_seconds <= 300:
        refuse("streamer.lease_seconds", f"must lie in 1..300, is {settings.streamer.lease_seconds}")
    if not 0 <= settings.streamer.shard_index < settings.streamer.shards:
        refuse("streamer.shard_index", f"must lie in 0..{settings.streamer.shards - 1}")


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


def _check_aws(settings: Settings, refuse: Callable[[str, str], None]) -> None:
    aws = settings.aws
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,99}", aws.stack_name):
        refuse("aws.stack_name", f"must be letters, digits and hyphens, beginning with a letter, is {aws.stack_name!r}")
    if aws.region is not None and not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-[0-9]", aws.region):
        refuse("aws.region", f"must be a region such as eu-central-1, is {aws.region!r}")
    if aws.log_retention_days not in _RETENTIONS:
        refuse("aws.log_retention_days", f"must be one of {', '.join(map(str, _RETENTIONS))}")
    for number, subscription in enumerate(aws.subscriptions):
        path = f"aws.subscriptions[{number}]"
        if not re.fullmatch(_ENDPOINTS[subscription.protocol], subscription.endpoint):
            refuse(f"{path}.endpoint", f"is not an address for {subscription.protocol}: {subscription.endpoint!r}")
        for name, values in subscription.filter.items():
            if name not in _ATTRIBUTES:
                refuse(f"{path}.filter", f"knows {', '.join(_ATTRIBUTES)}, not {name!r}")
            if not values:
                refuse(f"{path}.filter.{name}", "names no value that may pass")
    for number, address in enumerate(aws.alarm_emails):
        if not re.fullmatch(_ENDPOINTS["email"], address):
            refuse(f"aws.alarm_emails[{number}]", f"is not an e-mail address: {address!r}")
    if aws.streamer.cpu not in _FARGATE_GB:
        refuse("aws.streamer.cpu", f"must be one of {', '.join(map(str, _FARGATE_GB))}, is {aws.streamer.cpu}")
    sizes = [round(size * 1024) for size in _FARGATE_GB[aws.streamer.cpu]]
    if aws.streamer.memory_mb not in sizes:
        refuse("aws.streamer.memory_mb", f"must be one of {', '.join(map(str, sizes))} at cpu {aws.streamer.cpu}")
    token = settings.api.token_sha256
    if token is not None and not re.fullmatch(r"[0-9a-f]{64}", token):
        refuse("api.token_sha256", "must be 64 hexadecimal digits: the SHA-256 of the token, not the token")
