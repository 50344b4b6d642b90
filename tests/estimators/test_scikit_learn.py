"""The estimators among scikit-learn's tools: its own checks, pipelines, searches, folds by person,
copies, routed metadata, pandas."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedGroupKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lcm_scale import ConnectomeFeatures, LCMClassifier, LCMRegressor
from lcm_scale.linear import size

CHECKS = """
import json, sys, warnings
from sklearn.utils.estimator_checks import check_estimator
import lcm_scale
warnings.simplefilter("ignore")
made = getattr(lcm_scale, sys.argv[1])(**json.loads(sys.argv[2]))
for found in check_estimator(made, on_fail=None, on_skip=None):
    print(json.dumps([found["check_name"], found["status"], str(found["exception"])]))
"""
# scikit-learn's name of a check -> why it cannot pass; of all estimators.
EXPECTED_TO_FAIL: dict[str, str] = {}


@pytest.mark.parametrize("name", ["LCMClassifier", "LCMRegressor", "ConnectomeFeatures"])
def test_every_check_of_scikit_learn_is_run_and_passed(name: str) -> None:
    """In an interpreter of its own: SciPy reads that variable when it is imported, and one check is
    skipped without."""
    done = subprocess.run(
        [sys.executable, "-c", CHECKS, name, "{}"],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    counts = Counter(status for _, status, _ in found)
    print(
        f"{name}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"
    )
    others = {check: why for check, status, why in found if status != "passed"}
    assert others.keys() == EXPECTED_TO_FAIL.keys(), others
    assert counts["passed"] > 40 and not counts["skipped"]


def test_series_matrices_and_lists_of_matrices_are_one_thing(people: Any) -> None:
    first = LCMClassifier().fit(people.series, people.group, groups=people.person)
    expected = first.predict_proba(people.series)
    assert first.score(people.series, people.group) > 0.9
    for given in (people.fc, list(people.fc), people.fc.astype(np.float32)):
        other = LCMClassifier().fit(given, people.group, groups=people.person)
        assert np.allclose(other.predict_proba(given), expected, atol=1e-4)
        assert np.allclose(first.predict_proba(given), expected, atol=1e-4)
    assert first.n_features_in_ == people.fc.shape[1]


def test_folds_by_person_and_what_a_fold_is_told(people: Any) -> None:
    """Without routing, scikit-learn hands `params` to fit; `groups` alone goes to the folds."""
    scores = cross_val_score(
        LCMRegressor(),
        people.series,
        people.age,
        groups=people.person,
        cv=GroupKFold(5),
        params={"groups": people.person},
        scoring="r2",
    )
    assert scores.mean() > 0.4


def test_people_decide_the_inner_folds(people: Any) -> None:
    """Answers that nothing tells but who it is: with the people known the inner folds see that."""
    rng = np.random.default_rng(1)
    marks = rng.normal(size=(30, 50))[people.person] + 0.1 * rng.normal(size=(60, 50))
    number = rng.permutation(30)[people.person] - 15.0
    told = LCMRegressor().fit(marks, number, groups=people.person)
    untold = LCMRegressor().fit(marks, number)
    inner = [each.memory_.targets["y"].choice.held_out[:, 0] for each in (told, untold)]
    assert np.corrcoef(inner[0], number)[0, 1] < 0.3
    assert np.corrcoef(inner[1], number)[0, 1] > 0.8


def test_a_pipeline_a_search_and_copies(people: Any) -> None:
    columns = people.fc[:, *np.triu_indices(8, 1)]
    pipeline = make_pipeline(StandardScaler(), LCMClassifier())
    assert pipeline.fit(columns, people.group).score(columns, people.group) > 0.9
    search = GridSearchCV(
        make_pipeline(ConnectomeFeatures(), LogisticRegression()),
        {
            "connectomefeatures__features": ["edges", "tangent"],
            "connectomefeatures__kind": ["pearson", "ledoit-wolf"],
        },
        cv=StratifiedGroupKFold(3),
        error_score="raise",
    )
    search.fit(people.series, people.group, groups=people.person)
    assert search.best_score_ > 0.8
    tuned = GridSearchCV(
        LCMClassifier(), {"kind": ["pearson", "ledoit-wolf"]}, cv=StratifiedGroupKFold(3)
    )
    tuned.fit(people.series, people.group, groups=people.person)
    kept = pickle.loads(pickle.dumps(tuned.best_estimator_))
    assert np.array_equal(kept.predict_proba(people.fc), tuned.predict_proba(people.fc))
    made = LCMRegressor(kind="ledoit-wolf", random_state=3, verbose=1)
    assert clone(made).get_params() == made.get_params()


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_people_and_context_are_routed(people: Any, routing: None) -> None:
    pd = pytest.importorskip("pandas")
    context = pd.DataFrame({"site": np.repeat(["A", "B", "C"], 20), "fd": people.person / 100})
    asked = LCMClassifier().set_fit_request(groups=True, context=True)
    asked = asked.set_score_request(context=True)
    found = cross_validate(
        make_pipeline(asked),
        people.series,
        people.group,
        params={"groups": people.person, "context": context},
        cv=StratifiedGroupKFold(3),
        error_score="raise",
        return_estimator=True,
    )
    memory = found["estimator"][0][-1].memory_
    assert [column.name for column in memory.context] == ["site", "fd"]
    assert [bool(column.categories) for column in memory.context] == [True, False]
    search = GridSearchCV(
        asked, {"random_state": [0, 1]}, cv=StratifiedGroupKFold(3), error_score="raise"
    ).fit(people.series, people.group, groups=people.person, context=context)
    assert search.best_score_ > 0.8


def test_context_is_used_where_it_tells(people: Any) -> None:
    rng = np.random.default_rng(2)
    age = rng.uniform(20, 60, 60)
    known = {"years": list(age + 1), "scanner": rng.choice(["A", "B"], 60)}
    told = LCMRegressor().fit(people.fc, age, context=known)
    assert told.score(people.fc, age, context=known) > 0.9 > told.score(people.fc, age)
    known["years"] = [None] * 60
    assert np.allclose(told.predict(people.fc, context=known), told.predict(people.fc))


def test_columns_have_names_and_pandas_takes_them(people: Any) -> None:
    pd = pytest.importorskip("pandas")
    made = ConnectomeFeatures(features="tangent").set_output(transform="pandas")
    found = made.fit_transform(people.series)
    assert isinstance(found, pd.DataFrame) and found.shape == (60, 36)
    assert list(found.columns[:2]) == ["r0 - r0", "r0 - r1"]
    assert np.allclose(found, made.transform(people.fc), atol=1e-5)
    edges = ConnectomeFeatures(atlas="toy:8").fit(people.fc)
    assert edges.get_feature_names_out()[-1] == "region 7 - region 8"
    rows, columns = np.triu_indices(8, 1)
    assert np.allclose(edges.transform(people.series), people.fc[:, rows, columns], atol=1e-6)


def test_tangent_vectors_are_nilearns(people: Any) -> None:
    """About the same reference, of matrices that are shrunk the same."""
    from lcm_scale.linear.tangent import TangentSpace, positive_definite

    edges = people.fc[:, *np.triu_indices(8, 1)]
    found = ConnectomeFeatures(features="tangent").fit_transform(people.fc)
    space = TangentSpace.about(positive_definite(edges))
    assert np.allclose(found, space.vectors(edges), atol=1e-5)


def test_nilearns_matrices_are_taken(people: Any) -> None:
    measure = pytest.importorskip("nilearn.connectome").ConnectivityMeasure(
        kind="correlation", standardize=True
    )
    pipeline = make_pipeline(measure, LCMClassifier())
    assert pipeline.fit(people.series, people.group).score(people.series, people.group) > 0.9


@pytest.mark.parametrize("columns", [False, True])
def test_many_scans_are_learnt_from_by_landmarks(
    columns: bool, people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where everybody is one, the answers are those of all with all."""
    X = people.fc[:, *np.triu_indices(8, 1)] if columns else people.fc
    fit = {"X": X, "y": people.group, "groups": people.person}
    expected = LCMClassifier().fit(**fit).predict_proba(X)
    monkeypatch.setattr(size, "MOST_SCANS", 40)
    monkeypatch.setattr(size, "LANDMARKS", 60)
    assert np.allclose(LCMClassifier().fit(**fit).predict_proba(X), expected, atol=1e-4)
    monkeypatch.setattr(size, "LANDMARKS", 16)
    some = LCMClassifier().fit(**fit)
    assert some.score(X, people.group) > 0.9
    assert not np.allclose(some.predict_proba(X), expected, atol=1e-3)
