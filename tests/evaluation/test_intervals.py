"""Intervals are over people, differences are paired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_predictions import classes, values

from lcm_scale.errors import InputError
from lcm_scale.evaluation.intervals import resampled
from lcm_scale.evaluation.metrics import METRICS, Metric, Predictions


def measured(p: Predictions, name: str, n_bootstrap: int = 1000, seed: int = 1) -> Metric:
    return next(m for m in resampled(p, n_bootstrap, seed).metrics() if m.name == name)


def doubled(p: Predictions) -> Predictions:
    """Every person scanned twice with the same outcome."""
    twice = {k: np.repeat(getattr(p, k), 2, axis=0) for k in ("truth", "scores", "subject", "fold")}
    return replace(p, **twice, scan=np.arange(2 * len(p.truth)))


@pytest.mark.parametrize("name", [*METRICS["class"], *METRICS["scalar"]])
def test_a_second_scan_of_each_person_does_not_narrow_the_interval(name: str) -> None:
    p = classes(80) if name in METRICS["class"] else values(80)
    once, twice = measured(p, name), measured(doubled(p), name)
    assert (twice.value, twice.low, twice.high) == pytest.approx(
        (once.value, once.low, once.high), abs=1e-9
    )
    assert (twice.n_scans, twice.n_subjects) == (160, 80)


def test_treating_those_scans_as_people_would_narrow_it() -> None:
    """That the test above can fail."""
    p = classes(80)
    honest = measured(doubled(p), "accuracy")
    fooled = measured(replace(doubled(p), subject=np.arange(160)), "accuracy")
    assert fooled.high - fooled.low < 0.8 * (honest.high - honest.low)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """200 studies of 60 people, two scans each that agree: 95 % intervals of the accuracy hold .7
    in 88 to 99 %."""
    rng = np.random.default_rng(3)
    covered = []
    for study in range(200):
        right = np.repeat(rng.random(60) < 0.7, 2)
        truth = rng.integers(0, 2, 120)
        scores = np.eye(2)[np.where(right, truth, 1 - truth)]
        p = Predictions(
            "LCM",
            "t",
            "class",
            ("a", "b"),
            truth,
            scores,
            np.repeat(np.arange(60), 2),
            np.zeros(120),
            np.arange(120),
        )
        weights_of_study = measured(p, "accuracy", 300, study)
        covered.append(weights_of_study.low <= 0.7 <= weights_of_study.high)
    assert 0.88 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize("p", [classes(skill=1.5), values()], ids=["class", "scalar"])
def test_a_flipped_sign_is_seen(p: Predictions) -> None:
    flipped = replace(p, scores=p.scores[:, ::-1] if p.kind == "class" else -p.scores)
    for name, kind in METRICS[p.kind].items():
        if name != "calibration_error":
            better, worse = measured(p, name, 200), measured(flipped, name, 200)
            assert (
                (better.low > worse.high) if kind.higher_is_better else (better.high < worse.low)
            ), name


def minus(a: Predictions, b: Predictions, name: str, n_bootstrap: int) -> Metric:
    found = resampled(a, n_bootstrap, 1).minus(resampled(b, n_bootstrap, 1))
    return next(m for m in found if m.name == name)


def test_the_difference_is_paired() -> None:
    """A model that is right on two people more, the same otherwise: unpaired intervals overlap, the
    paired excludes 0."""
    p = classes(300)
    scores = p.scores.copy()
    wrong = np.flatnonzero(p.predicted != p.truth)[:12]
    scores[wrong] = np.eye(2)[p.truth[wrong]]
    better = replace(p, scores=scores)
    difference = minus(better, p, "accuracy", 1000)
    assert difference.value == pytest.approx(12 / 300) and difference.low > 0
    assert measured(better, "accuracy").low < measured(p, "accuracy").high
    back = minus(p, better, "accuracy", 1000)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-difference.value, -difference.high, -difference.low)
    )


def test_a_model_minus_itself_is_zero() -> None:
    difference = minus(values(), values(), "mae", 200)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_predictions_of_other_scans_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different scans"):
        minus(classes(), replace(classes(), scan=np.arange(200)[::-1]), "accuracy", 10)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    first, repeated, other = (measured(classes(), "auroc", 200, seed) for seed in (1, 1, 2))
    assert first == repeated and (first.low, first.high) != (other.low, other.high)


def test_many_scans_are_resampled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(classes(), "accuracy", 100)
    monkeypatch.setattr("lcm_scale.evaluation.intervals.CHUNK", 200 * 7)
    in_pieces = measured(classes(), "accuracy", 100)
    assert (in_pieces.value, in_pieces.low, in_pieces.high) == (whole.value, whole.low, whole.high)


def test_what_is_undefined_is_nan_and_never_a_guess() -> None:
    one_class = classes(50)
    one_class = replace(one_class, truth=np.zeros(50, np.int64))
    auroc = measured(one_class, "auroc", 50)
    assert np.isnan([auroc.value, auroc.low, auroc.high]).all()
    constant = replace(values(50), scores=np.full(50, 30.0))
    assert np.isnan(measured(constant, "pearson_r", 50).value)


def test_a_target_that_nobody_has_is_named() -> None:
    with pytest.raises(InputError, match="target diagnosis: no scan to evaluate has this label"):
        resampled(
            replace(
                classes(1),
                **{
                    k: getattr(classes(1), k)[:0]
                    for k in ("truth", "scores", "subject", "fold", "scan")
                },
            ),
            10,
            0,
        )
