"""One frozen tree of settings, read once at the edge and passed down in parts.

`tapewatch.yaml` says how the product behaves, the environment says where it runs. Reading and merging are in
`shared/settings_loader.py`, what makes a tree usable in `shared/settings_checks.py`; this file is only the tree and its
defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: immutable, and an unknown key is an error that names its path."""


class ExchangeSettings(Section, frozen=True):
    spot_rest_url: str = "https://data-api.binance.vision"
    spot_trades_url: str = "https://api.binance.com"  # past trades, which the host above lacks; empty: only its newest
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
    channels: tuple[str, ...] | None = None  # of the channels that are switched on only these; None: all of them
    storm: StormSettings = StormSettings()
    telegram: TelegramSettings = TelegramSettings()
    webhook: WebhookSettings = WebhookSettings()
    sns: SnsSettings = SnsSettings()

    def uses(self, channel: str) -> bool:
        """Tell whether a channel may be used where it is switched on."""
        return self.channels is None or channel in self.channels


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
