"""Whole runs: what they leave behind, and that a run stopped anywhere goes on as if it had never
stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.data.order import epoch_order
from lcm_scale.data.sets import open_sets, split_subjects
from lcm_scale.errors import InputError
from lcm_scale.training import fit as run
from lcm_scale.training.callbacks.stop import Stop
from lcm_scale.training.folder import run_folder
from lcm_scale.training.prepare import prepare
from lcm_scale.training.run_log import read_log
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
STEPS = 20  # 33 training scans in batches of 8 are 5 steps an epoch, 4 epochs


def newest_state(folder: Path) -> dict[str, torch.Tensor]:
    newest = checkpoints.newest(folder / "checkpoints")
    assert newest is not None
    return checkpoints.read_file(newest)["state_dict"]


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in read_log(folder / "log.jsonl") if event["event"] == "step"]


def test_a_run_leaves_recipe_provenance_metrics_log_and_checkpoints(recipe: Make) -> None:
    folder = run.pretrain(recipe())
    assert {p.name for p in folder.iterdir()} == {
        "recipe.yaml",
        "provenance.json",
        "metrics.csv",
        "log.jsonl",
        "checkpoints",
    }
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 4
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {
        "step-00000015.ckpt",
        "step-00000020.ckpt",
        "best.ckpt",
    }
    assert json.loads((folder / "provenance.json").read_text())["seed"] == 0
    assert all(np.isfinite(losses(folder)))


@pytest.mark.parametrize("stop", [1, 3, 5, 10, 12, 15])
def test_a_resumed_run_equals_the_undisturbed_one_bit_for_bit(stop: int, recipe: Make) -> None:
    """In the middle of an epoch (1, 3, 12), at an epoch's end (5, 15), at the switch of stage (10);
    dropout is on."""
    whole = run.pretrain(recipe("name=whole", "model.edge_branch=true"))
    assert len(losses(whole)) == STEPS
    run.pretrain(recipe("name=parts", "model.edge_branch=true", f"trainer.max_steps={stop}"))
    parts = run.pretrain(recipe("name=parts", "model.edge_branch=true"))
    assert losses(parts) == losses(whole)
    wanted, found = newest_state(whole), newest_state(parts)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert (parts / "metrics.csv").read_text().splitlines()[-1].split(",")[:6] == (
        (whole / "metrics.csv").read_text().splitlines()[-1].split(",")[:6]
    )


def test_a_run_stopped_at_an_epochs_end_and_again_a_step_later_is_the_undisturbed_one(
    recipe: Make,
) -> None:
    whole = run.pretrain(recipe("name=whole"))
    for steps in (5, 6, STEPS):
        parts = run.pretrain(recipe("name=parts", f"trainer.max_steps={steps}"))
    assert losses(parts) == losses(whole)


def test_a_run_killed_between_checkpoints_repeats_only_what_it_lost(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run.pretrain(recipe("name=whole"))
    real = Stop.on_train_batch_end

    def dies(self, trainer, module, outputs, batch, batch_idx):
        real(self, trainer, module, outputs, batch, batch_idx)
        if trainer.global_step == 14:
            raise KeyError("killed")  # nothing of ours catches it

    monkeypatch.setattr(Stop, "on_train_batch_end", dies)
    with pytest.raises(KeyError):
        run.pretrain(recipe("name=killed", "trainer.checkpoint_steps=3"))
    monkeypatch.undo()
    killed = run.pretrain(recipe("name=killed", "trainer.checkpoint_steps=3"))
    assert losses(killed) == losses(whole)


def test_a_line_that_a_full_disk_tore_spoils_no_other(recipe: Make) -> None:
    whole = run.pretrain(recipe("name=whole"))
    folder = run.pretrain(recipe("name=torn", "trainer.max_steps=7"))
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"event": "step", "step": 8, "ep')
    assert losses(run.pretrain(recipe("name=torn"))) == losses(whole)
    assert [e["step"] for e in read_log(folder / "log.jsonl") if e["event"] == "resumed"] == [7]


def test_each_scan_of_every_epoch_is_consumed_once_over_three_stops(
    recipe: Make, world: Path
) -> None:
    for stop in (2, 9, 13):
        run.pretrain(recipe(f"trainer.max_steps={stop}"))
    folder = run.pretrain(recipe())
    made = recipe()
    sets = open_sets(made.data)
    train, validation = split_subjects(sets, sets.scans_of([]), made.data.validation, made.seed)
    assert len(train) + len(validation) == sets.n_scans
    for epoch in range(4):
        order, _ = epoch_order(sets.block[train], made.seed, epoch)
        pieces = [
            e["consumed"]
            for e in read_log(folder / "log.jsonl")
            if e["event"] == "step" and e["epoch"] == epoch
        ]
        seen = np.concatenate([train[order[start:stop]] for start, stop in pieces])
        assert sorted(seen) == sorted(train)


def test_resident_and_streamed_runs_are_the_same_run(recipe: Make) -> None:
    resident = run.pretrain(recipe("name=resident", "data.window=2"))
    streamed = run.pretrain(recipe("name=streamed", "data.window=2", "data.resident_gb=0"))
    assert losses(resident) == losses(streamed)


def test_the_update_rule_changes_at_the_switch_not_only_its_name(recipe: Make) -> None:
    """Gradients scaled by 1000 move an SGD step a thousandfold and leave an Adam step alone."""
    moved = {}
    for factor in (1.0, 1000.0):
        weights = f"objective.weights={{diagnosis: {factor}, eye_status: {factor}, sex: {factor}, age: {factor}}}"
        for steps in (1, 2, 10, 11):
            run.pretrain(
                recipe(
                    f"name=x{factor}-{steps}",
                    "model.dropout=0.0",
                    f"trainer.max_steps={steps}",
                    "optim.momentum.lr=1e-5",
                    "optim.clip_norm=null",
                    weights,
                )
            )
        states = [newest_state(run_folder(recipe(f"name=x{factor}-{s}"))) for s in (1, 2, 10, 11)]
        name = "model.readout.weight"
        moved[factor] = (states[0][name] - states[1][name], states[2][name] - states[3][name])
    sgd = moved[1000.0][0].norm() / moved[1.0][0].norm()
    adam = moved[1000.0][1].norm() / moved[1.0][1].norm()
    assert 500 < sgd < 2000
    assert 0.9 < adam < 1.1


def test_a_folder_of_another_recipe_is_left_alone(recipe: Make) -> None:
    folder = run.pretrain(recipe("trainer.max_steps=2"))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"another recipe \(model.width differ"):
        run.pretrain(recipe("model.width=8"))
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_changed_data_set_is_refused_with_both_fingerprints(
    recipe: Make, make_set, tmp_path: Path
) -> None:
    make_set(tmp_path, "own", ["simulation.subjects=20"])
    made = recipe("data=own", f"data.shards_dir={tmp_path}/shards", "trainer.max_steps=2")
    run.pretrain(made)
    make_set(tmp_path, "own", ["simulation.subjects=20", "simulation.seed=9"])
    with pytest.raises(InputError, match="fingerprint"):
        run.pretrain(recipe("data=own", f"data.shards_dir={tmp_path}/shards"))


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    "override", ["model.preset=2b", "model.heads=7", "phases=[]", "objective.weights={agee: 2}"]
)
def test_a_recipe_that_cannot_run_is_refused_before_a_folder_is_made(
    override: str, dry_run: bool, recipe: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError):
        (prepare if dry_run else run.pretrain)(recipe(override))
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_writes_nothing(recipe: Make, tmp_path: Path) -> None:
    prepare(recipe())
    assert not (tmp_path / "runs").exists()


def test_reference_layers_start_identical_and_adam_runs_throughout(recipe: Make) -> None:
    made = recipe(
        "model.init=reference",
        "model.layers=3",
        "optim=reference",
        "trainer.max_steps=1",
        "phases=[{name: adam, epochs: 1}]",
    )
    folder = run.pretrain(made)
    assert [e["stage"] for e in read_log(folder / "log.jsonl") if e["event"] == "step"] == [
        "adaptive"
    ]


@pytest.mark.golden
def test_golden_losses_of_the_tiny_model(recipe: Make, golden) -> None:
    folder = run.pretrain(recipe("model.edge_branch=true", "seed=5"))
    golden("tiny_pretrain", losses(folder))


def test_a_run_that_cannot_begin_leaves_no_folder(recipe: Make) -> None:
    asked = recipe("data.validation=0.9999")
    with pytest.raises(InputError, match=r"no training scans .* data\.validation"):
        run.pretrain(asked)
    assert not run_folder(asked).exists()
