"""A feed that stops is silent; one that was always thin is not."""

from __future__ import annotations

from typing import Any

from local.live_feed import LiveFeed


def states(rates: list[float], state: str = "live") -> list[str]:
    left = iter(rates)

    def status() -> dict[str, Any]:
        return {"state": state, "reason": "", "trades_per_s": next(left)}

    feed = LiveFeed(status)
    return [feed()["state"] for _ in rates]


def test_a_busy_feed_without_trades_is_silent_until_they_come_again() -> None:
    assert states([20, 18, 0, 0, 5]) == ["live", "live", "silent", "silent", "live"]


def test_a_thin_market_may_pause() -> None:
    assert states([0.2, 0, 0]) == ["live"] * 3
    assert states([0, 0]) == ["live"] * 2


def test_what_the_streamer_says_itself_stands() -> None:
    assert states([20, 0], "broken") == ["broken", "broken"]
