"""Trees grown without the estimator objects are scikit-learn's, and where they are not, the public way is taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from shared.detection import forest_fit
from shared.detection.forest_fit import builder_is_known, fit_forest, grow_publicly, grow_trees

SOURCE = np.random.default_rng(3)
KINDS = {
    "lognormal": SOURCE.lognormal(size=(500, 5)),
    "fewer than a tree's sample": SOURCE.lognormal(size=(100, 5)),
    "two columns": SOURCE.normal(size=(300, 2)),
    "constant column": np.hstack([SOURCE.lognormal(size=(300, 4)), np.ones((300, 1))]),
    "constant": np.ones((50, 5)),
    "two rows": SOURCE.lognormal(size=(2, 5)),
    "ties": SOURCE.integers(0, 3, size=(400, 5)).astype(float),
    "huge": SOURCE.lognormal(size=(100, 5)) * 1e15,
}


@pytest.fixture
def asked_anew() -> Iterator[None]:
    builder_is_known.cache_clear()
    yield
    builder_is_known.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("trees", "seed"), [(100, 42), (1, 0), (7, 2**32 - 1)])
def test_the_same_trees(kind: str, trees: int, seed: int) -> None:
    grown, public = grow_trees(KINDS[kind], trees, seed), grow_publicly(KINDS[kind], trees, seed)
    assert len(grown) == trees
    for one, other in zip(grown, public, strict=True):
        for name in ("children_left", "children_right", "feature", "threshold", "n_node_samples"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_the_installed_builder_is_known(asked_anew: None) -> None:
    assert builder_is_known()


def other_trees(x: Any, trees: int, seed: int) -> list[Any]:
    return grow_publicly(x, trees, seed + 1)


def gone(x: Any, trees: int, seed: int) -> list[Any]:
    raise ImportError("cannot import name 'RandomSplitter'")


def changed(x: Any, trees: int, seed: int) -> list[Any]:
    raise TypeError("__cinit__() takes exactly 7 positional arguments")


@pytest.mark.parametrize("builder", [other_trees, gone, changed])
def test_a_builder_that_differs_is_not_used(asked_anew: None, monkeypatch: pytest.MonkeyPatch, builder: Any) -> None:
    wanted = fit_forest(KINDS["lognormal"])
    builder_is_known.cache_clear()
    monkeypatch.setattr(forest_fit, "grow_trees", builder)
    assert not builder_is_known()
    forest = fit_forest(KINDS["lognormal"])
    assert forest.to_bytes() == wanted.to_bytes()
