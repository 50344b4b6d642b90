"""Where a run and its data lie is free; what they hold is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.training import fit as run
from lcm_scale.training.folder import PROVENANCE
from lcm_scale.training.prepare import prepare
from lcm_scale.training.run_log import read_log

Make = Callable[..., Recipe]


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in read_log(folder / "log.jsonl") if event["event"] == "step"]


def test_a_folder_that_was_moved_and_renamed_goes_on(recipe: Make, tmp_path: Path) -> None:
    whole = run.pretrain(recipe("name=whole"))
    folder = run.pretrain(recipe("name=parts", "trainer.max_steps=7"))
    (tmp_path / "archive" / "2026").mkdir(parents=True)
    folder.rename(tmp_path / "archive" / "2026" / "kept")
    moved = run.pretrain(recipe("name=2026/kept", f"runs_dir={tmp_path}/archive"))
    assert losses(moved) == losses(whole)


def test_any_spelling_of_the_folders_is_the_same_run(
    recipe: Make, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.pretrain(recipe("trainer.max_steps=7"))
    (tmp_path / "mount").symlink_to(tmp_path)
    (tmp_path / "sets").symlink_to(world / "shards")
    shutil.copytree(world / "shards", tmp_path / "copied")
    monkeypatch.chdir(tmp_path)
    for changes in (
        ["runs_dir=runs", "data.shards_dir=sets"],
        ["runs_dir=./runs/", "data.shards_dir=sets/"],
        [f"runs_dir={tmp_path}/mount/runs", "data.shards_dir=../" + tmp_path.name + "/copied"],
        ["data=[sets/first]", "data.shards_dir=nowhere"],
        [f"data=[{tmp_path}/copied/first/]"],
    ):
        prepared = prepare(recipe(*changes))
        assert prepared.resume is not None, changes
        assert prepared.resume.name == "step-00000007.ckpt"


def test_other_data_elsewhere_are_refused_by_their_fingerprints(
    recipe: Make, make_set, tmp_path: Path
) -> None:
    run.pretrain(recipe("trainer.max_steps=2"))
    make_set(tmp_path, "first", ["simulation.subjects=37", "simulation.seed=9"])
    with pytest.raises(InputError, match="shard set first has fingerprint"):
        prepare(recipe(f"data.shards_dir={tmp_path}/shards"))
    with pytest.raises(InputError, match=r"another recipe \(data\.sets differ"):
        prepare(recipe("data=second"))


@pytest.fixture
def tuned(recipe: Make) -> Callable[..., Recipe]:
    """A run from `pre`, begun."""
    start = run.pretrain(recipe("name=pre", "trainer.max_steps=2", "data.targets=[sex, age]"))

    def make(*changes: str) -> Recipe:
        return recipe("name=tune", "data=second", f"init_from={start}", *changes)

    run.finetune(make("trainer.max_steps=2"))
    return make


def test_a_start_that_was_moved_is_known_by_what_it_holds(
    tuned: Callable[..., Recipe], tmp_path: Path
) -> None:
    (tmp_path / "runs" / "pre").rename(tmp_path / "elsewhere")
    assert prepare(tuned(f"init_from={tmp_path}/elsewhere")).resume is not None
    file = next((tmp_path / "elsewhere" / "checkpoints").glob("step-*.ckpt"))
    assert prepare(tuned(f"init_from={file}")).resume is not None


def test_a_start_that_changed_in_its_place_is_refused(
    tuned: Callable[..., Recipe], recipe: Make
) -> None:
    run.pretrain(recipe("name=pre", "trainer.max_steps=3", "data.targets=[sex, age]"))
    with pytest.raises(InputError, match=r"another recipe \(the weights of init_from differ\)"):
        prepare(tuned())


def test_without_a_mark_the_path_decides_in_any_spelling(
    tuned: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Release 0.1.0 wrote none."""
    (tmp_path / "runs" / "tune" / PROVENANCE).write_text('{"seed": 0}')
    monkeypatch.chdir(tmp_path / "runs")
    assert prepare(tuned("init_from=./pre/")).resume is not None
    (tmp_path / "runs" / "pre").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"another recipe \(init_from differ\)"):
        prepare(tuned(f"init_from={tmp_path}/elsewhere"))
