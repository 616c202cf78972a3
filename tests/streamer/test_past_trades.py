"""Gaps, warm-up and probes against hosts that serve what Binance documents: data-api has no historicalTrades."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

import pytest

from shared.clock import ManualClock
from shared.errors import BadRequest, Blocked, ExchangeError, ExchangeUnavailable, RateLimited
from shared.exchange.binance.events import Gap
from shared.exchange.binance.rest import AWAY_MS, BinanceMarketData
from shared.http import HttpResponse
from shared.market.model import Market, Side, Trade, TradeKind
from shared.settings import ExchangeSettings
from streamer.gaps import GapFiller
from streamer.warmup import NotServed, PastTrades, Position, warm_up

NOW = 1_790_000_000_000
NEWEST = 10_000  # ids 1..NEWEST, one a second
DATA, FULL = "data-api.binance.vision", "api.binance.com"


class Hosts:
    """The two spot hosts. `refusal` is what api.binance.com answers instead of trades; an exception is raised."""

    def __init__(self, refusal: HttpResponse | Exception | None = None) -> None:
        self.refusal = refusal
        self.asked: list[tuple[str, str]] = []

    def get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str], timeout_s: float) -> HttpResponse:
        host, what = urlsplit(url).hostname or "", url.rpartition("/")[2]
        self.asked.append((host, what))
        assert not headers
        if host == FULL and self.refusal is not None:
            if isinstance(self.refusal, Exception):
                raise self.refusal
            return self.refusal
        limit = int(params["limit"])
        if what == "trades":
            first = max(1, NEWEST - limit + 1)
        elif what == "historicalTrades" and host == FULL:
            first = int(params["fromId"])
        else:
            return HttpResponse(404, {}, b"<html>Not Found</html>")
        rows = [
            {"id": n, "price": "1", "qty": "1", "time": NOW - (NEWEST - n) * 1000, "isBuyerMaker": False}
            for n in range(first, min(first + limit, NEWEST + 1))
        ]
        return HttpResponse(200, {}, json.dumps(rows).encode())


def market_data(hosts: Hosts, **values: str) -> tuple[BinanceMarketData, ManualClock]:
    clock = ManualClock(NOW)
    return BinanceMarketData(ExchangeSettings(**values), hosts, clock, rng=lambda: 0.5), clock  # type: ignore[arg-type]


RESTRICTED = HttpResponse(451, {}, b'{"code":0,"msg":"Service unavailable from a restricted location"}')
FORBIDDEN = HttpResponse(403, {}, b"<html>")
UNREACHABLE = ExchangeUnavailable("the exchange could not be reached: ConnectTimeout")


class Filled:
    """A running filler, what it fed and gave up, and its clock."""

    def __init__(self, exchange: object) -> None:
        self.fed: list[int] = []
        self.now_s = 0.0
        self._over = threading.Semaphore(0)
        self.filler = GapFiller(
            exchange,  # type: ignore[arg-type]
            lambda page: self.fed.extend(trade.trade_id or 0 for trade in page),
            lambda gap: self._over.release(),
            sleep=self._sleep,
            monotonic=lambda: self.now_s,
        )
        self.filler.start()

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def fill(self, first: int, last: int, symbol: str = "BTCUSDT") -> list[int]:
        """Return the ids that came for this gap."""
        self.fed.clear()
        self.filler.submit(Gap(Market.SPOT, symbol, TradeKind.TRADE, first, last))
        assert self._over.acquire(timeout=30)
        return list(self.fed)

    def probe(self, last_id: int) -> bool | None:
        said: list[bool | None] = []

        def told(newer: bool | None) -> None:
            said.append(newer)
            self._over.release()

        self.filler.probe(Market.SPOT, "BTCUSDT", TradeKind.TRADE, last_id, told)
        assert self._over.acquire(timeout=30)
        return said[0]


def test_gaps_and_probes_of_the_default_configuration_are_answered_by_the_full_host() -> None:
    hosts = Hosts()
    filled = Filled(market_data(hosts)[0])
    assert filled.fill(1, 25) == list(range(1, 26))
    assert filled.fill(2_000, 4_500) == list(range(2_000, 4_501))
    assert filled.probe(NEWEST) is False
    assert filled.probe(NEWEST - 3) is True
    assert set(hosts.asked) == {(FULL, "historicalTrades")}
    assert not filled.filler.given_up


@pytest.mark.parametrize("refusal", [RESTRICTED, FORBIDDEN, UNREACHABLE, HttpResponse(404), None])
def test_where_the_full_host_refuses_the_newest_trades_fill_what_they_hold(
    refusal: HttpResponse | Exception | None,
) -> None:
    hosts = Hosts(refusal)
    exchange, _ = market_data(hosts, **({} if refusal is not None else {"spot_trades_url": ""}))
    filled = Filled(exchange)
    assert filled.fill(1, 25) == []
    assert filled.fill(NEWEST - 30, NEWEST - 5) == list(range(NEWEST - 30, NEWEST - 4))
    oldest = NEWEST - 999
    assert filled.fill(oldest - 10, oldest + 10) == list(range(oldest, oldest + 11))
    assert filled.probe(NEWEST) is False
    assert filled.probe(NEWEST - 3) is True
    assert filled.filler.given_up == {"not_kept": 2}
    assert hosts.asked.count((FULL, "historicalTrades")) == (0 if refusal is None else 1)  # asked once, then let be
    assert (DATA, "historicalTrades") not in hosts.asked


def test_a_full_host_that_comes_back_is_asked_again() -> None:
    hosts = Hosts(UNREACHABLE)
    exchange, clock = market_data(hosts)
    assert exchange.historical_trades(Market.SPOT, "BTCUSDT", from_id=1)[0].trade_id == NEWEST - 999
    hosts.refusal = None
    clock.advance(AWAY_MS)
    assert exchange.historical_trades(Market.SPOT, "BTCUSDT", from_id=1)[0].trade_id == 1


def test_another_host_than_the_market_data_only_one_is_asked_alone() -> None:
    hosts = Hosts()
    exchange, _ = market_data(hosts, spot_rest_url="http://127.0.0.1:9")
    with pytest.raises(BadRequest):
        exchange.historical_trades(Market.SPOT, "BTCUSDT", from_id=1)
    assert hosts.asked == [("127.0.0.1", "historicalTrades")]


def warmed(exchange: object, position: Position, *, hours: float = 1.0) -> list[int]:
    fed: list[int] = []
    past = PastTrades(exchange, Market.SPOT, TradeKind.TRADE)  # type: ignore[arg-type]
    refused = warm_up(
        past,
        ("BTCUSDT",),
        position=lambda symbol: position,
        since_ms=NOW - round(hours * 3_600_000),
        feed=lambda symbol, page: fed.extend(trade.trade_id or 0 for trade in page),
        wait=lambda seconds: None,
        progress=lambda *_: None,
    )
    assert refused is None
    return fed


def test_the_past_comes_from_the_full_host() -> None:
    fed = warmed(market_data(Hosts())[0], Position(None, 0))
    assert fed == list(range(fed[0], NEWEST + 1))
    assert 3_600 - 1_000 <= len(fed) <= 3_600 + 60  # to a page
    assert warmed(market_data(Hosts())[0], Position(9_000, NOW - 1_000_000)) == list(range(9_001, NEWEST + 1))


def test_where_the_full_host_refuses_the_past_is_the_newest_trades_and_costs_few_calls() -> None:
    hosts = Hosts(RESTRICTED)
    assert warmed(market_data(hosts)[0], Position(None, 0)) == list(range(NEWEST - 999, NEWEST + 1))
    assert len(hosts.asked) <= 6
    assert warmed(market_data(hosts)[0], Position(9_900, NOW - 100_000)) == list(range(9_901, NEWEST + 1))


class Moody:
    """Past trades of an exchange that answers with `error` while there is one, for `symbol` or for all."""

    def __init__(self, error: ExchangeError | None, symbol: str | None = None) -> None:
        self.error, self.symbol = error, symbol
        self.calls = 0

    def historical_trades(self, market: Market, symbol: str, *, from_id: int | None, limit: int = 1000) -> list[Trade]:
        self.calls += 1
        if self.error is not None and self.symbol in (None, symbol):
            raise self.error
        first = NEWEST if from_id is None else from_id
        ids = range(first, min(first + limit, NEWEST + 1))
        return [Trade(market, symbol, TradeKind.TRADE, n, 1.0, 1.0, Side.BUY, NOW, NOW) for n in ids]


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_when_enough_waits_behind_it_no_symbol_is_asked_for_any_more(calls: int) -> None:
    exchange = Moody(None)
    past = PastTrades(exchange, Market.SPOT, TradeKind.TRADE, lambda: exchange.calls >= calls)  # type: ignore[arg-type]
    refused = warm_up(
        past,
        tuple(f"S{number}USDT" for number in range(500)),
        position=lambda symbol: Position(None, 0),
        since_ms=NOW,
        feed=lambda symbol, page: None,
        wait=lambda seconds: None,
        progress=lambda *_: None,
    )
    assert (refused, exchange.calls) == (None, calls)


def test_a_pause_that_the_exchange_asks_for_ends_when_enough_waits() -> None:
    exchange, waited = Moody(RateLimited("slow down", retry_after_s=90)), list[float]()
    past = PastTrades(exchange, Market.SPOT, TradeKind.TRADE, lambda: sum(waited) >= 5)  # type: ignore[arg-type]
    warm_up(
        past,
        ("AUSDT", "BUSDT"),
        position=lambda symbol: Position(None, 0),
        since_ms=NOW,
        feed=lambda symbol, page: None,
        wait=waited.append,
        progress=lambda *_: None,
    )
    assert (exchange.calls, sum(waited)) == (1, 5)


def test_a_403_ends_gap_filling_for_a_quarter_of_an_hour_only() -> None:
    exchange = Moody(Blocked("firewall", status=403))
    filled = Filled(exchange)
    assert filled.fill(1, 5) == []
    exchange.error = None
    assert filled.fill(1, 5) == []
    assert filled.probe(5) is None
    assert exchange.calls == 1
    filled.now_s = 900.0
    assert filled.fill(1, 5) == [1, 2, 3, 4, 5]
    assert filled.probe(5) is True


def test_a_bad_request_concerns_its_own_gap_only() -> None:
    filled = Filled(Moody(BadRequest("illegal", status=400, api_code=-1100), "AUSDT"))
    assert filled.fill(1, 5, "AUSDT") == []
    assert filled.fill(1, 5, "BUSDT") == [1, 2, 3, 4, 5]


def test_what_the_client_itself_refuses_is_not_asked_again() -> None:
    exchange = Moody(BadRequest("needs an API key"))
    filled = Filled(exchange)
    filled.fill(1, 5)
    filled.now_s = 1e9
    filled.fill(1, 5)
    assert exchange.calls == 1


@pytest.mark.parametrize(
    ("error", "fed", "said"),
    [
        (BadRequest("illegal", status=400), {"BUSDT"}, None),
        (Blocked("firewall", status=403), set(), NotServed("firewall", ("AUSDT", "BUSDT"), again=True)),
        (BadRequest("no such path", status=404), set(), NotServed("no such path", ("AUSDT", "BUSDT"), again=True)),
        (BadRequest("needs an API key"), set(), NotServed("needs an API key", ("AUSDT", "BUSDT"))),
    ],
)
def test_one_symbol_s_bad_request_leaves_the_others_their_past(
    error: ExchangeError, fed: set[str], said: NotServed | None
) -> None:
    seen: set[str] = set()
    past = PastTrades(Moody(error, "AUSDT"), Market.SPOT, TradeKind.TRADE)  # type: ignore[arg-type]
    refused = warm_up(
        past,
        ("AUSDT", "BUSDT"),
        position=lambda symbol: Position(None, 0),
        since_ms=NOW,
        feed=lambda symbol, page: seen.add(symbol),
        wait=lambda seconds: None,
        progress=lambda *_: None,
    )
    assert (seen, refused) == (fed, said)
