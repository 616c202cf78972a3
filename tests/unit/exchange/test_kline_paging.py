from __future__ import annotations

import pytest
from rest_fakes import MINUTE, START, answer, client, kline

from shared.exchange.binance.paging import iter_klines
from shared.http import HttpResponse
from shared.market.model import Market


class Served:
    """An exchange that has the bars of some minutes and answers like Binance."""

    def __init__(self, minutes: set[int]) -> None:
        self.minutes = sorted(minutes)
        self.limits: list[int] = []

    def get(self, url: str, params: dict[str, str], headers: dict[str, str], timeout_s: float) -> HttpResponse:
        limit = int(params["limit"])
        self.limits.append(limit)
        start, end = int(params["startTime"]), int(params["endTime"])
        found = [START + m * MINUTE for m in self.minutes if start <= START + m * MINUTE <= end]
        return answer([kline(open_ms) for open_ms in found[:limit]])


def market_data_over(served: Served):
    market_data, _, _ = client(answer([]))
    market_data._transport = served  # type: ignore[assignment]
    return market_data


@pytest.mark.parametrize(("market", "page"), [(Market.SPOT, 1000), (Market.USDM, 499)])
def test_pages_have_the_cheapest_size_and_give_every_bar_once(market: Market, page: int) -> None:
    served = Served(set(range(2500)))
    pages = list(iter_klines(market_data_over(served), market, "A", START, START + 2500 * MINUTE))
    assert [bar.open_ms for bars in pages for bar in bars] == [START + m * MINUTE for m in range(2500)]
    assert served.limits[0] == page
    assert sum(served.limits) == 2500


def test_holes_do_not_end_the_pages() -> None:
    served = Served({*range(3), *range(20, 25)})
    pages = list(iter_klines(market_data_over(served), Market.SPOT, "A", START, START + 30 * MINUTE, page_limit=4))
    assert [bar.open_ms for bars in pages for bar in bars] == [START + m * MINUTE for m in (0, 1, 2, *range(20, 25))]


@pytest.mark.parametrize("cut", range(1, 5))
def test_going_on_after_any_page_equals_one_run(cut: int) -> None:
    whole = [
        b
        for p in iter_klines(market_data_over(Served(set(range(40)))), Market.SPOT, "A", START, START + 40 * MINUTE, 9)
        for b in p
    ]
    first = [
        p
        for _, p in zip(
            range(cut),
            iter_klines(market_data_over(Served(set(range(40)))), Market.SPOT, "A", START, START + 40 * MINUTE, 9),
            strict=False,
        )
    ]
    done = [bar for page in first for bar in page]
    rest = iter_klines(
        market_data_over(Served(set(range(40)))), Market.SPOT, "A", done[-1].open_ms + MINUTE, START + 40 * MINUTE, 9
    )
    assert done + [bar for page in rest for bar in page] == whole


def test_an_answer_that_ignores_the_question_ends_it() -> None:
    market_data, transport, _ = client(answer([kline(START - MINUTE)]))
    assert list(iter_klines(market_data, Market.SPOT, "A", START, START + 5 * MINUTE)) == []
    assert len(transport.asked) == 1
    assert list(iter_klines(market_data, Market.SPOT, "A", START, START)) == []
