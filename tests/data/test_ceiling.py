"""The simulator's own posterior: against plain Monte Carlo, where it is written, and who may read
it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from lcm_scale.atlas import load_atlas
from lcm_scale.config import SimulationConfig
from lcm_scale.data import ceiling
from lcm_scale.data.readers.simulated import CEILINGS, PHENOTYPES, write_cohort

CONFIG = SimulationConfig(
    subjects=300, volumes=2, sites=3, first_site=4, separation=1.7, age_interaction=0.5,
    site_interaction=0.5, missing_labels=0.0,
)  # fmt: skip


def drawn(rng: np.random.Generator, n: int, site: int) -> tuple[dict, dict]:
    """People of a site and their amounts, written down once more, person by person."""
    labels: dict[str, list] = {"patient": [], "male": [], "eyes_open": [], "age": []}
    amounts: dict[str, list] = {"group": [], "sex": [], "age": [], "task": []}
    of_site = 1 + 0.5 * np.random.default_rng((13, site)).uniform(-1, 1)
    for _ in range(n):
        patient, male, eyes = rng.random() < 0.5, rng.random() < 0.6, rng.random() < 0.5
        age = rng.random()
        means = (
            1.7 * of_site * (1 + 0.5 * (2 * age - 1)) * patient, 1.7 * male, 2 * 1.7 * age, 1.7 * eyes
        )  # fmt: skip
        for name, value in zip(labels, (patient, male, eyes, 8 + 37 * age), strict=True):
            labels[name].append(value)
        for name, mean in zip(amounts, means, strict=True):
            amounts[name].append(mean)
    return {k: np.array(v, float) for k, v in labels.items()}, {
        k: np.array(v) for k, v in amounts.items()
    }


def test_the_posterior_is_that_of_plain_monte_carlo() -> None:
    """Every label's mean over drawn people, each weighted by how likely the scan's amounts are of
    such a person."""
    rng = np.random.default_rng(0)
    labels, means = drawn(rng, 20_000, site=5)
    asked = {name: rng.normal(1, 1.3, 12) for name in means}
    found = ceiling.posterior(CONFIG, asked, np.full(12, 5))
    for scan in range(12):
        weight = np.prod([norm.pdf(asked[name][scan], means[name], 1) for name in means], axis=0)
        for name, known in labels.items():
            plain = np.average(known, weights=weight)
            spread = np.sqrt(np.average((known - plain) ** 2, weights=weight))
            error = spread / np.sqrt(weight.sum() ** 2 / (weight**2).sum())
            assert abs(found[name][scan] - plain) < 4.5 * error + 1e-6, name


def test_the_accuracy_is_that_of_drawn_people_and_about_85_percent_in_the_demo() -> None:
    rng = np.random.default_rng(1)
    labels, means = drawn(rng, 10_000, site=5)
    amounts = {name: mean + rng.standard_normal(10_000) for name, mean in means.items()}
    told = ceiling.posterior(CONFIG, amounts, np.full(10_000, 5))["patient"]
    right = ((told > 0.5) == labels["patient"]).mean()
    one_site = replace(CONFIG, first_site=5, sites=1)
    assert right == pytest.approx(ceiling.bayes_accuracy(one_site), abs=0.012)
    # A posterior is right as often as it says.
    assert right == pytest.approx(np.maximum(told, 1 - told).mean(), abs=0.012)
    demo = replace(CONFIG, separation=1.65, sites=2, age_interaction=0.4, site_interaction=0.4)
    assert ceiling.bayes_accuracy(demo) == pytest.approx(0.85, abs=0.01)


def test_without_interactions_the_accuracy_is_the_textbooks() -> None:
    plain = SimulationConfig(separation=2.0)
    assert ceiling.bayes_accuracy(plain) == pytest.approx(norm.cdf(1.0), abs=0.005)


def test_effects_grow_with_age_and_differ_by_site() -> None:
    young, old = (ceiling.group_separation(CONFIG, np.array(a), np.array(4)) for a in (0.0, 1.0))
    assert old / young == pytest.approx(1.5 / 0.5)
    sites = ceiling.group_separation(CONFIG, np.array(0.5), np.arange(9))
    assert len(np.unique(sites)) == 9 and np.all(np.abs(sites / 1.7 - 1) <= 0.5)


def test_a_separated_cohort_has_the_columns_and_others_have_not(tmp_path: Path) -> None:
    atlas = load_atlas("sim:40")
    write_cohort(tmp_path / "with", replace(CONFIG, subjects=200), atlas)
    write_cohort(tmp_path / "without", SimulationConfig(subjects=3, volumes=2), atlas)
    rows = list(csv.DictReader((tmp_path / "with" / PHENOTYPES).open()))
    told = np.array([float(row["CEILING_DIAGNOSIS"]) for row in rows])
    patient = np.array([row["DX_GROUP"] == "1" for row in rows])
    assert 0.78 < ((told > 0.5) == patient).mean() < 0.95
    assert {row["SITE_ID"] for row in rows} == {"SIM5", "SIM6", "SIM7"}
    other = csv.DictReader((tmp_path / "without" / PHENOTYPES).open())
    assert not set(CEILINGS) & set(other.fieldnames or ())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ceiling sex M"], [[0.8, 0.2], [0.3, 0.7]]),
        (["ceiling sex F", "ceiling sex M"], [[0.8, 0.2], [0.3, 0.7]]),
        (["ceiling other M"], None),
    ],
)
def test_of_two_answers_one_is_enough(names: list[str], expected: list | None) -> None:
    values = np.array([[0.8, 0.3], [0.2, 0.7]]).T
    values = values[:, :1] if len(names) == 1 else values[:, ::-1]
    found = ceiling.of_question("sex", ("M", "F"), names, values)
    assert found is None if expected is None else np.allclose(found, expected)


def test_where_a_scan_has_no_ceiling_nobody_has() -> None:
    assert ceiling.of_question("age", (), ["ceiling age"], np.array([[3.0], [np.nan]])) is None
    two = ceiling.of_question("sex", ("M", "F"), ["ceiling sex M"], np.array([[np.nan]]))
    assert two is None
