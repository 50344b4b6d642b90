"""Ablations: laid out, checked before anything runs, run once, paired with the base."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.errors import InputError
from lcm_scale.evaluation.prepare import LOCK
from lcm_scale.lock import living_holder
from lcm_scale.report import ablation_page
from lcm_scale.sweep import ablate, answers, side_by_side
from lcm_scale.sweep.variants import Ablation, open_ablation
from lcm_scale.training import fit as run
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.run_log import read_log

RUN = """
name: run
data: {{sets: [first], targets: [diagnosis, age], shards_dir: {world}/shards, validation: 0.2}}
model: {{preset: tiny, width: 8, layers: 1, heads: 2, ffn: 8}}
objective: {{scalar_scale: standardised, scalar_weight: 1.0}}
phases: [{{name: momentum, epochs: 1, stage: momentum}}, {{name: adaptive, epochs: 2}}]
trainer: {{global_batch: 8, threads: 1, accelerator: cpu}}
evaluate: {{target: diagnosis, folds: 2, stratify: diagnosis, baselines: [linear], bootstrap: 50,
  confounded: {{age: simulated with the site}}}}
"""
ABLATION = """
name: parts
runs_dir: {folder}/runs
recipe: run
seeds: [0, 1]
variants:
  adaptive readout: {{phases: [{{name: momentum, epochs: 1, stage: momentum}},
                              {{name: adaptive, epochs: 2, readout: adaptive}}]}}
  diagnosis alone: {{data: {{targets: [diagnosis]}}, evaluate: {{targets: [diagnosis]}}}}
"""
Make = Callable[..., Ablation]
Held = Callable[[Path], AbstractContextManager[Any]]


def written(folder: Path, world: Path, *overrides: str) -> Ablation:
    (folder / "run.yaml").write_text(RUN.format(world=world))
    (folder / "parts.yaml").write_text(ABLATION.format(folder=folder))
    return open_ablation(folder / "parts.yaml", overrides)


@pytest.fixture
def make(world: Path, tmp_path: Path) -> Make:
    """`make("seeds=[0]", ...)`: the tiny ablation in a folder of its own, nothing run."""
    return lambda *overrides: written(tmp_path, world, *overrides)


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    """All of it run; tests read it and leave it as it is."""
    ablation = written(tmp_path_factory.mktemp("ablation"), world)
    outcome = ablate.run(ablation)
    assert len(outcome.done) == 6 and not outcome.failed
    return ablation


def test_the_base_stands_first_and_a_variant_says_what_it_changes(make: Make) -> None:
    made = make("variants.wide.model.width=16", "variants.started.init_from=x")
    names = ["base", "adaptive readout", "diagnosis alone", "wide", "started"]
    assert [v.name for v in made.variants] == names
    changes = {v.name: v.changes for v in made.variants}
    assert changes["wide"] == {"model.width": (8, 16)}
    assert changes["adaptive readout"] == {"phases.2.readout": ("mean", "adaptive")}
    assert changes["started"] == {"init_from": (None, "x")}
    assert [(v.name, seed) for v, seed in made.runs][:6] == [*((n, 0) for n in names), ("base", 1)]


def test_a_variant_that_is_null_is_left_out(make: Make) -> None:
    made = make("variants.diagnosis alone=null")
    assert [v.name for v in made.variants] == ["base", "adaptive readout"]


def test_baselines_are_run_once_for_all(make: Make) -> None:
    made = make()
    with_baselines = [(v.name, s) for v, s in made.runs if made.recipe_of(v, s).evaluate.baselines]
    assert with_baselines == [("base", 0)]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["variants.x.model.widht=3"], "variants.x: override 'model.widht=3': unknown key"),
        (["variants.x.model.widht=3"], "did you mean 'width'"),
        (["variants.x.model.people_memory=liner"], "did you mean 'linear'"),
        (["variants.x.model.width=8"], "variants.x: is the base as it stands"),
        (["variants.x.evaluate.folds=3"], "evaluate.folds: the same for all variants"),
        (["variants.x.evaluate.target=age"], "evaluate.target: the same for all variants"),
        (["variants.x.seed=3"], "seed: the same for all variants"),
        (["variants.x=3"], "variants.x: expected keys of the run recipe"),
        (["variants.base.model.width=4"], "is not 'base'"),
        (["variants.a/b.model.width=4"], "a variant's name holds letters"),
        (["seeds=[1, 1]"], "seeds=[1, 1]: expected at least one, and none twice"),
        (["seeds=[]"], "expected at least one"),
        (["seeds=[-1]"], "seeds"),
        (["variant={}"], "unknown key 'variant', did you mean 'variants'"),
        (["recipe=''"], "recipe is empty"),
        (["set=[evaluate.checkpoint=x]"], "evaluate.checkpoint: an ablation trains"),
        (["recipe=nowhere"], "nowhere.yaml: no such recipe"),
    ],
)
def test_a_mistake_in_an_ablation_is_one_line(
    overrides: list[str], expected: str, make: Make
) -> None:
    with pytest.raises(InputError) as caught:
        make(*overrides)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_ablation_without_variants_is_refused(make: Make, tmp_path: Path) -> None:
    make()
    (tmp_path / "none.yaml").write_text("recipe: run\n")
    with pytest.raises(InputError, match="variants is empty"):
        open_ablation(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "variants.x.data.sets=[second]",
            "variant 'x': data.targets: no set has a target 'diagnosis'",
        ),
        ("variants.x.init_from=nowhere", "variant 'x': .*nowhere"),
        ("variants.x.evaluate.targets=[diagnosis, agee]", "variant 'x': .*did you mean 'age'"),
    ],
)
def test_every_variant_is_checked_before_anything_runs(
    override: str, expected: str, make: Make
) -> None:
    made = make(override)
    for start in (ablate.check, ablate.run):
        with pytest.raises(InputError, match=expected):
            start(made)
    assert not made.folder.exists()


def test_a_variant_on_other_folds_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()
    prepare = ablate.prepare_evaluation

    def other(recipe: Any) -> Any:
        ready = prepare(recipe)
        swapped = "adaptive readout" in recipe.name
        other_way = replace(ready.plan, folds=ready.folds[::-1])
        return replace(ready, plan=other_way) if swapped else ready

    monkeypatch.setattr(ablate, "prepare_evaluation", other)
    with pytest.raises(
        InputError, match="variant 'adaptive readout': its folds are not the base's"
    ):
        ablate.check(made)


def test_each_run_is_an_ordinary_evaluation_with_its_report(done: Ablation) -> None:
    for variant, seed in done.runs:
        files = {p.name for p in done.folder_of(variant, seed).iterdir()}
        assert {"report.html", "evaluation.json", "folds", "answers.json"} <= files


def test_a_finished_run_is_never_run_again_and_new_variants_are_added(
    done: Ablation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablate, "run_one", lambda *_: pytest.fail("run again"))
    assert len(ablate.run(done).before) == 6
    more = replace(done, variants=(*done.variants, replace(done.variants[1], name="more")))
    ran = []
    monkeypatch.setattr(ablate, "run_one", lambda recipe: ran.append(recipe.name))
    ablate.run(more)
    assert ran == ["parts/more/seed-0", "parts/more/seed-1"]
    assert ablate.collect(more).missing == ("more",)


def test_another_recipe_in_the_same_folder_is_refused(done: Ablation) -> None:
    base = done.base
    changed = replace(base.recipe, model=replace(base.recipe.model, width=16))
    other = replace(done, variants=(replace(base, recipe=changed), *done.variants[1:]))
    with pytest.raises(InputError, match=r"variant 'base': .*\(model.width differ\)"):
        ablate.check(other)


def test_a_run_that_was_killed_goes_on_with_the_folds_that_it_has(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make("seeds=[0]")
    fit = run.fit

    def first_only(prepared: PreparedRun) -> object:
        if prepared.label.startswith("fold 2"):
            raise KeyboardInterrupt
        return fit(prepared)

    monkeypatch.setattr("lcm_scale.evaluation.crossvalidate.trained", first_only)
    with pytest.raises(KeyboardInterrupt):
        ablate.run(made)
    monkeypatch.undo()
    ablate.run_one(made.recipe_of(made.base, 0))
    folder = made.folder_of(made.base, 0)
    steps = [e["step"] for e in read_log(folder / "folds/fold-1/log.jsonl") if e["event"] == "step"]
    assert steps == list(range(1, len(steps) + 1)), "the first fold was trained once"
    assert answers.is_finished(folder)


def test_what_another_process_is_at_is_left_to_it_and_what_diverges_is_named(
    make: Make, held_elsewhere: Held
) -> None:
    made = make("seeds=[0]", "variants.wild.optim.adaptive.lr=1.0e30")
    few = replace(made, variants=(made.variants[0], made.variants[1], made.variants[3]))
    with held_elsewhere(made.folder_of(made.variants[1], 0) / LOCK):
        outcome = ablate.run(few)
    assert (outcome.done, outcome.busy) == (("base, seed 0",), ("adaptive readout, seed 0",))
    assert [name for name, _ in outcome.failed] == ["wild, seed 0"]
    assert ablate.collect(few).missing == ("adaptive readout", "wild")


def test_several_processes_give_what_one_gives_bit_for_bit(done: Ablation, make: Make) -> None:
    """Answers, baselines and reports; what is finished is not run again, what is left goes on."""
    made = make()
    base = made.folder_of(made.base, 0)
    assert len(side_by_side.run(replace(made, variants=made.variants[:1]), 2).done) == 2
    files = {file: file.stat().st_mtime_ns for file in base.rglob("*") if file.is_file()}
    outcome = side_by_side.run(made, 2)
    assert (len(outcome.before), len(outcome.done), outcome.failed) == (2, 4, ())
    assert {f: f.stat().st_mtime_ns for f in base.rglob("*") if f.is_file()} == files
    for variant, seed in done.runs:
        ours, theirs = (of.folder_of(variant, seed) for of in (made, done))
        for name in ("answers.npz", "answers.json", "results.csv", "predictions.csv"):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), (variant.name, name)
        assert living_holder(ours / LOCK) is None
    assert ablate.collect(made).tables[0].rows == ablate.collect(done).tables[0].rows


def test_side_by_side_too_one_runs_trouble_is_its_own(make: Make, held_elsewhere: Held) -> None:
    made = make("seeds=[0]", "variants.wild.optim.adaptive.lr=1.0e30")
    few = replace(made, variants=(made.variants[0], made.variants[1], made.variants[3]))
    with held_elsewhere(made.folder_of(made.variants[1], 0) / LOCK):
        outcome = side_by_side.run(few, 2)
    assert (outcome.done, outcome.busy) == (("base, seed 0",), ("adaptive readout, seed 0",))
    ((name, reason),) = outcome.failed
    assert name == "wild, seed 0" and "the loss is" in reason
    assert living_holder(made.folder_of(made.variants[3], 0) / LOCK) is None


def test_nothing_is_compared_without_the_base(make: Make) -> None:
    with pytest.raises(InputError, match="the base is not finished"):
        ablate.collect(make())


def test_variants_are_paired_with_the_base_on_the_same_people(done: Ablation) -> None:
    found = ablate.collect(done)
    assert [t.target for t in found.tables] == ["diagnosis", "age"]
    diagnosis, age = found.tables
    assert [r.name for r in diagnosis.rows] == ["base", *list(found.changes)[1:], "linear"]
    assert [r.name for r in age.rows] == ["base", "adaptive readout", "linear"]
    read = {
        name: answers.read(done.folder / name / "seed-1").targets[0].models["LCM"]
        for name in ("base", "adaptive readout")
    }
    assert np.array_equal(read["base"].scan, read["adaptive readout"].scan)
    row = diagnosis.rows[1].metrics["auroc"]
    assert len(row.by_seed) == 2
    assert row.difference is not None
    assert row.difference.value == pytest.approx(np.mean(row.by_seed))


def test_answers_are_read_as_they_were_given(done: Ablation) -> None:
    folder = done.folder_of(done.base, 0)
    rows = list(csv.DictReader((folder / "predictions.csv").open(encoding="utf-8")))
    for asked in answers.read(folder).targets:
        for model, p in asked.models.items():
            own = [r for r in rows if (r["target"], r["model"]) == (asked.target, model)]
            said = [
                float(r["predicted"])
                if p.kind == "scalar"
                else [float(one.split("=")[1]) for one in r["scores"].split(";")]
                for r in own
            ]
            assert np.allclose(p.scores, said, atol=1e-4)
            assert list(map(str, p.fold)) == [r["fold"] for r in own]


@pytest.mark.parametrize("damage", ["cut", "mark", "missing", "length"])
def test_damaged_answers_are_named(damage: str, done: Ablation, tmp_path: Path) -> None:
    folder = done.folder_of(done.base, 0)
    for name in (answers.ANSWERS, answers.ARRAYS):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    facts = json.loads((tmp_path / answers.ANSWERS).read_text())
    if damage == "cut":
        (tmp_path / answers.ARRAYS).write_bytes((folder / answers.ARRAYS).read_bytes()[:900])
    elif damage == "mark":
        del facts["mark"]
    elif damage == "missing":
        (tmp_path / answers.ARRAYS).unlink()
    else:
        facts["targets"][0]["categories"].append("more")
    (tmp_path / answers.ANSWERS).write_text(json.dumps(facts))
    with pytest.raises(InputError, match=f"{tmp_path}.*run the ablation again"):
        answers.read(tmp_path)


def test_the_files_say_what_may_be_concluded(done: Ablation, tmp_path: Path) -> None:
    found = ablate.collect(done)
    page = ablation_page.write(found, tmp_path).read_text(encoding="utf-8")
    assert "SIMULATED" in page and "CONFOUNDED" in page and "simulated with the site" in page
    assert "one in twenty" in page and "2 seeds (0, 1)" in page
    assert f"{found.tables[0].counted.n_subjects} people" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    rows = list(csv.DictReader((tmp_path / "ablation.csv").open(encoding="utf-8")))
    assert {r["variant"] for r in rows} == {"base", "linear", *list(found.changes)[1:]}
    told = json.loads((tmp_path / "ablation.json").read_text(encoding="utf-8"))
    assert told["targets"][0]["rows"][1]["metrics"]["auroc"]["difference"]["n_subjects"]
    assert (tmp_path / "ablation-diagnosis.png").stat().st_size > 5_000


def test_a_variant_that_is_told_more_than_the_baselines_is_named(done: Ablation) -> None:
    found = ablate.collect(done)
    told = replace(found, changes={**found.changes, "told": {"model.context": ([], ["site"])}})
    assert any(line.startswith("told: told something") for line in ablation_page.remarks(told))
    assert not any("model.context" in line for line in ablation_page.remarks(found))


def test_the_verdict_names_a_winner_only_where_the_interval_excludes_zero(done: Ablation) -> None:
    found = ablate.collect(done)
    table = found.tables[0]
    row = table.rows[1]
    metric = row.metrics[table.deciding]
    assert metric.difference is not None

    def told(low: float, high: float) -> str:
        difference = replace(metric.difference, value=(low + high) / 2, low=low, high=high)
        own = {**row.metrics, table.deciding: replace(metric, difference=difference)}
        rows = (table.rows[0], replace(row, metrics=own))
        return ablation_page.verdict(replace(found, tables=(replace(table, rows=rows),)))

    assert "Better than it: adaptive readout" in told(0.01, 0.3)
    assert "Worse than it: adaptive readout" in told(-0.3, -0.01)
    assert "No difference can be shown for 1 variant: adaptive readout" in told(-0.01, 0.3)
