"""The trade-spike rule over whole arrays: the same answers as the step form, a hundred times as fast.

Sums are differences of one running int64 sum. That sum may wrap around; a difference of two of its values is still
exact as long as the true sum of one window fits, which is checked, as are the products that are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import gcd

import numpy as np
import numpy.typing as npt

from shared.errors import ConfigurationError
from shared.settings import TradeSpikeSettings

IntArray = npt.NDArray[np.int64]

_MOST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class BulkRule:
    """`left` x quantity >= `right` x sum of the `size` trades before; the quantity itself may count as one of them."""

    size: int
    left: int
    right: int

    @classmethod
    def of(cls, settings: TradeSpikeSettings) -> BulkRule:
        """Reduce the rule to the smallest integers.

        Raises:
            ConfigurationError: a window of one trade that is the current one.
        """
        size = settings.window_trades - (1 if settings.include_current else 0)
        if size < 1:
            raise ConfigurationError("trade_spike.window_trades must be at least 2 when include_current is set")
        multiple = Fraction(Decimal(str(settings.multiple)))
        own = multiple.numerator if settings.include_current else 0
        left, right = settings.window_trades * multiple.denominator - own, multiple.numerator
        common = gcd(left, right)
        return cls(size, left // common, right // common)


def find_spikes(quantities: IntArray, settings: TradeSpikeSettings) -> tuple[IntArray, list[int]]:
    """Return the positions that fire among quantities (n,), and for each the sum of the window before it.

    Quantities are positive integers of 1e-8, in order of arrival, all from one symbol. Where products could exceed 64
    bits the same is computed in Python's integers, which is slow and as exact.
    """
    rule = BulkRule.of(settings)
    if len(quantities) <= rule.size:
        return np.empty(0, dtype=np.int64), []
    largest = int(quantities.max())
    if largest * max(rule.size * rule.right, abs(rule.left)) > _MOST:
        return _in_python(quantities, rule)
    total = np.cumsum(quantities)
    before = total[rule.size - 1 : -1].copy()
    before[1:] -= total[: -rule.size - 1]
    fired = np.flatnonzero(quantities[rule.size :] * rule.left >= before * rule.right)
    return fired + rule.size, before[fired].tolist()


def _in_python(quantities: IntArray, rule: BulkRule) -> tuple[IntArray, list[int]]:
    sizes: list[int] = quantities.tolist()
    running = sum(sizes[: rule.size])
    at, sums = [], []
    for i in range(rule.size, len(sizes)):
        if sizes[i] * rule.left >= running * rule.right:
            at.append(i)
            sums.append(running)
        running += sizes[i] - sizes[i - rule.size]
    return np.array(at, dtype=np.int64), sums
