"""An Isolation Forest as plain arrays: fitted by scikit-learn (`forest_fit.py`), scored without it, bit-equal or within
1e-12.

All trees, of one model or of hundreds, are walked level by level at once. Siblings are neighbours, so a step is
node = left[node] + (x > threshold[node]); a leaf points at itself and its threshold is infinite.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_MAGIC = b"TWF1"
_COUNTS = struct.Struct("<IIIIId")  # features, trees, nodes, depth, samples, denominator
_MOST_BYTES = 64 << 20  # no honest model unpacks to more
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_TOGETHER = 100  # forests walked together by `score_many`: 15 MB, and as fast as more of them
_LANES = 1 << 16  # lanes walked together; bounds the memory of long inputs


@dataclass(frozen=True, slots=True, eq=False)
class FlatForest:
    """StandardScaler and IsolationForest in arrays. `left` (nodes,) are node numbers; the first `trees` are roots.

    `value` (nodes,) is a leaf's share of the path length: its depth plus the mean path of the samples left in it.
    `threshold` is float32, rounded down: scikit-learn compares float32 features with float64 thresholds, and for a
    float32 x, x <= t exactly when x <= the largest float32 not above t.
    """

    mean: FloatArray
    scale: FloatArray
    left: npt.NDArray[np.int32]
    feature: npt.NDArray[np.uint8]
    threshold: npt.NDArray[np.float32]
    value: FloatArray
    trees: int
    depth: int
    samples: int
    denominator: float

    @property
    def features(self) -> int:
        return len(self.mean)

    def score(self, x: npt.ArrayLike) -> FloatArray:
        """Return scikit-learn's `score_samples` (m,) for x (m, features): in [-1, 0), lower is more anomalous.

        Raises:
            ValueError: x has another shape or holds a number that is not finite.
        """
        scaled = self._scaled(np.asarray(x, dtype=np.float64))
        rows = max(1, _LANES // self.trees)
        parts = [self._score(scaled[at : at + rows]) for at in range(0, len(scaled), rows)]
        return np.concatenate(parts) if parts else np.empty(0)

    def to_bytes(self) -> bytes:
        """Return the model in a checked, compressed form that holds only numbers."""
        counts = _COUNTS.pack(self.features, self.trees, len(self.left), self.depth, self.samples, self.denominator)
        arrays = (
            self.mean.astype("<f8"), self.scale.astype("<f8"), self.value.astype("<f8"),
            self.threshold.astype("<f4"), self.left.astype("<i4"), self.feature,
        )  # fmt: skip
        body = zlib.compress(counts + b"".join(array.tobytes() for array in arrays), 6)
        return _MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, blob: bytes) -> FlatForest:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: another version, cut, or damaged in any place.
        """
        digest, body = blob[4:36], blob[36:]
        if blob[:4] != _MAGIC or hashlib.sha256(body).digest() != digest:
            raise ValueError("not a stored forest of this version, or a damaged one")
        unpacker = zlib.decompressobj()
        try:
            raw = unpacker.decompress(body, _MOST_BYTES)
        except zlib.error as error:
            raise ValueError("the stored forest does not unpack") from error
        if not unpacker.eof or len(raw) < _COUNTS.size:
            raise ValueError("the stored forest is cut or too large")
        features, trees, nodes, depth, samples, denominator = _COUNTS.unpack_from(raw)
        sizes = ((features, "<f8"), (features, "<f8"), (nodes, "<f8"), (nodes, "<f4"), (nodes, "<i4"), (nodes, "u1"))
        if len(raw) != _COUNTS.size + sum(count * np.dtype(kind).itemsize for count, kind in sizes):
            raise ValueError("the stored forest has another length than it says")
        at, arrays = _COUNTS.size, []
        for count, kind in sizes:
            arrays.append(np.frombuffer(raw, dtype=kind, count=count, offset=at))
            at += arrays[-1].nbytes
        mean, scale, value, threshold, left, feature = arrays
        forest = cls(mean, scale, left, feature, threshold, value, trees, depth, samples, denominator)
        forest._check()
        return forest

    def _check(self) -> None:
        """Refuse arrays that could not be walked safely."""
        nodes = len(self.left)
        itself = np.arange(nodes)
        leaf = self.left == itself
        sound = (
            self.features > 0
            and 0 < self.trees <= nodes
            and self.depth < 64
            and bool(np.all(leaf | ((self.left > itself) & (self.left < nodes - 1))))
            and bool(np.all(self.feature < self.features))
            and not bool(np.isnan(self.threshold).any())
            and bool(np.isfinite(self.value).all() and np.isfinite(self.mean).all() and np.isfinite(self.scale).all())
            and bool((self.scale > 0).all())
            and 0.0 <= self.denominator < float("inf")
        )
        if not sound:
            raise ValueError("the stored forest is damaged")

    def _scaled(self, x: FloatArray) -> npt.NDArray[np.float32]:
        if x.ndim != 2 or x.shape[1] != self.features:
            raise ValueError(f"features of shape (m, {self.features}) are needed, got {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("features must be finite")
        return _standardized(x, self.mean, self.scale)

    def _score(self, scaled: npt.NDArray[np.float32]) -> FloatArray:
        rows = len(scaled)
        node = np.repeat(np.arange(self.trees, dtype=np.int64)[:, None], rows, axis=1).ravel()
        base = np.tile(np.arange(rows, dtype=np.int64) * self.features, self.trees)
        node = _walk(node, base, scaled.ravel(), self.left, self.feature, self.threshold, self.depth)
        depths = self.value.take(node).reshape(self.trees, rows).sum(axis=0)
        return _score_of(depths, np.full(rows, self.denominator))


class ForestBank:
    """Many forests side by side, for one window of each at once."""

    def __init__(self, forests: Sequence[FlatForest]) -> None:
        if not forests or len({forest.features for forest in forests}) != 1:
            raise ValueError("a bank needs at least one forest, and all of the same features")
        self._features = forests[0].features
        offsets = np.cumsum([0, *(len(forest.left) for forest in forests)])
        if len(forests) == 1:  # nothing to lay side by side
            (one,) = forests
            self._left, self._feature, self._threshold, self._value = one.left, one.feature, one.threshold, one.value
        else:
            self._left = np.concatenate(
                [forest.left + np.int32(at) for forest, at in zip(forests, offsets, strict=False)]
            ).astype(np.int32)
            self._feature = np.concatenate([forest.feature for forest in forests])
            self._threshold = np.concatenate([forest.threshold for forest in forests])
            self._value = np.concatenate([forest.value for forest in forests])
        self._mean = np.stack([forest.mean for forest in forests])
        self._scale = np.stack([forest.scale for forest in forests])
        trees = np.array([forest.trees for forest in forests])
        self._roots = np.concatenate(
            [np.arange(forest.trees, dtype=np.int64) + at for forest, at in zip(forests, offsets, strict=False)]
        )
        self._base = np.repeat(np.arange(len(forests), dtype=np.int64) * self._features, trees)
        self._first = np.cumsum([0, *trees[:-1]])
        self._depth = max(forest.depth for forest in forests)
        self._denominator = np.array([forest.denominator for forest in forests])

    def __len__(self) -> int:
        return len(self._denominator)

    def score(self, x: npt.ArrayLike) -> FloatArray:
        """Score row i of x (models, features) by forest i; the same numbers as `FlatForest.score`.

        Raises:
            ValueError: x has another shape or holds a number that is not finite.
        """
        rows = np.asarray(x, dtype=np.float64)
        if rows.shape != self._mean.shape:
            raise ValueError(f"features of shape {self._mean.shape} are needed, got {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("features must be finite")
        scaled = _standardized(rows, self._mean, self._scale)
        node = _walk(self._roots, self._base, scaled.ravel(), self._left, self._feature, self._threshold, self._depth)
        return _score_of(np.add.reduceat(self._value.take(node), self._first), self._denominator)


def score_many(forests: Sequence[FlatForest], x: npt.ArrayLike) -> FloatArray:
    """Score row i of x by forest i, some at a time: hundreds need no second copy of all of them.

    Whoever asks again and again with the same forests keeps a `ForestBank`, at the price of that copy.
    """
    rows = np.asarray(x, dtype=np.float64)
    parts = [
        ForestBank(forests[at : at + _TOGETHER]).score(rows[at : at + _TOGETHER])
        for at in range(0, len(forests), _TOGETHER)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _standardized(x: FloatArray, mean: FloatArray, scale: FloatArray) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.clip((x - mean) / scale, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32)


def _walk(
    node: npt.NDArray[np.int64],
    base: npt.NDArray[np.int64],
    x: npt.NDArray[np.float32],
    left: npt.NDArray[np.int32],
    feature: npt.NDArray[np.uint8],
    threshold: npt.NDArray[np.float32],
    depth: int,
) -> npt.NDArray[np.int64]:
    """Walk every lane `depth` levels down from its node; `base` is where a lane's features begin in x."""
    for _ in range(depth):
        above = x.take(base + feature.take(node)) > threshold.take(node)
        node = left.take(node).astype(np.int64) + above
    return node


def _score_of(depths: FloatArray, denominator: FloatArray) -> FloatArray:
    share = np.divide(depths, denominator, out=np.ones_like(depths), where=denominator != 0)
    return np.asarray(-(2.0**-share), dtype=np.float64)
