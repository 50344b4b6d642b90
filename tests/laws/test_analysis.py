"""What a fitted sweep says, and what it refuses to say."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.errors import InputError
from lcm_scale.laws import page
from lcm_scale.laws.analysis import against, analyse
from lcm_scale.laws.choice import (
    Candidate,
    Coefficient,
    chosen,
    compare,
    influence,
    refusal,
)
from lcm_scale.laws.collect import BestRate, Configuration, best_rate_by_size, collect
from lcm_scale.laws.consequences import options
from lcm_scale.laws.fit import Interval, fit, profile_interval
from lcm_scale.laws.laws import LAWS, Runs, Scale
from lcm_scale.sweep.finished import FORMAT, write_result
from lcm_scale.sweep.measure import run_point
from lcm_scale.sweep.plan import Plan, plan
from lcm_scale.sweep.points import open_sweep

Make = Callable[..., Plan]


def sample(law: str, noise: float = 0.01, seed: int = 0, **values: float) -> Runs:
    n, u, s = (
        x.ravel()
        for x in np.meshgrid(np.geomspace(5e4, 2e7, 6), np.geomspace(100, 1340, 4), range(2))
    )
    runs = Runs(np.ones_like(n), n, 10 * u, u, np.full_like(n, 10.0), np.arange(n.size) + 0 * s)
    truth = {"E": 0.55, "A": 0.10, "B": 0.20, "a": 0.35, "b": 0.35, **values}
    clean = LAWS[law].predict(runs, Scale.of(runs), np.array([truth[k] for k in LAWS[law].names]))
    return runs.with_loss(
        clean * np.exp(noise * np.random.default_rng(seed).standard_normal(n.size))
    )


def coefficients(runs: Runs, law: str = "chinchilla") -> tuple:
    fitted = fit(LAWS[law], runs)
    return fitted, [
        Coefficient(n, fitted.named[n], profile_interval(fitted, n), Interval(0, 0))
        for n in LAWS[law].names
    ]


@pytest.mark.parametrize("truth", ["data", "chinchilla"])
def test_the_law_is_chosen_by_what_it_foretells_of_the_largest_size(truth: str) -> None:
    candidates = compare([LAWS["data"], LAWS["chinchilla"]], sample(truth))
    assert chosen(candidates) == truth


def test_of_equals_the_law_with_fewer_parameters_is_chosen() -> None:
    assert (
        chosen([Candidate("chinchilla", 0.01, 0.0100), Candidate("data", 0.03, 0.0101)]) == "data"
    )


def test_a_frontier_is_refused_where_e_may_be_anything() -> None:
    runs = sample("chinchilla", noise=0.2)
    assert "nearly all of the smallest loss" in refusal(*coefficients(runs))


def test_a_frontier_is_refused_where_size_does_nothing() -> None:
    assert "may be zero" in refusal(*coefficients(sample("chinchilla", A=0.0)))
    assert "no term for the size" in refusal(*coefficients(sample("data"), "data"))


def test_a_frontier_is_given_where_the_runs_hold_one() -> None:
    assert refusal(*coefficients(sample("chinchilla"))) == ""


def test_the_run_that_pulls_hardest_is_named_first() -> None:
    runs = sample("chinchilla", noise=0.003)
    loss = runs.loss.copy()
    loss[np.argmax(runs.seen)] *= 1.1
    fitted = fit(
        LAWS["chinchilla"], runs.with_loss(loss), delta=1.0
    )  # plain squares: nothing is damped
    rows = influence(fitted, [str(i) for i in range(len(runs))], profile_interval(fitted, "E"))
    assert rows[0].name == str(np.argmax(runs.seen))


def test_more_runs_never_leave_e_wider() -> None:
    as_it_stands, *ways = options(fit(LAWS["chinchilla"], sample("chinchilla", noise=0.02)))
    assert as_it_stands.runs == 0
    assert all(way.width < 1.1 * as_it_stands.width for way in ways)


def test_a_finished_sweep_is_collected_whole(finished: Path) -> None:
    found = collect(plan(open_sweep(finished)))
    assert (len(found.rows), len(found.baselines)) == (13, 3)
    assert found.missing == found.diverged == found.incomplete == ()
    assert found.simulated
    assert all(np.isfinite(r.loss) and r.flops > 0 and r.body < r.parameters for r in found.rows)


def test_the_report_of_a_real_sweep_says_all_it_should(finished: Path, tmp_path: Path) -> None:
    made = plan(open_sweep(copy_of(finished, tmp_path)))
    analysis = analyse(collect(made))
    path = page.write(analysis)
    text = path.read_text()
    assert "SIMULATED" in text
    assert not re.search(r"src=\"(?!data:)", text)
    numbers = json.loads((path.parent / "scaling.json").read_text())
    assert numbers["law"] in LAWS
    assert {c["name"] for c in numbers["coefficients"]} == set(LAWS[numbers["law"]].names)
    assert [a["people"] for a in numbers["against"]] == [12, 16, 20]
    assert numbers["ensembles"][0]["seeds"] == 2
    for stem in (
        "loss-parameters",
        "loss-people",
        "loss-flops",
        "metric-people",
        "metric-hours",
        "ensembles",
    ):
        assert (path.parent / "figures" / f"{stem}.png").stat().st_size > 5000
        assert (path.parent / "figures" / f"{stem}.svg").stat().st_size > 5000
        assert f'href="figures/{stem}.csv"' in text
        assert "linear" in (path.parent / "figures" / "loss-people.csv").read_text()


def test_diverged_and_missing_points_are_named_and_left_out(finished: Path, tmp_path: Path) -> None:
    recipe = copy_of(finished, tmp_path)
    made = plan(open_sweep(recipe))
    bad, gone = (made.sweep.folder_of(p) for p in made.runnable[:2])
    facts = json.loads((bad / "point.json").read_text())
    (bad / "point.json").write_text(json.dumps({**facts, "loss": float("nan")}))
    (gone / "point.json").unlink()
    found = collect(made)
    assert (found.diverged, found.missing) == ((bad.name,), (gone.name,))
    assert len(found.rows) == 11
    lines = " ".join(page.warnings(analyse(found)))
    assert f"1 points diverged, left out: {bad.name}" in lines
    assert f"1 points missing, left out: {gone.name}" in lines


def test_points_of_mixed_vocabularies_are_refused(finished: Path, tmp_path: Path) -> None:
    made = plan(open_sweep(copy_of(finished, tmp_path)))
    file = made.sweep.folder_of(made.runnable[0]) / "point.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "vocabulary": "other"}))
    with pytest.raises(
        InputError, match=rf"2 different data sets or vocabularies.*{made.runnable[0].name}"
    ):
        collect(made)


def test_too_few_points_say_how_many_more(finished: Path, tmp_path: Path) -> None:
    made = plan(open_sweep(copy_of(finished, tmp_path), ["axes.size=[8x1,16x1]", "also=[]"]))
    with pytest.raises(InputError, match=r"\d more"):
        analyse(collect(made))


def row(**values: Any) -> Configuration:
    usual = {
        "size": "8x1",
        "name": "",
        "is_baseline": False,
        "parameters": 100,
        "body": 50,
        "people": 20,
        "scans": 20,
        "epochs": 2,
        "seed": 0,
        "draw": 0,
        "label_share": 1.0,
        "settings": (),
        "learning_rate": None,
        "start": "",
        "loss": 1.0,
        "last_loss": 1.0,
        "chance": 2.0,
        "losses": {},
        "metrics": {},
        "flops": 1.0,
        "seconds": 1.0,
        "hours": 1.0,
        "folders": (),
    }
    return Configuration(**{**usual, **values})


def test_runs_of_other_lengths_rates_and_labels_are_not_averaged_as_if_they_were_seeds() -> None:
    rows = [
        row(loss=0.9, epochs=8, seed=0),
        row(loss=1.1, epochs=8, seed=1),
        row(loss=3.0, epochs=1),
        row(loss=5.0, epochs=8, settings=("optim.adaptive.lr=1",)),
        row(loss=1.5, epochs=8, label_share=0.5),
    ]
    baselines = [
        row(size="linear", loss=1.2, epochs=0),
        row(size="linear", loss=1.4, epochs=0, label_share=0.5),
    ]
    found = {(a.people, a.label_share): (a.loss, a.baseline_loss) for a in against(rows, baselines)}
    assert found == {(20, 1.0): (1.0, 1.2), (20, 0.5): (1.5, 1.4)}


def test_points_that_differ_in_the_model_alone_are_no_folds_of_one(make_sweep: Make) -> None:
    few = ["axes.size=[8x1]", "axes.subjects=[12]", "also=[]"]
    made = make_sweep("axes.model.dropout=[0.1, 0.3]", *few)
    for point in made.runnable:
        facts = {"loss": 1.0, "chance": 2.0, "losses": {"age": 1.0}, "weights": {"age": 1.0}}
        facts |= {"format": FORMAT, "simulated": True, "vocabulary": "x", "metrics": []}
        facts |= {"people": 12, "people_held_out": 9, "scans": 12, "seconds": 1.0}
        write_result(made.sweep.folder_of(point), facts)
    settings = [row.settings for row in collect(made).rows]
    assert settings == [("model.dropout=0.1",), ("model.dropout=0.3",)]


def test_the_best_rate_of_each_size_stands_beside_the_smallest_sizes() -> None:
    losses = {("8x1", 1e-3): 2.0, ("8x1", 1e-2): 1.0, ("32x2", 1e-3): 0.5, ("32x2", 1e-2): 0.8}
    rows = [
        row(
            size=size,
            parameters=10 if size == "8x1" else 90,
            learning_rate=rate,
            loss=loss,
        )
        for (size, rate), loss in losses.items()
    ]
    assert best_rate_by_size(rows) == [
        BestRate("8x1", 0.01, 1.0, 1.0),
        BestRate("32x2", 0.001, 0.5, 0.8),
    ]
    assert best_rate_by_size(rows[:1]) == []


def test_a_sweep_of_rates_is_reported_without_a_law(make_sweep: Make) -> None:
    text = """
name: rates
runs_dir: {folder}/runs
recipe: run
design: lr_transfer
axes: {{size: [8x1, 16x1], subjects: [12], epochs: [1], lr: [1.0e-3, 1.0e-2]}}
baselines: []
"""
    made = make_sweep(text=text)
    for point in made.runnable:
        run_point(made.sweep, point)
    found = analyse(collect(made))
    assert found.law is None
    assert "The best rate of 8x1" in page.verdict(found)
    assert "No law was fitted" in page.warnings(found)[0]
    path = page.write(found)
    assert (path.parent / "figures" / "rates.png").stat().st_size > 5000
    assert len(json.loads((path.parent / "scaling.json").read_text())["rates"]) == 2


def test_a_sweep_that_never_ran_says_so(make_sweep: Make) -> None:
    with pytest.raises(InputError, match="none of its 16 points is finished"):
        collect(make_sweep())


def test_a_damaged_point_is_named(finished: Path, tmp_path: Path) -> None:
    made = plan(open_sweep(copy_of(finished, tmp_path)))
    (made.sweep.folder_of(made.runnable[0]) / "point.json").write_text("{")
    with pytest.raises(
        InputError, match=r"point.json: damaged \(not valid JSON\); remove that folder"
    ):
        collect(made)


def copy_of(recipe: Path, into: Path) -> Path:
    """The finished sweep in a folder of its own."""
    shutil.copytree(recipe.parent / "runs", into / "runs")
    (into / "run.yaml").write_text((recipe.parent / "run.yaml").read_text())
    (into / recipe.name).write_text(recipe.read_text().replace(str(recipe.parent), str(into)))
    return into / recipe.name
