"""The pump rule's model: a logistic regression and small decision trees, half and half."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from struct import iter_unpack, pack

LEAF = -1
_SURE = 1e-6  # no part is surer than this, so that none outvotes the other


@dataclass(frozen=True, slots=True)
class Trees:
    """All nodes in one table; a tree is known by its root's row.

    A node sends a sample to row `low` where its number is at most the node's value, else to `high`. A leaf (feature -1)
    holds a probability.
    """

    roots: tuple[int, ...]
    nodes: tuple[tuple[int, float, int, int], ...]  # feature, value, low, high

    def score(self, features: Sequence[float]) -> float:
        """Return the mean of the trees' probabilities."""
        nodes, total = self.nodes, 0.0
        for root in self.roots:
            feature, value, low, high = nodes[root]
            while feature >= 0:
                feature, value, low, high = nodes[low if features[feature] <= value else high]
            total += value
        return total / len(self.roots)

    def packed(self) -> str:
        """Return the table as text; values keep the precision of a 32-bit float."""
        rows = b"".join(pack("<bfHH", *node) for node in self.nodes)
        return base64.b85encode(zlib.compress(rows, 9)).decode()

    @classmethod
    def unpacked(cls, text: str) -> Trees:
        """Read what `packed` wrote."""
        nodes = tuple(iter_unpack("<bfHH", zlib.decompress(base64.b85decode("".join(text.split())))))
        inner = {child for node in nodes if node[0] != LEAF for child in node[2:]}
        return cls(tuple(row for row in range(len(nodes)) if row not in inner), nodes)


@dataclass(frozen=True, slots=True)
class Blend:
    """The logistic model sees the first `len(weights)` numbers, the trees all; their log odds are averaged."""

    centres: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    trees: Trees

    def score(self, features: Sequence[float]) -> float:
        """Return a probability."""
        sum_ = self.intercept
        for x, centre, scale, weight in zip(features, self.centres, self.scales, self.weights, strict=False):
            sum_ += weight * (x - centre) / scale
        most = log((1 - _SURE) / _SURE)
        odds = (min(max(sum_, -most), most) + _log_odds(self.trees.score(features))) / 2
        return 1 / (1 + exp(-odds))


def _log_odds(probability: float) -> float:
    sure = min(max(probability, _SURE), 1 - _SURE)
    return log(sure / (1 - sure))
