"""Fitting an Isolation Forest: scikit-learn's trees, laid out as arrays.

`IsolationForest.fit` grows its hundred small trees in some 10 ms and spends a hundred more on estimator objects and
random generators, each of them seeded by the operating system first. So the trees are grown by scikit-learn's own tree
builder with its own seeds, without those objects: the same trees, to the last bit. The builder is no public interface.
So each process first grows a small forest in both ways, and where they differ, or the builder has moved, it takes the
public way, which says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.detection.forest import FlatForest, FloatArray

_MOST_SAMPLES = 256  # of a tree: IsolationForest's "auto"
_SEEDS_BELOW = np.iinfo(np.int32).max  # as scikit-learn draws them


def fit_forest(features: npt.ArrayLike, trees: int = 100, seed: int = 42) -> FlatForest:
    """Fit StandardScaler and IsolationForest on features (n, k) and keep only the arrays.

    Raises:
        ValueError: fewer than two rows, or a number that is not finite.
    """
    # Imported here: a second of import time that only a process which fits should pay.
    from sklearn.preprocessing import StandardScaler

    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError("a forest needs at least two rows of finite features")
    scaler = StandardScaler().fit(x)
    grow = grow_trees if builder_is_known() else grow_publicly
    grown = grow(scaler.transform(x), trees, seed)
    return flatten(scaler.mean_, scaler.scale_, grown, min(_MOST_SAMPLES, len(x)))


def grow_publicly(x: FloatArray, trees: int, seed: int) -> list[Any]:
    """Return the fitted `tree_` objects of scikit-learn's IsolationForest on x (n, k)."""
    from sklearn.ensemble import IsolationForest

    model = IsolationForest(n_estimators=trees, random_state=seed).fit(x)
    return [one.tree_ for one in model.estimators_]


def grow_trees(x: FloatArray, trees: int, seed: int) -> list[Any]:
    """Return the same as `grow_publicly`, of the same draws in the same order, in a fourteenth of its time."""
    from sklearn.tree._criterion import MSE
    from sklearn.tree._splitter import RandomSplitter
    from sklearn.tree._tree import DepthFirstTreeBuilder, Tree
    from sklearn.utils.random import sample_without_replacement

    values = np.ascontiguousarray(x, dtype=np.float32)
    rows, columns = values.shape
    targets = np.random.RandomState(seed).uniform(size=(rows, 1))  # they only keep nodes from being pure
    samples = min(_MOST_SAMPLES, rows)
    depth = int(np.ceil(np.log2(max(samples, 2))))
    outputs = np.array([1], dtype=np.intp)
    draw, split = np.random.RandomState(0), np.random.RandomState(0)  # seeded anew for each tree
    grown = []
    for own in np.random.RandomState(seed).randint(_SEEDS_BELOW, size=trees):
        draw.seed(own)
        split.seed(draw.randint(_SEEDS_BELOW))
        draw.seed(own)
        sample_without_replacement(columns, columns, random_state=draw)  # the features: all, but drawn all the same
        chosen = sample_without_replacement(rows, samples, random_state=draw)
        weights = np.bincount(chosen, minlength=rows).astype(np.float64)
        tree = Tree(columns, outputs, 1)
        splitter = RandomSplitter(MSE(1, rows), 1, 1, 0.0, split, None)
        DepthFirstTreeBuilder(splitter, 2, 1, 0.0, depth, 0.0).build(tree, values, targets, weights, None)
        grown.append(tree)
    return grown


@cache
def builder_is_known() -> bool:
    """Tell whether `grow_trees` works with this scikit-learn and grows what `grow_publicly` does."""
    x = np.random.RandomState(1).lognormal(size=(_MOST_SAMPLES + 44, 5))
    x[::7] = x[0]  # rows that no split can part
    try:
        pairs = zip(grow_trees(x, 3, 5), grow_publicly(x, 3, 5), strict=True)
        return all(_same(one, other) for one, other in pairs)
    except (ImportError, AttributeError, TypeError, ValueError):
        return False


def _same(one: Any, other: Any) -> bool:
    names = ("children_left", "children_right", "feature", "threshold", "n_node_samples")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def flatten(mean: Any, scale: Any, trees: Sequence[Any], samples: int) -> FlatForest:
    """Lay scikit-learn's trees out level by level, all roots first, siblings side by side."""
    offsets = np.cumsum([0, *(tree.node_count for tree in trees)])
    pairs = list(zip(trees, offsets, strict=False))
    children = np.concatenate([np.where(tree.children_left < 0, -1, tree.children_left + at) for tree, at in pairs])
    right = np.concatenate([tree.children_right + at for tree, at in pairs])
    split_feature = np.concatenate([tree.feature for tree in trees])
    split_at = np.concatenate([tree.threshold for tree in trees])
    leftover = _mean_path(np.concatenate([tree.n_node_samples for tree in trees]))
    total = int(offsets[-1])
    left = np.arange(total, dtype=np.int32)
    feature = np.zeros(total, dtype=np.uint8)
    threshold = np.full(total, np.inf, dtype=np.float32)
    value = np.zeros(total)
    level, first, depth = offsets[:-1], 0, 0
    while len(level):
        here = np.arange(first, first + len(level))
        value[here] = (depth + 1) + leftover[level] - 1.0  # in scikit-learn's own order of rounding
        inner = children[level] >= 0
        parents, first = level[inner], first + len(level)
        left[here[inner]] = first + 2 * np.arange(len(parents))
        feature[here[inner]] = split_feature[parents]
        threshold[here[inner]] = _down(split_at[parents])
        level = np.stack([children[parents], right[parents]], axis=1).ravel()
        depth += 1
    return FlatForest(
        mean=np.array(mean, dtype=np.float64),
        scale=np.array(scale, dtype=np.float64),
        left=left,
        feature=feature,
        threshold=threshold,
        value=value,
        trees=len(trees),
        depth=depth - 1,
        samples=samples,
        denominator=len(trees) * float(_mean_path(np.array([samples]))[0]),
    )


def _mean_path(samples: npt.NDArray[Any]) -> FloatArray:
    """Return the mean path of an unsuccessful search among n samples. Source: Liu, Ting and Zhou (2008), eq. 1."""
    n = samples.astype(np.float64)
    path = np.zeros(len(n))
    path[n == 2] = 1.0
    many = n > 2
    path[many] = 2.0 * (np.log(n[many] - 1.0) + np.euler_gamma) - 2.0 * (n[many] - 1.0) / n[many]
    return path


def _down(exact: FloatArray) -> npt.NDArray[np.float32]:
    """Round to the largest float32 that is not above."""
    near = exact.astype(np.float32)
    return np.where(near.astype(np.float64) > exact, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)
