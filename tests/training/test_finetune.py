"""From pretrained weights to a new task: what is kept, what gets pseudo-labels, and what does not
fit."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.data.sets import open_sets, split_subjects
from lcm_scale.errors import InputError
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.training import fit as run
from lcm_scale.training.fit import batches_of, start_module
from lcm_scale.training.folder import run_folder
from lcm_scale.training.prepare import prepare_finetuning
from lcm_scale.training.run_log import read_log
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
FINETUNE = "phases=[{name: tune, epochs: 2, stage: adaptive, pseudo_labels: true}]"


@pytest.fixture
def pretrained(recipe: Make) -> Path:
    return run.pretrain(recipe("name=pre", "data.targets=[eye_status, sex, age]"))


def tune(recipe: Make, start: Path, *overrides: str) -> Recipe:
    return recipe("name=tune", "data=second", f"init_from={start}", FINETUNE, *overrides)


def test_new_tokens_stand_between_the_pretrained_classes_and_sex_and_age(
    recipe: Make, pretrained: Path
) -> None:
    made = checkpoints.load(run.finetune(tune(recipe, pretrained)))
    assert made.vocabulary.names == ("eye_status", "outcome", "sex", "age")
    assert made.vocabulary["outcome"].categories == ("N/A", "Autism", "CN")


def test_every_pretrained_weight_is_where_finetuning_starts(recipe: Make, pretrained: Path) -> None:
    start = checkpoints.load(pretrained)
    frozen = tune(recipe, pretrained, "optim.adaptive.lr=0.0", "trainer.max_steps=1")
    made = checkpoints.load(run.finetune(frozen))
    moved = {
        "model.tokens.target_1": None
    }  # eye_status, outcome, sex, age against eye_status, sex, age
    places = {"target_0": "target_0", "target_1": "target_2", "target_2": "target_3"}
    for name, value in start.state.items():
        table, _, last = name.rpartition(".")
        if "running" in name or "tracked" in name:
            continue
        assert torch.equal(value, made.state[f"{table}.{places.get(last, last)}"]), (name, moved)


def test_a_third_set_moves_no_row_of_a_model_of_two(recipe: Make, make_set, tmp_path: Path) -> None:
    """Trained on [A, B], started on [C] that widens a group and brings another: every token's row,
    bit for bit, is where its target and category are."""
    for number, (name, groups) in enumerate(
        (
            ("A", "[{name: diagnosis, labels: [Autism, CN]}]"),
            ("B", "[{name: outcome, column: diagnosis, merge: false}]"),
            (
                "C",
                "[{name: state, column: diagnosis, labels: [PD, CN, Autism]}, {name: eye_status}]",
            ),
        )
    ):
        first = f"simulation.first_subject={60001 + 100 * number}"
        make_set(tmp_path, name, ["simulation.subjects=12", first, f"groups={groups}"])
    shards = f"data.shards_dir={tmp_path}/shards"
    start = checkpoints.load(run.pretrain(recipe("name=two", shards, "data=[A, B]")))
    prepared = prepare_finetuning(recipe("name=three", shards, "data=C", f"init_from={start.path}"))
    new = prepared.opened.sets.vocabulary
    assert new["state"].categories == ("N/A", "Autism", "CN", "PD")
    state = start_module(prepared, batches_of(prepared)).model.state_dict()
    renames = prepared.opened.sets.pretrained_renames
    for name, value in start.state.items():
        table, of_target, number = name.rpartition(".target_")
        if not of_target:
            continue
        old = start.vocabulary.targets[int(number)]
        rows = state[f"{table}.target_{new.names.index(renames[old.name])}"]
        assert torch.equal(rows[: len(value)], value), name


def test_a_run_whose_categories_another_version_ordered_otherwise_is_not_gone_on_with(
    recipe: Make,
) -> None:
    folder = run.pretrain(recipe("trainer.max_steps=2"))
    newest = checkpoints.newest(folder / "checkpoints")
    data = checkpoints.read_file(newest)
    first = data["lcm"]["vocabulary"][0]["categories"]
    first[1], first[2] = first[2], first[1]
    checkpoints.write_file(data, newest)
    with pytest.raises(InputError, match="categories stand in another order"):
        run.pretrain(recipe())


def test_the_checkpoint_remembers_everybody_it_ever_saw(recipe: Make, pretrained: Path) -> None:
    start, made = (
        checkpoints.load(pretrained),
        checkpoints.load(run.finetune(tune(recipe, pretrained))),
    )
    own = open_sets(tune(recipe, pretrained).data)
    assert made.subjects == start.subjects | set(own.subjects)


def test_the_audit_counts_each_missing_label_of_a_pretrained_target_once(
    recipe: Make, pretrained: Path
) -> None:
    """Scans of `second` have no eye_status at all (their default is N/A, a label) and lack some
    ages and sexes."""
    made = tune(recipe, pretrained)
    folder = run.finetune(made)
    rows = {row["target"]: row for row in csv.DictReader((folder / "pseudo_labels.csv").open())}
    assert set(rows) == {"eye_status", "sex", "age"}
    sets = open_sets(made.data)
    train, unseen = split_subjects(sets, sets.scans_of([]), made.data.validation, made.seed)
    for target in ("sex", "age"):
        column = sets.vocabulary.names.index(target)
        missing = int(np.isnan(sets.labels[train, column]).sum())
        assert missing > 0
        assert int(rows[target]["missing"]) == int(rows[target]["given"]) == missing
        known = int(np.isfinite(sets.labels[unseen, column]).sum())
        assert int(rows[target]["known"]) == known > 0, "asked of validation people"


def test_a_pseudo_label_below_the_confidence_asked_for_stays_missing(
    recipe: Make, pretrained: Path
) -> None:
    folder = run.finetune(
        tune(recipe, pretrained, "pseudo.min_confidence=0.999", "pseudo.targets=[sex]")
    )
    (row,) = csv.DictReader((folder / "pseudo_labels.csv").open())
    assert (row["target"], row["given"]) == ("sex", "0")


def test_pseudo_labels_change_the_training_and_survive_a_resume(
    recipe: Make, pretrained: Path
) -> None:
    def losses(name: str) -> list[float]:
        log = read_log(run_folder(recipe(f"name={name}")) / "log.jsonl")
        return [event["loss"] for event in log if event["event"] == "step"]

    run.finetune(tune(recipe, pretrained, "name=with"))
    run.finetune(tune(recipe, pretrained, "name=without", FINETUNE.replace("true", "false")))
    run.finetune(tune(recipe, pretrained, "name=parts", "trainer.max_steps=2"))
    run.finetune(tune(recipe, pretrained, "name=parts"))
    assert losses("with") != losses("without")
    assert losses("parts") == losses("with")


def test_one_run_goes_from_pretraining_to_pseudo_label_finetuning(recipe: Make) -> None:
    """Scans, active targets, rule and readout all switch in the middle; a resume at the switch
    changes nothing."""
    phases = (
        "phases=[{name: pretrain, epochs: 2, stage: momentum, sets: [first], targets: [eye_status, "
        "sex, age]},"
        "{name: finetune, epochs: 2, readout: adaptive, sets: [second], pseudo_labels: true}]"
    )
    folder = run.pretrain(recipe("name=whole", "data=[first, second]", phases))
    steps = [e for e in read_log(folder / "log.jsonl") if e["event"] == "step"]
    assert {(e["phase"], e["stage"]) for e in steps} == {
        ("pretrain", "momentum"),
        ("finetune", "adaptive"),
    }
    switch = sum(e["phase"] == "pretrain" for e in steps)
    run.pretrain(
        recipe("name=parts", "data=[first, second]", phases, f"trainer.max_steps={switch}")
    )
    parts = run.pretrain(recipe("name=parts", "data=[first, second]", phases))
    assert [e["loss"] for e in read_log(parts / "log.jsonl") if e["event"] == "step"] == [
        e["loss"] for e in steps
    ]
    given = {row["target"] for row in csv.DictReader((parts / "pseudo_labels.csv").open())}
    assert given == {"eye_status", "sex", "age"}


def test_tokens_of_targets_that_a_phase_leaves_out_do_not_move(recipe: Make) -> None:
    phases = "phases=[{name: a, epochs: 1, stage: momentum, targets: [sex]}, {name: b, epochs: 1, targets: [sex]}]"
    made = recipe(phases, "optim.momentum.weight_decay=0.1", "optim.adaptive.weight_decay=0.1")
    torch.manual_seed(made.seed)
    state = checkpoints.load(run.pretrain(made)).state
    resumed = checkpoints.load(
        run.pretrain(recipe("name=short", phases, "trainer.max_steps=1"))
    ).state
    names = checkpoints.load(run_folder(made)).vocabulary.names
    for number, name in enumerate(names):
        same = torch.equal(state[f"tokens.target_{number}"], resumed[f"tokens.target_{number}"])
        assert same == (name != "sex"), name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("model.width=8", "another size: width is 16, the recipe's 8"),
        ("model.layers=3", "another size: layers is 2, the recipe's 3"),
        ("data.edges=fisher_z", "trained on data.edges=raw"),
        ("init_from=nowhere", "no checkpoint there"),
        ("init_from=null", "init_from is empty"),
    ],
)
def test_what_does_not_fit_the_checkpoint_is_refused(
    change: str, expected: str, recipe: Make, pretrained: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=expected):
        run.finetune(tune(recipe, pretrained, change))
    assert not (tmp_path / "runs" / "tune").exists()


def test_another_atlas_and_another_order_are_refused(
    recipe: Make, pretrained: Path, make_set, tmp_path: Path
) -> None:
    make_set(tmp_path, "other", ["atlas=toy:13", "simulation.subjects=12"])
    turned = tmp_path / "turned.csv"
    turned.write_text("index,name\n" + "".join(f"{i},region {i}\n" for i in range(12, 0, -1)))
    make_set(tmp_path, "turned", [f"atlas={turned}", "simulation.subjects=12"])
    folder = f"data.shards_dir={tmp_path}/shards"
    with pytest.raises(InputError, match="only data of one atlas"):
        run.finetune(tune(recipe, pretrained, folder, "data=other"))
    with pytest.raises(InputError, match=r"another order than the checkpoint's.*data.reorder=true"):
        run.finetune(tune(recipe, pretrained, folder, "data=turned"))
    run.finetune(
        tune(recipe, pretrained, folder, "data=turned", "data.reorder=true", "trainer.max_steps=1")
    )


def test_a_damaged_checkpoint_is_named(recipe: Make, pretrained: Path) -> None:
    file = pretrained / "checkpoints" / "best.ckpt"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"best.ckpt: damaged or not a checkpoint"):
        run.finetune(tune(recipe, pretrained))


def test_a_pickle_is_never_loaded(recipe: Make, tmp_path: Path) -> None:
    class Nasty:
        def __reduce__(self):
            return (Path(tmp_path / "was_run").touch, ())

    torch.save({"lcm": Nasty()}, tmp_path / "nasty.ckpt")
    with pytest.raises(InputError, match="damaged or not a checkpoint"):
        run.finetune(tune(recipe, tmp_path / "nasty.ckpt"))
    assert not (tmp_path / "was_run").exists()


def test_a_checkpoint_goes_on_with_another_kind_of_matrix_only_where_the_recipe_says_so(
    recipe: Make, pretrained: Path, make_set, tmp_path: Path
) -> None:
    made = ["simulation.subjects=12", "simulation.first_subject=70001"]
    make_set(tmp_path, "shrunk", [*made, "connectivity.kind=ledoit-wolf"])
    there = (f"data.shards_dir={tmp_path}/shards", "data=shrunk")
    assert checkpoints.load(pretrained).kinds == ("pearson",)
    line = r"was trained on pearson matrices, set shrunk holds ledoit-wolf ones.*data\.mix_kinds"
    with pytest.raises(InputError, match=line):
        prepare_finetuning(tune(recipe, pretrained, *there))
    fixed = recipe(*there, f"evaluate.checkpoint={pretrained}", "evaluate.targets=[sex]")
    with pytest.raises(InputError, match=line):
        prepare_evaluation(fixed)
    tuned = tune(recipe, pretrained, *there, "data.mix_kinds=true", "trainer.max_steps=1")
    assert checkpoints.load(run.finetune(tuned)).kinds == ("pearson", "ledoit-wolf")
