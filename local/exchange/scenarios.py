"""Planted anomalies: what happens, to whom and exactly when. The ground truth of every simulated run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from local.exchange.effects import Bend, Effect
from local.exchange.universe import SECTORS
from shared.clock import HOUR_MS, MINUTE_MS
from shared.market.model import Market

CYCLES = 24  # the plan repeats hourly, with other symbols and directions
_WINDOW_MS = 20_000


@dataclass(frozen=True, slots=True)
class Planted:
    """One anomaly of the plan. `numbers` are those it was made with; `direction` is UP, DOWN or None."""

    kind: str
    market: Market
    symbol: str
    start_ms: int
    end_ms: int
    direction: str | None
    effects: tuple[Effect, ...]
    numbers: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Truth:
    """One planted anomaly as it lies in the data: `numbers` are measured in the market itself."""

    kind: str
    market: Market
    symbol: str
    start_ms: int
    end_ms: int
    direction: str | None
    numbers: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "market": self.market.value,
            "symbol": self.symbol,
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "direction": self.direction,
            **self.numbers,
        }


def trade_spike(symbol: str, at_ms: int, *, multiple: float = 60.0) -> Planted:
    """One trade of `multiple` times the hour's mean size (at least 30 times that of the 200 before it)."""
    market = Market.SPOT
    effects = (Effect(Bend.HUGE, market.value, symbol, at_ms, at_ms + 1, multiple),)
    return Planted("trade_spike", market, symbol, at_ms, at_ms + 1, None, effects)


def volume_spike(symbol: str, minute_ms: int, *, trades: int = 3000) -> Planted:
    """One minute with `trades` more trades than usual, somewhat larger ones.

    So many that it alerts by the defaults beside any chance history: with 850 one start in eight brought no alert.
    """
    market, end = Market.SPOT, minute_ms + MINUTE_MS
    effects = (
        Effect(Bend.TRADES, market.value, symbol, minute_ms, end, trades),
        Effect(Bend.VOLUME, market.value, symbol, minute_ms, end, 1.3),
    )
    return Planted("volume_spike", market, symbol, minute_ms, end, None, effects)


def window_anomaly(symbol: str, window_ms: int, *, trades: int = 300) -> Planted:
    """One 20-second window, aligned to the epoch: many trades, large volume, high volatility."""
    market, start = Market.SPOT, window_ms - window_ms % _WINDOW_MS
    end = start + _WINDOW_MS
    effects = (
        Effect(Bend.TRADES, market.value, symbol, start, end, trades),
        Effect(Bend.VOLUME, market.value, symbol, start, end, 2.0),
        Effect(Bend.SHAKE, market.value, symbol, start, end, 0.0010),
        Effect(Bend.MOVE, market.value, symbol, start, end, 0.0030),
    )
    return Planted("window_anomaly", market, symbol, start, end, None, effects)


def order_book(symbol: str, start_ms: int, end_ms: int, direction: str, *, factor: float = 80.0) -> Planted:
    """A book in which one side is `factor` times its usual self."""
    market = Market.SPOT
    size = factor if direction == "UP" else -factor
    effects = (Effect(Bend.BOOK, market.value, symbol, start_ms, end_ms, size),)
    return Planted("order_book_imbalance", market, symbol, start_ms, end_ms, direction, effects)


def sector_shot(sector: str, initiator: str, minute_ms: int, direction: str, *, confirmed: bool) -> list[Planted]:
    """An initiator's minute, two followers two and three minutes later, and what confirms it.

    `confirmed` plants open interest and funding (CONFIRMED); without it only the open interest grows (PARTIAL).
    """
    up = direction == "UP"
    sign = 1.0 if up else -1.0
    market, end = Market.USDM, minute_ms + MINUTE_MS
    ramp = end - MINUTE_MS // 6
    effects = [
        Effect(Bend.MOVE, None, initiator, minute_ms, ramp, sign * 0.04),
        Effect(Bend.TRADES, market.value, initiator, minute_ms, end, 750),
        Effect(Bend.VOLUME, market.value, initiator, minute_ms, end, 1.5),
        Effect(Bend.BUYERS, market.value, initiator, minute_ms, end, 0.92 if up else 0.08),
        Effect(Bend.INTEREST, market.value, initiator, minute_ms - 5 * MINUTE_MS, minute_ms - MINUTE_MS, 0.06),
        Effect(Bend.LIQUIDATIONS, market.value, initiator, minute_ms, minute_ms + 3 * MINUTE_MS, sign * 40),
    ]
    if confirmed:
        span = (minute_ms - 30 * MINUTE_MS, minute_ms + 4 * HOUR_MS)
        effects.append(Effect(Bend.FUNDING, market.value, initiator, *span, sign * 0.0015))
    planted = [
        Planted("sector_initiator", market, initiator, minute_ms, end, direction, tuple(effects),
                {"sector": sector, "confirmed": confirmed})
    ]  # fmt: skip
    followers: list[dict[str, object]] = []
    follow_effects: list[Effect] = []
    others = [symbol for symbol in SECTORS[sector] if symbol != initiator][:2]
    for i, symbol in enumerate(others):
        at = minute_ms + (2 + i) * MINUTE_MS
        followers.append({"symbol": symbol, "open_ms": at})
        follow_effects += [
            Effect(Bend.MOVE, None, symbol, at, at + 50_000, sign * 0.025),
            Effect(Bend.TRADES, market.value, symbol, at, at + MINUTE_MS, 300),
            Effect(Bend.BUYERS, market.value, symbol, at, at + MINUTE_MS, 0.5 + sign * 0.04),
        ]
    last = minute_ms + (2 + len(others)) * MINUTE_MS
    numbers = {"sector": sector, "initiator": initiator, "followers": followers}
    planted.append(
        Planted("sector_diffusion", market, initiator, minute_ms, last, direction, tuple(follow_effects), numbers)
    )
    return planted


def demo_plan(start_ms: int, *, listed: Iterable[tuple[Market, str]] | None = None) -> list[Planted]:
    """Plant one of each kind within the first ten minutes, then again each hour with others, for a day.

    Relative to the first whole minute at or after the start: trade spike at 2:30, volume spike in minute 3, lopsided
    book in minutes 4 to 9, odd window at 5:20, initiator in minute 6, its followers in minutes 8 and 9. Sector shots
    come every second hour. With `listed`, anomalies that touch anything else are left out.
    """
    first = -(-start_ms // MINUTE_MS) * MINUTE_MS
    spot = ("BTCUSDT", "ETHUSDT")
    plan: list[Planted] = []
    for cycle in range(CYCLES):
        at = first + cycle * HOUR_MS + (7 * cycle % 40) * MINUTE_MS
        one, other = spot[cycle % 2], spot[(cycle + 1) % 2]
        direction = "UP" if cycle % 4 < 2 else "DOWN"
        window = at + 5 * MINUTE_MS + _WINDOW_MS
        plan += [
            trade_spike(one, at + 2 * MINUTE_MS + 30_137),
            volume_spike(other, at + 3 * MINUTE_MS),
            order_book(other, at + 4 * MINUTE_MS, at + 9 * MINUTE_MS, direction),
            window_anomaly(one, window - window % _WINDOW_MS),
        ]
        if cycle % 2 == 0:
            sector = "Privacy" if cycle % 4 == 0 else "Meme"
            coins = SECTORS[sector]
            initiator = coins[(cycle // 4) % len(coins)]
            plan += sector_shot(sector, initiator, at + 6 * MINUTE_MS, direction, confirmed=cycle % 8 == 0)
    if listed is not None:
        wanted = set(listed)
        plan = [
            p for p in plan if {(p.market, symbol) for symbol in (p.symbol, *(e.symbol for e in p.effects))} <= wanted
        ]
    return plan
