"""Estimators that start from a pretrained model: its people memory, and its tokens."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcm_scale import ConnectomeFeatures, LCMClassifier, LCMRegressor, load_model
from lcm_scale.config import Recipe
from lcm_scale.inference.predictor import Reading
from lcm_scale.model.lcm import model_input
from lcm_scale.training import fit as run
from lcm_scale.training import remember
from lcm_scale.training.prepare import PreparedRun, prepare
from lcm_scale.weights import checkpoints
from lcm_scale.weights.hub import export_hub

REGIONS = 12


@dataclass(frozen=True)
class Lab:
    """A model, and other people.  Attributes: fc: (n, R, R).   age, sex, person: (n,)."""

    model: Path
    prepared: PreparedRun
    fc: np.ndarray
    age: np.ndarray
    sex: np.ndarray
    person: np.ndarray


@pytest.fixture
def lab(recipe: Callable[..., Recipe], make_set: Callable[..., None], tmp_path: Path) -> Lab:
    memory = ("model.people_memory=linear", "phases=[{name: one, epochs: 1}]")
    model = run.pretrain(recipe(*memory, "name=pre"))
    of_lab = ["simulation.subjects=40", "simulation.seed=8", "simulation.missing_labels=0"]
    make_set(tmp_path, "lab", [*of_lab, "simulation.first_subject=80001", "connectivity.window=20"])
    own = f"data.shards_dir={tmp_path}/shards"
    prepared = prepare(recipe(*memory, "name=tune", own, "data=lab", f"init_from={model}"))
    sets = prepared.opened.sets
    edges = prepared.opened.source.gather(np.arange(sets.n_scans)).astype(np.float32)
    rows, columns = np.triu_indices(REGIONS, 1)
    fc = np.zeros((len(edges), REGIONS, REGIONS), np.float32)
    fc[:, rows, columns] = fc[:, columns, rows] = edges
    age, sex = (sets.labels[:, sets.vocabulary.names.index(name)] for name in ("age", "sex"))
    words = np.array(["M", "F"])[sex.astype(int)]
    return Lab(model, prepared, fc + np.eye(REGIONS, dtype=np.float32), age, words, sets.together)


def test_answers_are_those_of_a_run_that_starts_from_the_model(lab: Lab) -> None:
    scans = np.arange(len(lab.fc))
    prior = remember.prior_of(lab.prepared)
    plain = remember._fit(lab.prepared, ("sex", "age"), scans, prior)
    rows, columns = np.triu_indices(REGIONS, 1)
    theirs = plain.scores(lab.fc[:, rows, columns])
    seed = lab.prepared.recipe.seed
    ours = LCMRegressor(pretrained=lab.model, random_state=seed)
    ours.fit(lab.fc, lab.age, groups=lab.person)
    assert ours.share_ == plain.targets["age"].choice.share > 0
    assert np.allclose(ours.predict(lab.fc), theirs["age"][:, 0], rtol=1e-6)
    assert np.array_equal(pickle.loads(pickle.dumps(ours)).predict(lab.fc), ours.predict(lab.fc))
    both = LCMRegressor(pretrained=lab.model, random_state=seed, decoder=True, epochs=3)
    both.fit(lab.fc, lab.age, groups=lab.person)
    assert both.whole_ is not None and both.whole_.target == "age"
    assert both.whole_.model.meaning.unknown_subjects, "arrays have no ids to look up"
    assert np.corrcoef(both.predict(lab.fc), ours.predict(lab.fc))[0, 1] > 0.9
    alone = LCMRegressor(random_state=seed).fit(lab.fc, lab.age, groups=lab.person)
    assert not np.allclose(alone.predict(lab.fc), ours.predict(lab.fc), rtol=1e-3)
    of_sex = LCMClassifier(pretrained=lab.model, random_state=seed)
    of_sex.fit(lab.fc, lab.sex, groups=lab.person)
    assert of_sex.share_ > 0 and list(of_sex.classes_) == ["F", "M"]
    expected = theirs["sex"][:, 0] - theirs["sex"][:, 1]
    found = np.log(of_sex.predict_proba(lab.fc))
    assert np.allclose(found[:, 1] - found[:, 0], expected, rtol=1e-3, atol=1e-3)


def test_adapters_tokens_or_all_of_a_pretrained_decoder_are_trained(lab: Lab) -> None:
    start = checkpoints.load(lab.model).state
    stood = {}
    for part in ("all", "tokens", "lora"):
        made = LCMRegressor(pretrained=lab.model, decoder=True, epochs=3, trainable=part)
        whole = made.fit(lab.fc[:24], lab.age[:24]).whole_
        assert whole is not None
        found = whole.model.state_dict()
        names = ("embedding.linear.weight", "layers.0.linear1.weight", "norm.weight")
        stood[part] = [torch.equal(found[name], start[name]) for name in names]
        assert not any("lora" in name for name in found), "merged"
    assert stood == {
        "all": [False, False, False],
        "tokens": [True, True, False],
        "lora": [True, False, False],
    }
    for made in (
        LCMRegressor(pretrained=lab.model, trainable="lora"),
        LCMRegressor(decoder=True, trainable="lora"),
    ):
        with pytest.raises(ValueError, match=r"^trainable='lora': of what\? set decoder=True and"):
            made.fit(lab.fc, lab.age)
    with pytest.raises(ValueError, match="did you mean 'lora'"):
        LCMRegressor(pretrained=lab.model, decoder=True, epochs=3, trainable="lorra").fit(
            lab.fc, lab.age
        )


def test_an_exported_folder_and_another_order_of_regions(lab: Lab, tmp_path: Path) -> None:
    few = slice(0, 16)
    folder = export_hub(lab.model, tmp_path / "given")
    first = LCMRegressor(pretrained=lab.model).fit(lab.fc[few], lab.age[few])
    again = LCMRegressor(pretrained=folder).fit(lab.fc[few], lab.age[few])
    assert np.allclose(again.predict(lab.fc), first.predict(lab.fc), rtol=1e-5)
    atlas = lab.prepared.opened.sets.atlas
    order = np.random.default_rng(0).permutation(REGIONS)
    table = tmp_path / "mine.csv"
    table.write_text(
        "index,name\n" + "".join(f"{atlas.indices[i]},{atlas.names[i]}\n" for i in order)
    )
    moved = lab.fc[:, order][:, :, order]
    there = LCMRegressor(pretrained=folder, atlas=str(table)).fit(moved[few], lab.age[few])
    assert there.share_ > 0
    assert np.allclose(there.predict(moved), first.predict(lab.fc), rtol=1e-4)


def test_a_model_that_does_not_know_what_is_asked_is_refused(
    lab: Lab, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    without = run.pretrain(recipe("name=without", "trainer.max_steps=1"))
    for made, y, words in (
        (LCMClassifier(pretrained=lab.model), lab.age > 40, "no target is the classes False, True"),
        (LCMRegressor(pretrained=lab.model, target="agee"), lab.age, "'agee', did you mean 'age'"),
        (LCMRegressor(pretrained=without), lab.age, "without people memory"),
        (LCMRegressor(pretrained=tmp_path), lab.age, "no checkpoint there"),
        (LCMRegressor(target="age"), lab.age, "set pretrained"),
    ):
        with pytest.raises(ValueError, match=words):
            made.fit(lab.fc, y)
    with pytest.raises(ValueError, match=r"a model of the 12 regions .* X holds 11 regions"):
        LCMRegressor(pretrained=lab.model).fit(lab.fc[:, :11, :11], lab.age)
    with pytest.raises(ValueError, match="X holds columns"):
        LCMRegressor(pretrained=lab.model).fit(lab.fc[:, 0], lab.age)
    series = list(np.random.default_rng(0).normal(size=(80, 30, REGIONS)))
    with pytest.raises(ValueError, match=r"kind='ledoit-wolf'.* was trained on pearson"):
        LCMRegressor(pretrained=lab.model, kind="ledoit-wolf").fit(series, lab.age)


def test_tokens_are_what_the_readout_reads(lab: Lab, tmp_path: Path) -> None:
    made = ConnectomeFeatures(features="embedding", pretrained=lab.model, device="cpu")
    found = made.fit_transform(lab.fc)
    model: Any = load_model(export_hub(lab.model, tmp_path / "given"))
    reading = Reading.of(model.meaning)
    rows, columns = np.triu_indices(REGIONS, 1)
    edges = torch.from_numpy(lab.fc[:, rows, columns])
    with torch.no_grad():
        logits = model(model_input(edges, reading.edges, REGIONS), reading.active)[-1]
        tokens = torch.from_numpy(found).view(len(edges), logits.shape[1], -1)
        assert torch.allclose(model.readout(tokens).squeeze(-1), logits, atol=1e-5)
    names = made.get_feature_names_out()
    assert names[0] == "diagnosis: N/A 0" and names[-1] == "age 15" and len(names) == found.shape[1]
    assert np.array_equal(pickle.loads(pickle.dumps(made)).transform(lab.fc), found)
    half = ConnectomeFeatures(features="embedding", pretrained=lab.model, precision="bf16")
    assert 0 < np.abs(half.fit_transform(lab.fc) - found).max() < 0.1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"features": "embedding"}, "set pretrained"),
        ({"features": "edges", "pretrained": "x"}, "are of no model"),
        ({"features": "embedding", "pretrained": "x", "device": "gpu"}, "device='gpu' .one of"),
        ({"features": "embedding", "pretrained": "x", "precision": "fp8"}, "precision='fp8'"),
    ],
)
def test_features_of_a_model_that_make_no_sense(
    words: dict[str, str], said: str, people: Any
) -> None:
    with pytest.raises(ValueError, match=said):
        ConnectomeFeatures(**words).fit(people.fc)
