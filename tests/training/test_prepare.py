"""A dry run is `prepare` and nothing else: it finds what a run would stumble over, and writes
nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.training import fit as run
from lcm_scale.training.prepare import prepare, prepare_finetuning

Make = Callable[..., Recipe]


def files(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_that_fit_needs_is_made_once_and_stays(recipe: Make, tmp_path: Path) -> None:
    prepared = prepare(recipe("trainer.max_steps=7", "optim.schedule=wsd", "optim.decay_share=0.5"))
    assert prepared.epoch_steps == (5, 5, 5, 5)
    assert (prepared.total_steps, prepared.steps, prepared.decay_step) == (20, 7, 10)
    assert prepared.resume is None and prepared.hardware.precision == "32-true"
    with pytest.raises(FrozenInstanceError):
        prepared.label = "other"  # type: ignore[misc]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["trainer.offload=true"], "needs trainer.strategy=zero1"),
        (["trainer.strategy=zero3", "trainer.compile=true"], "ZeRO-3's hooks"),
        (["trainer.accelerator=gpu"], "no usable GPU"),
        (["trainer.cuda_graph=true"], r"trainer.accelerator=auto \(no GPU\) excludes"),
        (["phases=[{epochs: 1, sets: [third]}]"], "not in data.sets"),
        (["pseudo.targets=[agee]", "phases=[{pseudo_labels: true}]"], "cannot predict 'agee'"),
        (
            [
                *("pseudo.threshold=fitted", "data.validation=0"),
                "phases=[{}, {pseudo_labels: true}]",
            ],
            "data.validation=0 holds none back",
        ),
        (["objective.weights={sexx: 2}"], "no target 'sexx'"),
        (["init_from=nowhere"], "no checkpoint there"),
        (["data=firsst"], "did you mean 'first'"),
        (["model.heads=3"], "multiple"),
        (["name=''"], "name is empty"),
        (["data.validation=0.9999"], "no training scans"),
    ],
)
def test_what_cannot_run_is_refused_and_nothing_is_written(
    changes: list[str], message: str, recipe: Make, tmp_path: Path
) -> None:
    for ready in (prepare, prepare_evaluation):
        if message == "no training scans" and ready is prepare_evaluation:
            continue  # validation people are then as many as each fold can spare
        with pytest.raises(InputError, match=message):
            ready(recipe(*changes))
    assert not (tmp_path / "runs").exists()


def test_a_damaged_tar_is_found(recipe: Make, make_set, tmp_path: Path) -> None:
    make_set(tmp_path, "own", ["simulation.subjects=20"])
    tar = next((tmp_path / "shards" / "own").glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    with pytest.raises(InputError, match=r"own-000000\.tar: damaged"):
        prepare(recipe("data=own", f"data.shards_dir={tmp_path}/shards"))
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_another_run_and_changed_data_are_found(
    recipe: Make, make_set, tmp_path: Path
) -> None:
    make_set(tmp_path, "own", ["simulation.subjects=20"])
    keys = ["data=own", f"data.shards_dir={tmp_path}/shards"]
    folder = run.pretrain(recipe(*keys, "trainer.max_steps=2"))
    before = files(folder)
    with pytest.raises(InputError, match=r"another recipe \(seed differ"):
        prepare(recipe(*keys, "seed=3"))
    assert prepare(recipe(*keys)).resume is not None
    make_set(tmp_path, "own", ["simulation.subjects=20", "simulation.seed=9"])
    with pytest.raises(InputError, match="fingerprint"):
        prepare(recipe(*keys))
    assert files(folder) == before


def test_a_place_that_cannot_be_written_is_found(recipe: Make, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match=r"runs is a file; set name or runs_dir"):
        prepare(recipe())


def test_weights_that_do_not_fit_are_found(recipe: Make) -> None:
    start = run.pretrain(recipe("name=pre", "trainer.max_steps=1"))
    with pytest.raises(InputError, match="another size: width is 16, the recipe's 24"):
        prepare_finetuning(recipe("name=tune", f"init_from={start}", "model.width=24"))


def test_every_fold_is_prepared_before_any_is_trained(recipe: Make) -> None:
    prepared = prepare_evaluation(recipe("evaluate.folds=3", "evaluate.repeats=2"))
    assert [len(runs) for runs in prepared.runs] == [2, 2, 2]
    first, second = prepared.runs[0]
    assert first.folder.name == "fold-1-seed-1" and second.recipe.seed == 1000
    sets = prepared.opened.sets
    for fold, runs in zip(prepared.folds, prepared.runs, strict=True):
        held_out = set(sets.subject[prepared.scans[fold.test]])
        assert not held_out & set(sets.subject[runs[0].train])
        assert not held_out & set(sets.subject[runs[0].validation])
