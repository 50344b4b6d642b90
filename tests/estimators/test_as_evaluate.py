"""The estimators answer what `lcm-scale evaluate` answers in its row `people memory`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcm_scale import LCMClassifier, LCMRegressor
from lcm_scale.config import Recipe
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.vocabulary import NOT_APPLICABLE

REGIONS = 12


def matrices(edges: np.ndarray) -> np.ndarray:
    rows, columns = np.triu_indices(REGIONS, 1)
    found = np.zeros((len(edges), REGIONS, REGIONS), edges.dtype)
    found[:, rows, columns] = edges
    return found + found.swapaxes(1, 2) + np.eye(REGIONS, dtype=edges.dtype)


@pytest.mark.parametrize(("target", "told"), [("diagnosis", ["age", "sex"]), ("age", [])])
def test_answers_are_those_of_evaluate(
    target: str,
    told: list[str],
    recipe: Callable[..., Recipe],
    make_set: Callable[..., None],
    tmp_path: Path,
) -> None:
    make_set(
        tmp_path,
        "told",
        [
            "simulation.subjects=60",
            "connectivity.window=20",
            "simulation.missing_labels=0",
            "simulation.seed=5",
        ],
    )
    prepared = prepare_evaluation(
        recipe(
            "name=eval",
            f"data.shards_dir={tmp_path}/shards",
            "data=told",
            "data.validation=0.2",
            "model.people_memory=linear",
            f"model.context=[{', '.join(told)}]",
            "phases=[{name: one, epochs: 1}]",
            f"evaluate.targets=[{target}]",
            f"evaluate.target={target}",
            "evaluate.folds=3",
            "evaluate.bootstrap=20",
            "evaluate.baselines=[linear]",
        )
    )
    (measured,) = crossvalidate.evaluate(prepared).targets
    theirs = next(p for p in measured.predictions if p.model == "people memory")
    sets = prepared.opened.sets
    fc = matrices(prepared.opened.source.gather(np.arange(sets.n_scans)).astype(np.float32))
    truth = sets.labels[:, sets.vocabulary.names.index(target)]
    sexes, ages = (sets.labels[:, sets.vocabulary.names.index(n)] for n in ("sex", "age"))
    known = {"age": ages, "sex": np.array(["M", "F"])[sexes.astype(int)]}
    for number, (fold, (run,)) in enumerate(zip(prepared.folds, prepared.runs, strict=True), 1):
        train, test = np.sort(np.r_[run.train, run.validation]), prepared.scans[fold.test]
        kind = LCMRegressor if target == "age" else LCMClassifier
        ours = kind(random_state=run.recipe.seed)
        context = [{name: known[name][scans] for name in told} for scans in (train, test)]
        ours.fit(fc[train], truth[train], groups=sets.together[train], context=context[0])
        own = theirs.fold == number
        assert np.array_equal(theirs.scan[own], test)
        if target == "age":
            assert np.allclose(ours.predict(fc[test]), theirs.scores[own], rtol=1e-4)
        else:
            # Neither knows of a scan without the group: nobody is.
            asked = [c for c in sets.vocabulary["diagnosis"].categories if c != NOT_APPLICABLE]
            assert theirs.categories == tuple(asked)
            found = ours.predict_proba(fc[test], context[1])
            assert np.allclose(found, theirs.scores[own], atol=1e-4)
            assert found.std() > 0.01
