"""People memory of a run (`model.people_memory: linear`, and `people_memory: rbf`): when its file is
there, when it is not, and whom it knows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.linear import size
from lcm_scale.model.lcm import LCM
from lcm_scale.training import fit as run
from lcm_scale.training import remember
from lcm_scale.training.folder import run_folder
from lcm_scale.training.prepare import PreparedRun, prepare
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
MEMORY = ("model.people_memory=linear", "data.validation=0.2", "phases=[{name: one, epochs: 2}]")


def people(path: Path) -> dict[str, torch.Tensor]:
    state = checkpoints.load(path).state
    return {name: value for name, value in state.items() if name.startswith("people.")}


def not_again(*args: object) -> None:
    raise AssertionError("fitted anew")


def test_a_finished_run_has_a_memory_which_is_fitted_once(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run.pretrain(recipe(*MEMORY))
    final = folder / "checkpoints" / checkpoints.FINAL
    assert checkpoints.find(folder) == final
    best = checkpoints.load(folder / "checkpoints" / checkpoints.BEST)
    found = checkpoints.load(final)
    assert found.model == replace(best.model, people_memory=True)
    assert all(torch.equal(found.state[name], value) for name, value in best.state.items())
    assert people(final)["people.knows"].sum() == len(found.vocabulary.names)
    monkeypatch.setattr(remember, "fit_memory", not_again)
    assert run.pretrain(recipe(*MEMORY)) == folder and checkpoints.find(folder) == final


def test_a_memory_that_never_saw_the_validation_people_is_kept_where_asked(recipe: Make) -> None:
    """Their labels exchanged: the memory without them is the same, the final one another."""
    ready = replace(prepare(recipe("name=one", *MEMORY)), keep_unseen=True)
    labels = ready.opened.sets.labels.copy()
    labels[ready.validation] = labels[ready.validation][::-1]
    sets = replace(ready.opened.sets, labels=labels)
    other = replace(
        prepare(recipe("name=two", *MEMORY)),
        keep_unseen=True,
        opened=replace(ready.opened, sets=sets),
    )
    found = [run.fit(each).checkpoint for each in (ready, other)]
    weights = [people(path.with_name(checkpoints.UNSEEN)) for path in found]
    gates = {name for name in weights[0] if "gate" in name}
    assert gates < set(weights[0])
    for name in set(weights[0]) - gates:
        assert torch.equal(weights[0][name], weights[1][name]), name
    whole = [people(path) for path in found]
    assert any(not torch.equal(whole[0][name], whole[1][name]) for name in set(whole[0]) - gates)
    assert checkpoints.find(found[0].parents[1]) == found[0]  # never the one without them
    plain = run.fit(prepare(recipe("name=three", *MEMORY))).checkpoint
    assert not plain.with_name(checkpoints.UNSEEN).exists()
    later = run.fit(replace(prepare(recipe("name=three", *MEMORY)), keep_unseen=True)).checkpoint
    assert later.with_name(checkpoints.UNSEEN).is_file()


def test_a_run_that_is_trained_further_forgets_first(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A final checkpoint of earlier weights must not stand for later ones, also where the longer
    run is stopped."""
    folder = run.pretrain(recipe(*MEMORY, "trainer.max_steps=2"))
    final = folder / "checkpoints" / checkpoints.FINAL
    before = checkpoints.load(final).state["readout.weight"].clone()
    there: list[bool] = []
    real = L.Trainer.fit

    def fit(*args: Any, **words: Any) -> None:
        there.append(final.exists())
        real(*args, **words)

    monkeypatch.setattr(L.Trainer, "fit", fit)
    run.pretrain(recipe(*MEMORY))
    assert there == [False]
    assert not torch.equal(checkpoints.load(final).state["readout.weight"], before)


@pytest.mark.parametrize("memory", ["none", "linear"])
def test_another_run_starts_from_its_decoder_and_remembers_its_own_people(
    memory: str, recipe: Make
) -> None:
    start = run.pretrain(recipe(*MEMORY, "name=pre"))
    words = (
        "name=tune",
        "data=second",
        f"init_from={start}",
        "phases=[{name: tune, epochs: 1}]",
        "trainer.max_steps=1",
        "optim.adaptive.lr=0.0",
        f"model.people_memory={memory}",
    )
    tuned = checkpoints.find(run.finetune(recipe(*words)))
    own, theirs = checkpoints.load(tuned), checkpoints.load(start)
    assert torch.equal(own.state["readout.weight"], theirs.state["readout.weight"])
    assert own.model.people_memory == (memory == "linear") == bool(people(tuned))
    if memory == "linear":
        whitening = people(tuned)["people.whitening"]
        assert not torch.equal(whitening, theirs.state["people.whitening"])


def test_a_pretrained_memory_is_what_the_own_one_starts_from(recipe: Make, tmp_path: Path) -> None:
    """Numbers are those of the plain memory that is given the pretrained one; of a run that starts
    from such a run, both stay."""
    start = run.pretrain(recipe(*MEMORY, "name=pre", "model.context=[age]"))
    words = (*MEMORY, "data=second", "optim.adaptive.lr=0.0")
    usual = recipe(*words, "name=tune", f"init_from={start}")
    tuned = run.finetune(usual)
    model, before = (checkpoints.load(checkpoints.find(path)) for path in (tuned, start))
    assert model.model.priors == 1
    assert torch.equal(model.state["people.prior_whitening"][0], before.state["people.whitening"])
    prepared = prepare(usual)
    scans = remember.remembered(prepared)
    plain = remember._fit(prepared, model.active, scans, remember.prior_of(prepared))
    edges = prepared.opened.source.gather(scans).astype(np.float32)
    network = LCM(model.model)
    network.load_state_dict(dict(model.state))
    with torch.no_grad():
        found = network.people(torch.from_numpy(edges))  # type: ignore[misc]
    parts = found.split(model.model.target_tokens, dim=1)
    shares = set()
    for name, expected in plain.scores(edges).items():
        ours = parts[model.vocabulary.names.index(name)].numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=2e-2, err_msg=name)
        shares.add(plain.targets[name].choice.share)
    assert max(shares) > 0
    assert {name for name, target in plain.targets.items() if target.prior} >= {"sex", "age"}
    again = run.finetune(recipe(*words, "name=anew", f"init_from={start}", "model={prior: none}"))
    assert checkpoints.load(checkpoints.find(again)).model.priors == 0


def test_a_model_that_saw_the_people_is_no_prior_and_that_is_said(
    recipe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    start = run.pretrain(recipe(*MEMORY, "name=pre"))
    tuned = run.finetune(recipe(*MEMORY, "name=tune", f"init_from={start}", "trainer.max_steps=1"))
    assert checkpoints.load(checkpoints.find(tuned)).model.priors == 0
    assert "people memory starts anew: the model that the run starts from saw" in (
        capsys.readouterr().out
    )


def test_the_radial_form_keeps_its_people_and_says_so_and_is_no_prior(
    recipe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*MEMORY, "model.people_memory=rbf")
    own = recipe(*words, "name=kept", "trainer.max_steps=2")
    folder = run.pretrain(own)
    model = checkpoints.load(checkpoints.find(folder))
    prepared = prepare(own)
    scans = remember.remembered(prepared)
    people_seen = len(np.unique(prepared.opened.sets.together[scans]))
    assert (model.model.kept_scans, model.model.kept_people) == (len(scans), people_seen)
    assert people(checkpoints.find(folder))["people.kept_vectors"].shape[0] == len(scans)
    assert "the checkpoint is personal data" in capsys.readouterr().out
    tuned = run.finetune(recipe(*MEMORY, "name=tune", "data=second", f"init_from={folder}"))
    found = checkpoints.load(checkpoints.find(tuned)).model
    assert (found.priors, found.kept_scans) == (0, 0)
    assert "keeps people (model.people_memory=rbf) and has no weights" in capsys.readouterr().out


def test_what_is_known_beside_the_matrix_is_written_and_told(recipe: Make) -> None:
    found = checkpoints.find(run.pretrain(recipe(*MEMORY, "name=told", "model.context=[age]")))
    model = checkpoints.load(found)
    (age,) = model.context
    assert age.name == "age" and not age.categories and 20 < age.centre < 70
    assert model.model.context == (0,) and people(found)["people.own"].shape[0] == 1
    with pytest.raises(InputError, match=r"nothing is known as 'agee', did you mean 'age'"):
        prepare(recipe(*MEMORY, "name=no", "model.context=[agee]"))
    with pytest.raises(InputError, match=r"set model\.people_memory=linear"):
        prepare(recipe("name=no", "model.context=[age]"))


def elsewhere(prepared: PreparedRun, folder: Path, held: np.ndarray) -> PreparedRun:
    """The same run in another folder, had the held-out scans other matrices and labels."""
    opened = prepared.opened
    edges, labels = opened.source.edges.copy(), opened.sets.labels.copy()  # type: ignore[union-attr]
    edges[held] = -edges[held] / 2
    labels[held] = np.where(np.isfinite(labels[held]), 1 - labels[held], 1)
    sets = replace(opened.sets, labels=labels)
    source = opened.source.holding(edges)  # type: ignore[union-attr]
    return replace(prepared, folder=folder, opened=replace(opened, sets=sets, source=source))


@pytest.mark.parametrize(
    ("context", "form"), [("[]", "linear"), ("[age]", "linear"), ("[]", "rbf")]
)
def test_no_held_out_scan_enters(context: str, form: str, recipe: Make, tmp_path: Path) -> None:
    folds = ("name=eval", "evaluate.folds=3", "evaluate.stratify=diagnosis")
    words = (*folds, *MEMORY, f"model.context={context}", f"model.people_memory={form}")
    whole = prepare_evaluation(recipe(*words))
    usual, held = whole.runs[0][0], whole.scans[whole.folds[0].test]
    first = people(run.fit(usual).checkpoint)
    second = people(run.fit(elsewhere(usual, tmp_path / "other", held)).checkpoint)
    assert first and all(torch.equal(second[name], value) for name, value in first.items())
    other = elsewhere(usual, tmp_path / "third", usual.train[:3])
    other = replace(other, opened=replace(other.opened, sets=usual.opened.sets))
    third = people(run.fit(other).checkpoint)
    weight = "people.weight" if form == "linear" else "people.kept_weight"
    assert not torch.equal(third[weight], first[weight])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_memory_that_has_no_room_is_told_and_the_decoder_stays(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held where it happens and raised where all ranks meet (`training.together`)."""
    met: list[bool] = []
    real = run.Together.agree

    def agree(self: run.Together, strategy: Any) -> None:
        met.append(self.held is not None)
        real(self, strategy)

    monkeypatch.setattr(run.Together, "agree", agree)
    write = checkpoints.write_file

    def full(data: dict[str, Any], path: Path) -> None:
        if path.name == checkpoints.FINAL:
            path.with_name(f".{path.name}.{os.getpid()}.partial").symlink_to("/dev/full")
        write(data, path)

    monkeypatch.setattr(checkpoints, "write_file", full)
    with pytest.raises(InputError, match=r"final\.ckpt: cannot be written \(No space left"):
        run.pretrain(recipe(*MEMORY))
    assert met[-1], "every rank comes to the meeting"
    monkeypatch.undo()
    folder = run_folder(recipe(*MEMORY))
    assert checkpoints.find(folder).name == checkpoints.BEST
    run.pretrain(recipe(*MEMORY))
    assert checkpoints.find(folder).name == checkpoints.FINAL


def test_above_the_most_scans_all_learn_by_landmarks_and_that_is_said(
    recipe: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare(recipe(*MEMORY))
    everybody = remember.remembered(prepared)
    assert remember.sentence(prepared) == ""
    plain = remember._fit(prepared, ("age",), everybody, None)
    monkeypatch.setattr(size, "MOST_SCANS", 20)
    edges = prepared.opened.source.gather(everybody).astype(np.float32)
    expected = plain.scores(edges)["age"]
    whole = remember._fit(prepared, ("age",), everybody, None).scores(edges)["age"]
    np.testing.assert_allclose(whole, expected, rtol=1e-5)
    monkeypatch.setattr(size, "LANDMARKS", 20)
    few = remember._fit(prepared, ("age",), everybody, None).scores(edges)["age"]
    assert not np.allclose(few, expected, rtol=1e-3)
    run.fit(prepared)
    said = (
        f"people memory learns from {len(everybody)} scans, each compared with at most 20 landmarks"
    )
    assert said in capsys.readouterr().out


def test_matrices_without_a_tangent_space_are_refused_before_anything_is_trained(
    recipe: Make, make_set: Callable[[Path, str, list[str]], None], tmp_path: Path
) -> None:
    make_set(tmp_path, "partial", ["simulation.subjects=12", "connectivity.kind=partial"])
    made = recipe(*MEMORY, f"data.shards_dir={tmp_path}/shards", "data=partial")
    with pytest.raises(InputError, match="set partial holds partial ones"):
        prepare(made)
