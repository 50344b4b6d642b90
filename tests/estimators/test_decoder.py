"""`decoder=True`: the whole model of a run, trained on arrays."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from lcm_scale import LCMClassifier, LCMRegressor
from lcm_scale.config import Recipe, load
from lcm_scale.estimators import decoder
from lcm_scale.identity import SALT_VARIABLE
from lcm_scale.inference.predictor import PEOPLE, WHOLE, Reading, scores_of_parts
from lcm_scale.linear.context import Context

ROOT = Path(__file__).parents[2]

# The site tells the answer; its name means missing elsewhere.
SITE = np.repeat(np.arange(30) // 2 % 2, 2)
ANSWER = SITE
CONTEXT = {"site": np.array(["N/A", "b"])[SITE], "hours": np.r_[np.nan, np.arange(59.0)]}


def of(scans: slice) -> dict[str, np.ndarray]:
    return {name: values[scans] for name, values in CONTEXT.items()}


@pytest.fixture(scope="module")
def fitted(people: Any) -> LCMClassifier:
    """On 48 of 60 scans."""
    some = slice(0, 48)
    made = LCMClassifier(decoder=True, epochs=3, device="cpu")
    return made.fit(people.fc[some], ANSWER[some], people.person[some], of(some))


def test_answers_are_those_of_the_whole_model_and_can_be_pickled(
    people: Any, fitted: LCMClassifier
) -> None:
    rest = slice(48, 60)
    found = fitted.predict_proba(people.fc[rest], of(rest))
    assert found.shape == (12, 2) and np.allclose(found.sum(1), 1)
    assert fitted.score(people.fc[rest], ANSWER[rest], context=of(rest)) > 0.9
    again = pickle.loads(pickle.dumps(fitted)).predict_proba(people.fc[rest], of(rest))
    np.testing.assert_array_equal(again, found)
    assert np.abs(found - fitted.predict_proba(people.fc[rest])).max() > 1e-6, "context is told"
    # Its memory is the one that is fitted without a decoder.
    alone = clone(fitted).set_params(decoder=False)
    alone.fit(people.fc[:48], ANSWER[:48], people.person[:48], of(slice(0, 48)))
    whole, model = fitted.whole_, fitted.whole_.model
    rows, columns = np.triu_indices(people.fc.shape[1], 1)
    edges = torch.from_numpy(people.fc[rest][:, rows, columns]).float()
    told = torch.tensor(np.c_[SITE[rest], of(rest)["hours"]]).float()
    parts = scores_of_parts(model, Reading.of(model.meaning), edges, None, told)
    remembered = parts[PEOPLE][whole.target][:, -2:].softmax(1).numpy()  # the first is N/A
    expected = alone.predict_proba(people.fc[rest], of(rest))
    np.testing.assert_allclose(remembered, expected, atol=1e-4)
    both = parts[WHOLE][whole.target][:, -2:].softmax(1).numpy()
    np.testing.assert_allclose(both, found, atol=1e-6)


def test_the_same_seed_gives_the_same_model_and_nothing_is_left_or_said(
    people: Any,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SALT_VARIABLE, str(tmp_path / "own-salt"))
    made = [
        LCMRegressor(decoder=True, epochs=3, device="cpu", random_state=3)
        .fit(people.fc[:40], people.age[:40], people.person[:40])
        .predict(people.fc[40:])
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*made)
    assert not [*tmp_path.iterdir()]
    assert os.environ[SALT_VARIABLE] == str(tmp_path / "own-salt")
    out, err = capfd.readouterr()
    assert not out and "train" not in err


@pytest.mark.parametrize(
    ("parameters", "columns", "words"),
    [
        ({}, True, "decoder=True: X holds columns"),
        ({"epochs": 2}, False, "epochs=2: expected a whole number above 2"),
        ({"device": "tpu"}, False, "device='tpu'"),
        ({"precision": "fp8"}, False, "precision='fp8'"),
        ({"pretrained": "nowhere/at-all"}, False, "nowhere/at-all"),
    ],
)
def test_what_cannot_be_trained(
    people: Any, parameters: dict[str, Any], columns: bool, words: str
) -> None:
    X = people.fc[:, 0] if columns else people.fc
    with pytest.raises(ValueError, match=words):
        LCMClassifier(decoder=True, **parameters).fit(X, people.group, people.person)


def test_sizes_and_rates_are_those_of_the_small_data_recipe() -> None:
    """They stand in the source, so that editing the recipe changes no estimator."""
    wanted = load(Recipe, ROOT / "recipes" / "abide_small.yaml")
    said = decoder._recipe(LCMClassifier(), Context.nothing(2), np.arange(400), None, ROOT)
    made = load(Recipe, None, said)
    assert made.phases == wanted.phases and made.objective == wanted.objective
    assert made.optim == wanted.optim
    assert replace(made.model, context=[]) == replace(wanted.model, context=[])
    assert made.trainer.global_batch == wanted.trainer.global_batch
    assert made.data.edges == wanted.data.edges
