"""Points that are run once, tried again when they die, and kept when axes grow."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale import config
from lcm_scale.config import Recipe
from lcm_scale.data.sets import open_sets
from lcm_scale.errors import InputError
from lcm_scale.laws.analysis import analyse
from lcm_scale.laws.collect import collect
from lcm_scale.laws.starts import starts
from lcm_scale.laws.tables import tables
from lcm_scale.lock import InUse
from lcm_scale.sweep import run as sweeps
from lcm_scale.sweep.finished import is_finished, read_result
from lcm_scale.sweep.measure import mark_of, prepare_point
from lcm_scale.sweep.plan import Plan, plan
from lcm_scale.sweep.points import open_sweep
from lcm_scale.training import fit as run
from lcm_scale.training.prepare import PreparedRun, prepare
from lcm_scale.training.run_log import LOCK, read_log

Make = Callable[..., Plan]
Held = Callable[[Path], AbstractContextManager[Any]]

# A worker whose work is a file: what it dies of, and how often, stands in its arguments.
WORKER = """
import json, os, sys
from pathlib import Path
points, counts = json.loads(sys.argv[1]), Path(sys.argv[2])
deadly, deaths = int(sys.argv[3]), int(sys.argv[4])
for line in sys.stdin:
    folder = Path(points[int(line) - 1])
    counts.open("a").write(line)
    if int(line) == deadly and counts.read_text().split().count(str(deadly)) <= deaths:
        os.kill(os.getpid(), 9)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "point.json").write_text('{"loss": 1, "chance": 2, "metrics": []}')
    print("point: done", flush=True)
"""


def workers(made: Plan, counts: Path, deadly: int, deaths: int) -> list[str]:
    folders = json.dumps([str(made.sweep.folder_of(p)) for p in made.runnable])
    return [sys.executable, "-c", WORKER, folders, str(counts), str(deadly), str(deaths)]


def test_a_point_whose_process_died_is_tried_again(make_sweep: Make, tmp_path: Path) -> None:
    made = make_sweep()
    outcome = sweeps.run(made, 2, workers(made, tmp_path / "counts", deadly=3, deaths=2))
    assert len(outcome.done) == len(made.runnable)
    assert not outcome.failed
    assert (tmp_path / "counts").read_text().split().count("3") == 3


def test_a_point_that_dies_every_time_is_given_up_and_the_others_go_on(
    make_sweep: Make, tmp_path: Path
) -> None:
    made = make_sweep("retries=1")
    outcome = sweeps.run(made, 1, workers(made, tmp_path / "counts", deadly=2, deaths=99))
    assert [name for name, _ in outcome.failed] == [made.runnable[1].name]
    assert "died 2 times, the last time with exit code -9" in outcome.failed[0][1]
    assert len(outcome.done) == len(made.runnable) - 1
    assert sweeps.state_of(made.sweep, made.runnable[1]).state == "failed"


def test_a_finished_point_is_never_run_again_and_new_ones_are_added(
    make_sweep: Make, tmp_path: Path
) -> None:
    made = make_sweep()
    sweeps.run(made, 1, workers(made, tmp_path / "counts", 0, 0))
    more = make_sweep("axes.size=[8x1,16x1,16x2,32x2,32x3]")
    outcome = sweeps.run(more, 1, workers(more, tmp_path / "counts2", 0, 0))
    assert len(outcome.before) == len(made.runnable)
    assert all("32x3" in name for name in outcome.done)
    assert len(outcome.done) == 3


def test_two_processes_never_work_at_one_point(make_sweep: Make, held_elsewhere: Held) -> None:
    made = make_sweep()
    point = made.runnable[0]
    with held_elsewhere(made.sweep.folder_of(point) / LOCK):
        with pytest.raises(InUse, match="in use by process"):
            sweeps.run_one(made.sweep, point)
        assert sweeps.state_of(made.sweep, point).state == "running"
        sweeps.check(made)  # what runs is in order
    assert sweeps.state_of(made.sweep, point).state == "waiting"


def test_a_point_is_an_ordinary_run_folder(finished: Path) -> None:
    made = plan(open_sweep(finished))
    folder = made.sweep.folder_of(made.runnable[0])
    files = {p.name for p in folder.iterdir()}
    assert {
        "recipe.yaml",
        "provenance.json",
        "metrics.csv",
        "log.jsonl",
        "checkpoints",
        "point.json",
    } <= files
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["best.ckpt"]


def test_a_point_that_was_stopped_goes_on_where_it_stood(
    make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_sweep()
    point = made.runnable[0]
    fit = run.fit

    def half(prepared: PreparedRun) -> object:
        recipe = prepared.recipe
        fit(replace(prepared, recipe=replace(recipe, trainer=replace(recipe.trainer, max_steps=1))))
        raise KeyboardInterrupt

    monkeypatch.setattr("lcm_scale.sweep.measure.trained", half)
    with pytest.raises(KeyboardInterrupt):
        sweeps.run_one(made.sweep, point)
    monkeypatch.undo()
    assert not is_finished(made.sweep.folder_of(point))
    sweeps.run_one(made.sweep, point)
    steps = [e for e in read_log(made.sweep.folder_of(point) / "log.jsonl") if e["event"] == "step"]
    assert [e["step"] for e in steps] == [1, 2, 3, 4]
    assert any(e["event"] == "resumed" for e in read_log(made.sweep.folder_of(point) / "log.jsonl"))


def test_fewer_people_lie_within_more_and_nobody_is_trained_and_tested(make_sweep: Make) -> None:
    made = make_sweep()
    few, more = (
        next(p for p in made.runnable if p.size == "8x1" and p.subjects == n) for n in (12, 16)
    )
    sets = open_sets(made.sweep.base.data)
    a, b = (prepare_point(made.sweep, p) for p in (few, more))
    assert set(a.train) < set(b.train)
    assert len(np.unique(sets.subject[a.train])) == 12
    for split in (a, b):
        parts = [set(sets.subject[x].tolist()) for x in (split.train, split.validation, split.test)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert list(a.test) == list(b.test) and list(a.validation) == list(b.validation)


@pytest.mark.parametrize("draw", range(6))
def test_a_share_of_labels_holds_every_class_and_binds_validation_people_too(
    make_sweep: Make, draw: int
) -> None:
    """The classes keep their proportion whatever people the draw takes, and the epoch is chosen by
    people of whom no larger share has the label."""
    made = make_sweep("axes.label_share=[0.2, 0.5]", f"axes.draw=[{draw}]", "also=[]")
    points = [p for p in made.runnable if p.subjects == 20 and p.size == "8x1"]
    few, more = (prepare_point(made.sweep, p) for p in points)
    sets = open_sets(made.sweep.base.data)
    question = few.questions[0]
    for part in ("train", "validation"):
        scans = getattr(few, part)
        truths = [question.truth(s.labels[scans]) for s in (few.sets, more.sets, sets)]
        fewer, halved, all_known = (np.bincount(t[np.isfinite(t)].astype(int)) for t in truths)
        for kept, share in ((fewer, 0.2), (halved, 0.5)):
            assert kept.sum() == max(2, round(share * all_known.sum())), part
            assert np.abs(kept - share * all_known).max() <= 1
        kept, known = np.isfinite(truths[0]), np.isfinite(truths[1])
        assert (known | ~kept).all()
    assert np.array_equal(few.sets.labels[few.test], sets.labels[few.test], equal_nan=True)


def test_more_people_than_the_fold_has_is_the_users_mistake(make_sweep: Make) -> None:
    made = make_sweep("axes.subjects=[900]", "also=[]")
    with pytest.raises(InputError, match=r"asks for 900 people, fold 1 has \d+ to train on"):
        sweeps.run_one(made.sweep, made.runnable[0])


@pytest.mark.parametrize(
    ("people", "said"), [(1, "0 scans with a known age"), (2, "1 scans with a known age")]
)
def test_too_few_people_for_a_baseline_are_named(make_sweep: Make, people: int, said: str) -> None:
    made = make_sweep(f"axes.subjects=[{people}]", "also=[]")
    match = f"linear-u{people}-s0-f1: {said} are too few to tune a baseline"
    with pytest.raises(InputError, match=match):
        sweeps.run_one(made.sweep, made.runnable[-1])


def test_pretrained_and_scratch_are_points_of_one_sweep_that_fits(
    make_sweep: Make, world: Path, tmp_path: Path
) -> None:
    """The checkpoint brings targets of its own (another set's outcome); the held-out people and
    what is asked of them are the same."""
    start = tmp_path / "runs" / "before"
    base = ["model.width=8", "model.layers=1", "model.heads=4", "model.ffn=8"]
    data = [f"data.shards_dir={world}/shards", "data=second", "objective.scalar_scale=standardised"]
    here = ["name=before", f"runs_dir={tmp_path}/runs", "trainer.threads=1", "trainer.max_epochs=1"]
    run.fit(prepare(config.load(Recipe, None, [*here, *base, *data])))
    few = ["axes.size=[8x1]", "axes.subjects=[12, 20]", "also=[]"]
    made = make_sweep(*few, f"axes.init_from=[null, {start}]")
    assert [made.sweep.recipe_of(p).init_from for p in made.runnable[:2]] == [None, str(start)]
    for point in made.runnable:
        sweeps.run_one(made.sweep, point)
    found = analyse(collect(made))
    assert {row.start for row in found.rows} == {""}, "a law has no term for a start"
    pairs = starts(found.collected.rows)
    assert [(s.start, s.people, s.pairs) for s in pairs] == [(str(start), n, 1) for n in (12, 20)]
    assert "Pretrained against scratch" in [table.heading for table in tables(found)]
    facts = read_result(made.sweep.folder_of(made.runnable[0]))
    assert facts["people_labelled"] <= facts["people"]


def test_points_from_scratch_keep_the_mark_that_older_versions_gave_them(make_sweep: Make) -> None:
    """A sweep that an older version began goes on."""
    made = make_sweep()
    sets = open_sets(made.sweep.base.data)
    facts = [sets.vocabulary.to_json(), sets.fingerprints, sets.atlas.checksum]
    old = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    assert mark_of(sets, made.sweep.base.data) == old
    fewer = replace(made.sweep.base.data, targets=["diagnosis"])
    assert mark_of(open_sets(fewer), fewer) != old


def test_status_tells_finished_waiting_and_diverged_apart(make_sweep: Make) -> None:
    made = make_sweep()
    good, bad = made.runnable[:2]
    for point, loss in ((good, 1.0), (bad, float("nan"))):
        folder = made.sweep.folder_of(point)
        folder.mkdir(parents=True)
        (folder / "point.json").write_text(
            json.dumps({"loss": loss, "chance": 2.0, "metrics": [], "epochs": 2})
        )
    assert [s.state for s in sweeps.status(made)[:3]] == ["finished", "diverged", "waiting"]


def test_a_point_whose_loss_becomes_no_number_is_recorded_as_diverged(make_sweep: Make) -> None:
    """It is done: neither failed nor tried again, and the fit names and leaves it out."""
    made = make_sweep("axes.lr=[1.0e-3, 1.0e30]", "axes.size=[8x1]", "axes.subjects=[12]")
    bad = next(p for p in made.runnable if "lr1e+30" in p.name)
    good = next(p for p in made.runnable if "lr0.001" in p.name)
    for point in (bad, good, bad):
        sweeps.run_one(made.sweep, point)
    state = sweeps.state_of(made.sweep, bad)
    assert (state.state, state.loss, state.note) == ("diverged", None, "at step 2")
    assert sweeps.state_of(made.sweep, good).state == "finished"
    found = collect(made)
    assert found.diverged == (bad.name,)
    assert [row.name for row in found.rows] == [good.name]


def test_a_sweep_that_was_moved_goes_on(
    make_sweep: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = make_sweep()
    point, fit = made.runnable[0], run.fit

    def half(prepared: PreparedRun) -> object:
        recipe = prepared.recipe
        fit(replace(prepared, recipe=replace(recipe, trainer=replace(recipe.trainer, max_steps=1))))
        raise KeyboardInterrupt

    monkeypatch.setattr("lcm_scale.sweep.measure.trained", half)
    with pytest.raises(KeyboardInterrupt):
        sweeps.run_one(made.sweep, point)
    monkeypatch.undo()
    made.sweep.folder.parent.rename(tmp_path / "elsewhere")
    moved = make_sweep(f"runs_dir={tmp_path}/elsewhere")
    sweeps.run_one(moved.sweep, point)
    log = read_log(moved.sweep.folder_of(point) / "log.jsonl")
    assert [e["step"] for e in log if e["event"] == "step"] == [1, 2, 3, 4]
    assert [e["step"] for e in log if e["event"] == "resumed"] == [1]
