from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.detection.forest import FlatForest, ForestBank, score_many
from shared.detection.forest_fit import fit_forest


def fitted(features: np.ndarray, trees: int = 100, seed: int = 42) -> object:
    return make_pipeline(StandardScaler(), IsolationForest(n_estimators=trees, random_state=seed)).fit(features)


@pytest.mark.parametrize("kind", ["lognormal", "constant column", "constant", "two rows", "ties", "huge"])
def test_scores_equal_scikit_learn(kind: str) -> None:
    source = np.random.default_rng(3)
    features = {
        "lognormal": source.lognormal(size=(500, 5)),
        "constant column": np.hstack([source.lognormal(size=(300, 4)), np.ones((300, 1))]),
        "constant": np.ones((50, 5)),
        "two rows": source.lognormal(size=(2, 5)),
        "ties": source.integers(0, 3, size=(400, 5)).astype(float),
        "huge": source.lognormal(size=(100, 5)) * 1e15,
    }[kind]
    model = fitted(features)
    forest = fit_forest(features, 100, 42)
    fresh = np.vstack([features, source.lognormal(size=(400, 5)) * features.mean(axis=0), np.zeros((1, 5))])
    assert np.abs(forest.score(fresh) - model.score_samples(fresh)).max() <= 1e-12  # type: ignore[attr-defined]


def test_many_forests_in_lockstep_equal_each_alone() -> None:
    source = np.random.default_rng(4)
    forests = [fit_forest(source.lognormal(size=(40 + 30 * i, 5)), 7 + i, i) for i in range(6)]
    rows = source.lognormal(size=(6, 5))
    alone = [forest.score(row[None, :])[0] for forest, row in zip(forests, rows, strict=True)]
    assert np.abs(score_many(forests, rows) - alone).max() <= 1e-12
    assert len(ForestBank(forests)) == 6


def test_long_inputs_are_scored_in_parts() -> None:
    source = np.random.default_rng(5)
    forest = fit_forest(source.lognormal(size=(60, 5)), 100, 0)
    rows = source.lognormal(size=(2000, 5))
    assert np.array_equal(forest.score(rows)[1500:1501], forest.score(rows[1500:1501])) or np.allclose(
        forest.score(rows)[1500:1501], forest.score(rows[1500:1501]), rtol=0, atol=1e-15
    )
    assert forest.score(np.empty((0, 5))).shape == (0,)


SMALL = fit_forest(np.random.default_rng(6).lognormal(size=(64, 5)), 5, 1)
BLOB = SMALL.to_bytes()


def test_stored_and_read_back_it_scores_the_same() -> None:
    rows = np.random.default_rng(7).lognormal(size=(50, 5))
    again = FlatForest.from_bytes(BLOB)
    assert np.array_equal(again.score(rows), SMALL.score(rows))
    assert (again.trees, again.samples, again.to_bytes()) == (5, 64, BLOB)


@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255))
def test_any_damaged_byte_is_noticed(at: int, change: int) -> None:
    damaged = bytearray(BLOB)
    damaged[at] ^= change
    with pytest.raises(ValueError):
        FlatForest.from_bytes(bytes(damaged))


@given(st.one_of(st.binary(max_size=200), st.integers(0, len(BLOB) - 1).map(lambda n: BLOB[:n])))
def test_anything_else_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError):
        FlatForest.from_bytes(blob)


@given(st.lists(st.floats(), min_size=5, max_size=5))
def test_every_float_is_scored_or_refused(row: list[float]) -> None:
    if np.isfinite(row).all():
        assert -1.0 <= SMALL.score([row])[0] < 0.0
    else:
        with pytest.raises(ValueError, match="finite"):
            SMALL.score([row])


def test_refuses_shapes_it_was_not_fitted_for() -> None:
    with pytest.raises(ValueError, match="shape"):
        SMALL.score([[1.0, 2.0]])
    with pytest.raises(ValueError, match="shape"):
        ForestBank([SMALL]).score([[1.0] * 5] * 2)
    with pytest.raises(ValueError):
        ForestBank([])
    with pytest.raises(ValueError):
        fit_forest([[1.0] * 5])


@pytest.mark.recorded
def test_recorded_windows_score_as_scikit_learn(recorded_dir: Path) -> None:
    with gzip.open(next((recorded_dir / "windows").glob("*.csv.gz")), "rt") as lines:
        rows = np.genfromtxt(lines, delimiter=",", skip_header=1, usecols=range(1, 6))
    model = fitted(rows[:500])
    scores = fit_forest(rows[:500]).score(rows)
    assert np.abs(scores - model.score_samples(rows)).max() <= 1e-12  # type: ignore[attr-defined]
