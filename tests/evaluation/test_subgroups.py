"""Groups are measured as if each were the whole study, and one that is served worse is found."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lcm_scale.evaluation.intervals import resampled
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.results import TargetResult
from lcm_scale.evaluation.several import clear
from lcm_scale.evaluation.subgroups import by_group
from lcm_scale.vocabulary import Target

N = 300
SITES = ("east", "west", "small")


def sets(site: np.ndarray, sex: np.ndarray, groups: np.ndarray | None = None) -> Any:
    """What is asked of `ShardSets`."""
    target = Target("sex", "sex", ("F", "M"))
    vocabulary = SimpleNamespace(targets=(target,))
    labels = sex[:, None].astype(float)
    return SimpleNamespace(
        sites=SITES, site=site, labels=labels, vocabulary=vocabulary, groups=groups
    )


def measured(skill: np.ndarray, target: str = "diagnosis", seed: int = 0) -> TargetResult:
    """Two classes, each scan scored with a skill of its own; a baseline that is worse."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, N)

    def scored(model: str, skill: np.ndarray) -> Predictions:
        up = 1 / (1 + np.exp(-(skill * (2 * truth - 1) + rng.normal(size=N))))
        number = np.arange(N)
        return Predictions(
            model,
            target,
            "class",
            ("CN", "PD"),
            truth,
            np.c_[1 - up, up],
            number,
            number % 5,
            number,
        )

    both = [scored("LCM", skill), scored("linear", skill / 3)]
    drawn = [resampled(p, 50, 0) for p in both]
    return TargetResult(
        target=target,
        kind="class",
        categories=("CN", "PD"),
        n_scans=N,
        n_subjects=N,
        results={p.model: d.metrics() for p, d in zip(both, drawn, strict=True)},
        differences={"linear": drawn[0].minus(drawn[1])},
        deciding="auroc",
        confounded=None,
        predictions=tuple(both),
    )


@pytest.fixture
def of() -> tuple[np.ndarray, np.ndarray]:
    """Site and sex of each scan; six people of the third site, ten of no known site."""
    site = np.arange(N) % 2
    site[:6], site[6:16] = 2, -1
    return site, (np.arange(N) // 2) % 2


def test_a_group_is_measured_as_if_it_were_the_whole_study(of: tuple[np.ndarray, ...]) -> None:
    t = measured(np.full(N, 1.0))
    rows = by_group(sets(*of), [t], 200, 3)
    by_name = {row.group: row for row in rows}
    assert list(by_name) == ["east", "small", "west", "F", "M"]
    here = of[0] == 0
    alone = resampled(t.predictions[0].of(here), 200, 3).metrics()
    auroc = next(m for m in alone if m.name == "auroc")
    east = by_name["east"]
    assert east.ours is not None and east.ours.value == pytest.approx(auroc.value, abs=1e-12)
    assert east.n_scans == here.sum() and east.baseline == "linear"
    rest = resampled(t.predictions[0].of((of[0] > 0) & ~here), 1, 3).metrics()
    other = next(m for m in rest if m.name == "auroc").value
    assert east.rest is not None and east.rest.value == pytest.approx(auroc.value - other)


def test_too_small_a_group_is_counted_only(of: tuple[np.ndarray, ...]) -> None:
    small = next(
        r for r in by_group(sets(*of), [measured(np.ones(N))], 100, 0) if r.group == "small"
    )
    assert (small.n_people, small.ours, small.rest) == (6, None, None) and np.isnan(small.p)


def test_a_group_of_one_class_is_counted_only(of: tuple[np.ndarray, ...]) -> None:
    t = measured(np.ones(N))
    truth = t.predictions[0].truth
    site = np.where(truth == 1, 0, 1)
    rows = by_group(sets(site, of[1]), [t], 100, 0)
    assert all(row.ours is None for row in rows if row.column == "site")


def test_a_site_that_is_served_worse_is_found_and_others_are_not(
    of: tuple[np.ndarray, ...],
) -> None:
    worse = by_group(sets(*of), [measured(np.where(of[0] == 0, 0.0, 2.0))], 500, 0)
    assert {row.group for row in worse if clear(row.p)} == {"east", "west"}
    alike = by_group(sets(*of), [measured(np.full(N, 1.0))], 500, 0)
    assert not [row.group for row in alike if clear(row.p)]


def test_nothing_is_read_by_itself_or_where_there_is_one_group(of: tuple[np.ndarray, ...]) -> None:
    t = measured(np.ones(N), "sex")
    one_site = sets(np.zeros(N, int), of[1])
    assert by_group(one_site, [t], 50, 0) == ()
    assert {row.column for row in by_group(one_site, [replace(t, target="d")], 50, 0)} == {"sex"}


def test_of_several_divisions_the_first_is_read(of: tuple[np.ndarray, ...]) -> None:
    t = measured(np.ones(N))
    twice = tuple(p.of(np.r_[np.arange(N), np.arange(N)[::-1]]) for p in t.predictions)
    both = by_group(sets(*of), [replace(t, predictions=twice)], 50, 0)
    assert [row.ours for row in both] == [row.ours for row in by_group(sets(*of), [t], 50, 0)]
