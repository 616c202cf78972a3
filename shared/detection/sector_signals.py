"""The stored facts of the sector rules: an initiator with what confirms it, and a diffusion."""

from __future__ import annotations

from shared.detection.confirmation import Confirmation, label
from shared.detection.reading import Detector, Signal
from shared.detection.sector import DiffusionEvent, InitiatorHit
from shared.market.model import Market
from shared.settings import SectorSettings
from shared.times import MINUTE_MS, iso_utc


def initiator_signal(hit: InitiatorHit, confirmation: Confirmation, settings: SectorSettings) -> Signal:
    """Return the stored fact of an initiator, with what confirms it and what was unknown."""
    reading, thresholds = hit.features, settings.thresholds
    z_er, z_volume = reading.z_excess_return or 0.0, reading.z_volume or 0.0
    return Signal(
        detector=Detector.SECTOR_INITIATOR,
        market=Market.USDM,
        symbol=hit.symbol,
        event_ms=reading.open_ms,
        known_ms=reading.open_ms + MINUTE_MS,
        values={
            "z_excess_return": z_er,
            "z_volume": z_volume,
            "taker_buy_share": reading.taker_buy_share,
            "beta": reading.beta,
            "excess_return": reading.excess_return,
            "r_15m": reading.r_15m,
            "funding_rate": confirmation.funding_rate,
            "status": label(confirmation),
            "confirmations": confirmation.to_json(),
            **({"sources_failed": list(confirmation.failed)} if confirmation.failed else {}),
        },
        thresholds={
            "excess_return_z_initiator": thresholds.excess_return_z_initiator,
            "volume_z_initiator": thresholds.volume_z_initiator,
            "taker_dominance_min": thresholds.taker_dominance_min,
        },
        direction=hit.direction,
        sector=hit.sector,
        strength=max(
            1.0, min(abs(z_er) / thresholds.excess_return_z_initiator, z_volume / thresholds.volume_z_initiator)
        ),
    )


def diffusion_signal(event: DiffusionEvent, settings: SectorSettings) -> Signal:
    """Return the stored fact of a diffusion; it is named by its initiator and dated by the bar that completed it."""
    thresholds = settings.thresholds
    return Signal(
        detector=Detector.SECTOR_DIFFUSION,
        market=Market.USDM,
        symbol=event.initiator,
        event_ms=event.open_ms,
        known_ms=event.open_ms + MINUTE_MS,
        values={
            "initiator": event.initiator,
            "initiator_time": iso_utc(event.initiator_ms),
            "direction": event.direction.value,
            "followers": [
                {
                    "symbol": one.symbol,
                    "z_excess_return": one.z_excess_return,
                    "z_volume": one.z_volume,
                    "time": iso_utc(one.open_ms),
                }
                for one in event.followers
            ],
            "followers_count": len(event.followers),
            "others": event.others,
            "share": event.share,
            **({} if event.p_value is None else {"p_value": event.p_value}),
        },
        thresholds={
            "excess_return_z_follower": thresholds.excess_return_z_follower,
            "volume_z_follower": thresholds.volume_z_follower,
            "sector_k_min": thresholds.sector_k_min,
            "sector_share_min": thresholds.sector_share_min,
            **({} if settings.diffusion_p_max is None else {"diffusion_p_max": settings.diffusion_p_max}),
        },
        direction=event.direction,
        sector=event.sector,
        strength=max(1.0, event.share / thresholds.sector_share_min),
    )
