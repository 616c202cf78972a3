"""Write the finished hours' bars in the form that a chart reads, and read a chart."""

from __future__ import annotations

from shared.clock import HOUR_MS, MINUTE_MS
from shared.jobs.common import bars_of, charts_of
from shared.jobs.deps import Dependencies
from shared.market.model import Bar, Market
from shared.storage.bars import BarRepository
from shared.storage.charts import ChartRepository
from shared.storage.schema import charts_partition
from shared.storage.table import Table

AFTER_MINUTES = 3  # after the hour: late bars of its last minutes have come by then
_FULL = HOUR_MS // MINUTE_MS
CATCH_UP_HOURS = 8  # finished hours that one run writes


def store(deps: Dependencies, market: Market, minute_ms: int, changed_ms: int) -> int:
    """Write every finished hour that has no chart yet, and those whose bars changed; return the items written.

    `minute_ms` is the newest minute, `changed_ms` the oldest one whose bars were stored just now.
    """
    end_ms = (minute_ms - AFTER_MINUTES * MINUTE_MS) // HOUR_MS * HOUR_MS  # hours before it are finished
    newest = deps.warm.charted_ms
    if newest < 0:
        newest = _newest_ms(deps.table, market)
    first_ms = newest + HOUR_MS if newest >= 0 else end_ms - HOUR_MS
    if changed_ms < first_ms:
        first_ms = changed_ms // HOUR_MS * HOUR_MS
    first_ms = max(first_ms, end_ms - CATCH_UP_HOURS * HOUR_MS)
    written = 0
    for hour_ms in range(first_ms, end_ms, HOUR_MS):
        minutes = dict(bars_of(deps).minutes(market, hour_ms, hour_ms + HOUR_MS, consistent=False))
        if minutes:
            written += charts_of(deps).put_hour(market, hour_ms, minutes)
    deps.warm.charted_ms = max(newest, end_ms - HOUR_MS)
    return written


def rewrite(deps: Dependencies, market: Market, start_ms: int, end_ms: int) -> int:
    """Write the finished hours of [start_ms, end_ms) anew: a backfill has filled them; return the items written."""
    written = 0
    for hour_ms in range(start_ms // HOUR_MS * HOUR_MS, end_ms // HOUR_MS * HOUR_MS, HOUR_MS):
        minutes = dict(bars_of(deps).minutes(market, hour_ms, hour_ms + HOUR_MS, consistent=False))
        if minutes:
            written += charts_of(deps).put_hour(market, hour_ms, minutes)
    return written


def bars(table: Table, market: Market, symbol: str, start_ms: int, end_ms: int) -> list[Bar]:
    """Return one symbol's bars of [start_ms, end_ms): whole hours from the charts, the rest from the minutes.

    An hour whose chart lacks a minute is read from the minutes too: it may have come after the chart was drawn.
    """
    first_hour = start_ms // HOUR_MS * HOUR_MS
    hours = ChartRepository(table).hours(market, symbol, first_hour, end_ms)
    found = [bar for drawn in hours.values() if len(drawn) == _FULL for bar in drawn]
    lacking = [at_ms for at_ms in range(first_hour, end_ms, HOUR_MS) if len(hours.get(at_ms, ())) != _FULL]
    minutes = BarRepository(table)
    for number, hour_ms in enumerate(lacking):
        if number and lacking[number - 1] == hour_ms - HOUR_MS:
            continue  # read with the hour before it
        until = number + 1
        while until < len(lacking) and lacking[until] == lacking[until - 1] + HOUR_MS:
            until += 1
        found += minutes.one(market, symbol, hour_ms, min(lacking[until - 1] + HOUR_MS, end_ms), consistent=False)
    return sorted((bar for bar in found if start_ms <= bar.open_ms < end_ms), key=lambda bar: bar.open_ms)


def _newest_ms(table: Table, market: Market) -> int:
    """Return the newest hour that has a chart, by the first bucket that holds one; -1 when there is none."""
    for bucket in range(4):
        newest = table.query(charts_partition(market, bucket), reverse=True, limit=1, consistent=False)
        if newest:
            return int(str(newest[0]["sk"]))
    return -1
