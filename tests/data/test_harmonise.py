"""Sites' effects: what is fitted, on whom, and what happens to scans nobody could fit for.

fixtures/neurocombat_0_2_12.json is what neuroCombat 0.2.12 (the reference implementation, PyPI) makes of
48 drawn scans of three sites: all scans with age and sex preserved, all scans plainly, and the last
twelve by what was fitted on the first 36.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.data.harmonise import fit_harmoniser, known_sites
from lcm_scale.evaluation.baselines import fit_predict

FIXTURE = Path(__file__).parent / "fixtures" / "neurocombat_0_2_12.json"
REGIONS, SITES = 12, 3
EDGES = REGIONS * (REGIONS - 1) // 2
METHODS = ["site-centre", "combat"]


@pytest.fixture(scope="module")
def published() -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in json.loads(FIXTURE.read_text()).items()}


def cohort(seed: int = 0, n: int = 180) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (n, E), site and age: each site shifts every edge and scales its spread, age moves a
    third of the edges, and sites differ in age."""
    rng = np.random.default_rng(seed)
    effects = np.random.default_rng(1)
    site = rng.permutation(np.arange(n) % SITES)
    age = rng.normal(25, 6, n) + 4 * site
    slopes = np.where(np.arange(EDGES) % 3 == 0, 0.02, 0) * effects.choice([-1, 1], EDGES)
    z = 0.2 + rng.normal(0, 0.2, (n, EDGES)) * np.array([1, 1.5, 0.7])[site][:, None]
    z += effects.normal(0, 0.25, (SITES, EDGES))[site] + (age - 29)[:, None] * slopes
    return np.tanh(z).astype(np.float32), site, age


def nothing(n: int) -> np.ndarray:
    return np.zeros((n, 0))


# -- ComBat is the published one -------------------------------------------------------------------


@pytest.mark.parametrize("expected", ["plain", "preserving"])
def test_combat_is_neurocombats(expected: str, published: dict[str, np.ndarray]) -> None:
    edges, site = published["edges"], published["site"].astype(int)
    n = len(edges)
    covariates = np.c_[published["age"], published["sex"]]
    covariates = covariates if expected == "preserving" else nothing(n)
    fitted = fit_harmoniser("combat", edges, site, np.arange(n), covariates, fisher=False)
    found = fitted.apply(edges, site, covariates)
    assert np.abs(published[expected] - edges).max() > 0.3
    assert np.abs(found - published[expected]).max() < 1e-4  # its iteration stops at 1e-4


def test_combat_of_held_out_scans_is_neurocombats(published: dict[str, np.ndarray]) -> None:
    edges, site = published["edges"], published["site"].astype(int)
    fitted = fit_harmoniser(
        "combat", edges[:36], site[:36], np.arange(36), nothing(36), fisher=False
    )
    found = fitted.apply(edges[36:], site[36:], nothing(12))
    assert np.abs(found - published["held_out"]).max() < 1e-4


def test_centring_gives_every_site_the_mean_of_all() -> None:
    edges, site, _ = cohort()
    fitted = fit_harmoniser("site-centre", edges, site, np.arange(180), nothing(180), fisher=True)
    z = np.arctanh(fitted.apply(edges, site, nothing(180)).astype(np.float64))
    everybody = np.arctanh(edges.astype(np.float64)).mean(0)
    for number in range(SITES):
        assert np.abs(z[site == number].mean(0) - everybody).max() < 1e-5


# -- what it is for --------------------------------------------------------------------------------


def decoded(edges: np.ndarray, truth: np.ndarray, kind: str) -> float:
    """Accuracy, or R2, of the linear baseline on the last 60 of 180 people."""
    answer = fit_predict(
        "linear", edges[:120], truth[:120], np.arange(120), edges[120:], kind, SITES, 0
    )
    if kind == "class":
        return float((answer.argmax(1) == truth[120:]).mean())
    return 1 - float(((answer - truth[120:]) ** 2).mean() / truth[120:].var())


@pytest.mark.parametrize("method", METHODS)
def test_the_site_of_held_out_scans_cannot_be_told_any_more(method: str) -> None:
    edges, site, age = cohort()
    covariates = age[:, None]
    fitted = fit_harmoniser(
        method, edges[:120], site[:120], np.arange(120), covariates[:120], fisher=True
    )
    without = fitted.apply(edges, site, covariates)
    # Through the others the sites' difference in age shows, which ComBat is to keep.
    ageless = np.arange(EDGES) % 3 != 0
    assert decoded(edges[:, ageless], site, "class") > 0.95
    assert decoded(without[:, ageless], site, "class") < 0.5  # of three sites


def test_combat_keeps_the_age_that_it_is_told_to_preserve_and_centring_loses_it() -> None:
    edges, site, age = cohort()
    found = {}
    for name, method, covariates in (
        ("kept", "combat", age[:, None]),
        ("not told", "combat", nothing(180)),
        ("centred", "site-centre", nothing(180)),
    ):
        fitted = fit_harmoniser(
            method, edges[:120], site[:120], np.arange(120), covariates[:120], fisher=True
        )
        found[name] = decoded(fitted.apply(edges, site, covariates), age, "scalar")
    assert found["kept"] > decoded(edges, age, "scalar") - 0.02
    assert found["kept"] > found["not told"] + 0.05 and found["kept"] > found["centred"] + 0.05


# -- whom it knows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_scan_of_a_site_that_nobody_fitted_is_left_bit_for_bit(method: str) -> None:
    edges, site, _ = cohort()
    fitted = fit_harmoniser(method, edges, site, np.arange(180), nothing(180), fisher=True)
    strange = np.where(np.arange(180) % 2, -1, 7)
    assert np.array_equal(fitted.apply(edges, strange, nothing(180)), edges)


@pytest.mark.parametrize("method", METHODS)
def test_a_site_of_one_person_is_left_and_changes_nothing_for_the_others(method: str) -> None:
    edges, site, _ = cohort()
    subject = np.arange(180)
    alone = site.copy()
    alone[:3], subject[:3] = 5, 0  # three scans of one person
    assert known_sites(alone, subject).tolist() == [0, 1, 2]
    with_them = fit_harmoniser(method, edges, alone, subject, nothing(180), fisher=True)
    without = fit_harmoniser(method, edges[3:], alone[3:], subject[3:], nothing(177), fisher=True)
    assert same(with_them, without)
    assert np.array_equal(with_them.apply(edges[:3], alone[:3], nothing(3)), edges[:3])


def same(one: object, other: object) -> bool:
    """Bit for bit."""
    return all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


@pytest.mark.parametrize("method", METHODS)
def test_where_no_site_is_known_all_scans_are_left(method: str) -> None:
    """As in a part of an inner cross-validation; the folds themselves are refused."""
    edges, site, _ = cohort()
    fitted = fit_harmoniser(method, edges, site - 9, np.arange(180), nothing(180), fisher=True)
    assert np.array_equal(fitted.apply(edges, site, nothing(180)), edges)


# -- what is missing -------------------------------------------------------------------------------


def test_a_missing_covariate_stands_at_the_training_mean() -> None:
    edges, site, age = cohort()
    covariates = np.c_[age, np.full(180, np.nan)]  # nobody's second is known: it does nothing
    covariates[::5, 0] = np.nan
    fitted = fit_harmoniser("combat", edges, site, np.arange(180), covariates, fisher=True)
    assert fitted.centre[0] == pytest.approx(np.nanmean(covariates[:, 0]))
    assert not fitted.slopes[1].any()
    filled = np.where(np.isnan(covariates), fitted.centre, covariates)
    assert np.array_equal(fitted.apply(edges, site, covariates), fitted.apply(edges, site, filled))


@pytest.mark.parametrize("method", METHODS)
def test_a_region_without_data_stays_a_row_of_zeros_and_moves_nobody(method: str) -> None:
    edges, site, _ = cohort()
    rows, columns = np.triu_indices(REGIONS, 1)
    of_region = (rows == 4) | (columns == 4)
    lacking = edges.copy()
    lacking[np.ix_(np.arange(0, 180, 7), of_region)] = 0
    args = (site, np.arange(180), nothing(180), True)
    fitted = fit_harmoniser(method, lacking, *args)
    found = fitted.apply(lacking, site, nothing(180))
    assert not found[np.ix_(np.arange(0, 180, 7), of_region)].any()
    assert found[np.ix_(np.arange(1, 180, 7), of_region)].all()
    whole = fit_harmoniser(method, edges, *args)
    assert np.array_equal(fitted.offset[:, ~of_region], whole.offset[:, ~of_region]) or (
        np.abs(fitted.offset - whole.offset)[:, ~of_region].max() < 0.01
    )
    # Zeros taken for data would pull the region's edges towards zero.
    assert np.abs(fitted.offset - whole.offset)[:, of_region].max() < 0.1


def test_an_edge_that_never_varies_and_one_of_one_are_finite() -> None:
    edges, site, _ = cohort()
    edges[:, 0], edges[:, 1] = 0.4, 1.0
    fitted = fit_harmoniser("combat", edges, site, np.arange(180), nothing(180), fisher=True)
    found = fitted.apply(edges, site, nothing(180))
    assert np.isfinite(found).all() and np.abs(found).max() < 1
    assert np.allclose(found[:, 0], 0.4, atol=0.02)


def test_covariances_are_moved_as_they_are() -> None:
    edges, site, _ = cohort()
    fitted = fit_harmoniser("site-centre", 9 * edges, site, np.arange(180), nothing(180), False)
    found = fitted.apply(9 * edges, site, nothing(180))
    assert np.abs(found).max() > 1
    assert np.allclose(found[site == 0].mean(0), 9 * edges.mean(0), atol=1e-4)


@pytest.mark.parametrize("change", [lambda e: e[::-1] * 0.5, lambda e: -e])
def test_no_held_out_scan_enters(change: Callable[[np.ndarray], np.ndarray]) -> None:
    """The fit takes training scans alone; applying them together with others changes none."""
    edges, site, age = cohort()
    covariates = age[:, None]
    fitted = fit_harmoniser(
        "combat", edges[:120], site[:120], np.arange(120), covariates[:120], fisher=True
    )
    together = fitted.apply(edges, site, covariates)[:120]
    other = np.concatenate([edges[:120], change(edges[120:])])
    assert np.array_equal(fitted.apply(other, site, covariates)[:120], together)
    assert np.array_equal(fitted.apply(edges[:120], site[:120], covariates[:120]), together)
