"""Region series to matrices: Pearson as published, windows and padding, what a constant or broken
region becomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcm_scale.atlas import Atlas, numbered
from lcm_scale.config import CleanConfig, ConnectivityConfig
from lcm_scale.data.connectivity import (
    Matrix,
    check_connectivity,
    connectivity_matrices,
    pearson,
    windows,
)
from lcm_scale.data.kinds import ESTIMATORS, matrix_of
from lcm_scale.data.recordings import Recording, Skipped
from lcm_scale.errors import InputError

ATLAS = Atlas("codes", (2001, 2002, 2101, 2102), ("a", "b", "c", "c"))


def scan(values: np.ndarray, ready: bool = False, **keys: Any) -> Recording:
    return Recording("c", "1", "scan.1D", **{"connectivity" if ready else "series": values}, **keys)


def only(recording: Recording, atlas: Atlas = ATLAS, **keys: Any) -> Matrix:
    (matrix,) = connectivity_matrices(recording, ConnectivityConfig(**keys), atlas)
    assert isinstance(matrix, Matrix)
    return matrix


@given(
    st.integers(0, 2**32 - 1),
    st.integers(3, 60),
    st.integers(2, 8),
    st.floats(-8, 8),
    st.sampled_from([0.0, 1.0, 1e4]),
)
def test_pearson_is_numpys_in_any_unit(
    seed: int, volumes: int, regions: int, magnitude: float, mean: float
) -> None:
    x = np.random.default_rng(seed).standard_normal((volumes, regions)) + mean
    found = pearson(x * 10.0**magnitude)
    assert found.dtype == np.float32
    assert np.allclose(found, np.corrcoef(x, rowvar=False), atol=2e-6)
    assert np.abs(found).max() <= 1


def test_a_region_that_is_turned_over_changes_its_signs_only(bold) -> None:
    x = bold(0)
    flipped = x * np.array([-1, 1, 1, 1, 1, 1])
    expected = pearson(x)
    expected[0, 1:] *= -1
    expected[1:, 0] *= -1
    assert np.allclose(pearson(flipped), expected, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_a_constant_region_is_a_row_of_zeros_its_diagonal_included(value: float, bold) -> None:
    x = bold(0, regions=4)
    x[:, 2] = value  # the mean of many 0.1 is not 0.1
    matrix = only(scan(x))
    assert not matrix.values[2].any() and not matrix.values[:, 2].any()
    assert np.diag(matrix.values).tolist() == [1, 1, 0, 1]
    assert (matrix.constant, matrix.not_finite) == ((2,), ())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.7e308, -1.7e308])
def test_a_region_with_nan_or_inf_is_a_row_of_zeros_and_counted(value: float, bold) -> None:
    x = bold(0, regions=4)
    x[7, 1] = value
    matrix = only(scan(x))
    assert np.isfinite(matrix.values).all()
    assert not matrix.values[1].any()
    keep = [0, 2, 3]
    assert np.allclose(
        matrix.values[np.ix_(keep, keep)], np.corrcoef(x[:, keep], rowvar=False), atol=1e-6
    )
    assert (matrix.constant, matrix.not_finite) == ((), (1,))


@given(st.integers(1, 50), st.integers(1, 60))
def test_windows_are_the_series_cut_once(volumes: int, length: int) -> None:
    series = np.arange(volumes)[:, None]
    pieces = windows(series, length)
    assert np.array_equal(np.concatenate(pieces), series)
    assert all(len(piece) == length for piece in pieces[:-1])


def test_without_a_window_there_is_one_matrix_of_all_volumes(bold) -> None:
    assert only(scan(bold(0, 77, 4))).volumes == 77


def test_padding_safe_correlates_what_is_there(bold) -> None:
    x = bold(0, 115, 4)
    found = connectivity_matrices(scan(x), ConnectivityConfig(window=40, min_volumes=30), ATLAS)
    assert [(m.window, m.volumes) for m in found if isinstance(m, Matrix)] == [
        (0, 40),
        (1, 40),
        (2, 35),
    ]
    last = found[2]
    assert isinstance(last, Matrix)
    assert np.allclose(last.values, np.corrcoef(x[80:], rowvar=False), atol=1e-6)


@pytest.mark.parametrize(
    ("pad", "why"), [("safe", "under 30 volumes"), ("drop", "shorter than connectivity.window")]
)
def test_a_last_window_that_is_too_short_is_named_and_skipped(pad: str, why: str, bold) -> None:
    found = connectivity_matrices(
        scan(bold(0, 105, 4)), ConnectivityConfig(window=40, pad=pad, min_volumes=30), ATLAS
    )
    assert [type(m) for m in found] == [Matrix, Matrix, Skipped]
    assert why in found[2].why and found[2].what == "scan.1D, window 2"  # type: ignore[union-attr]


def test_padding_drop_keeps_whole_windows_only(bold) -> None:
    found = connectivity_matrices(
        scan(bold(0, 119, 4)), ConnectivityConfig(window=40, pad="drop"), ATLAS
    )
    assert [type(m) for m in found] == [Matrix, Matrix, Skipped]


def test_padding_as_published_drives_every_correlation_to_one() -> None:
    """docs/model.md, Data sets and protocols: 300 volumes with a non-zero mean, padded to 500 with
    zeros."""
    x = 1000 + np.random.default_rng(0).standard_normal((300, 4)) * 10
    upper = np.triu_indices(4, 1)
    padded = only(scan(x), window=500, pad="reference")
    safe = only(scan(x), window=500)
    assert padded.values[upper].min() > 0.999
    assert np.abs(safe.values[upper]).max() < 0.2
    assert padded.volumes == safe.volumes == 300
    assert np.allclose(
        padded.values, np.corrcoef(np.vstack([x, np.zeros((200, 4))]), rowvar=False), atol=1e-6
    )


def test_crop_keeps_the_first_volumes(bold) -> None:
    x = bold(0, 90, 4)
    matrix = only(scan(x), crop=50)
    assert matrix.volumes == 50
    assert np.array_equal(matrix.values, pearson(x[:50]))


@pytest.mark.parametrize(
    ("keys", "why"), [({"crop": 41}, "connectivity.crop"), ({"min_volumes": 41}, "min_volumes")]
)
def test_a_scan_that_is_too_short_is_skipped_with_the_key_that_asked(
    keys: dict[str, int], why: str, bold
) -> None:
    (skip,) = connectivity_matrices(scan(bold(0, 40, 4)), ConnectivityConfig(**keys), ATLAS)
    assert isinstance(skip, Skipped) and why in skip.why


@given(st.permutations(range(4)))
def test_columns_in_another_order_give_the_same_matrix(order: list[int]) -> None:
    x = np.random.default_rng(0).standard_normal((40, 4))
    x[:, 3] = 5.0
    named = tuple(ATLAS.indices[i] for i in order)
    turned = only(scan(x[:, order], region_indices=named))
    assert np.array_equal(turned.values, only(scan(x)).values)
    assert turned.constant == (3,)


@given(st.permutations(range(4)))
def test_a_ready_matrix_in_another_order_is_brought_into_the_atlass(order: list[int]) -> None:
    ready = pearson(np.random.default_rng(0).standard_normal((40, 4)))
    named = tuple(ATLAS.indices[i] for i in order)
    assert np.array_equal(
        only(scan(ready[np.ix_(order, order)], True, region_indices=named)).values, ready
    )


@pytest.mark.parametrize(
    ("named", "message"),
    [((2001, 2001, 2101, 2102), "occurs twice"), ((2001, 2002, 2101, 9), "region index 9 .*codes")],
)
def test_a_header_of_other_regions_is_refused(named: tuple[int, ...], message: str, bold) -> None:
    with pytest.raises(InputError, match=rf"scan\.1D: .*{message}"):
        only(scan(bold(0, 40, 4), region_indices=named))


@pytest.mark.parametrize("ready", [False, True])
def test_another_number_of_columns_is_refused_with_both_numbers(ready: bool, bold) -> None:
    values = pearson(bold(0)) if ready else bold(0)
    with pytest.raises(InputError, match=r"scan\.1D: 6 columns, atlas codes has 4 regions"):
        only(scan(values, ready))


def test_a_scan_without_a_changing_region_is_refused() -> None:
    with pytest.raises(InputError, match=r"scan\.1D: all-constant"):
        only(scan(np.ones((40, 4))))


def test_a_scan_without_a_volume_is_refused() -> None:
    with pytest.raises(InputError, match=r"scan\.1D: empty"):
        only(scan(np.ones((0, 4))))


def test_a_ready_matrix_keeps_its_numbers_and_nan_becomes_zero() -> None:
    ready = np.array([[1, 0.5, np.nan], [0.5, 1, -0.2], [np.nan, -0.2, 1]])
    matrix = only(scan(ready, ready=True), numbered("n", 3))
    assert np.allclose(matrix.values, [[1, 0.5, 0], [0.5, 1, -0.2], [0, -0.2, 1]])
    assert (matrix.volumes, matrix.constant) == (0, ())


def test_a_ready_matrixs_empty_regions_are_told_from_unreadable_ones() -> None:
    ready = pearson(np.random.default_rng(0).standard_normal((40, 4)))
    ready[1], ready[:, 1] = 0, 0
    ready[2], ready[:, 2] = np.nan, np.nan
    matrix = only(scan(ready, ready=True))
    assert (matrix.constant, matrix.not_finite) == ((1,), (2,))


@pytest.mark.parametrize(
    ("ready", "message"),
    [
        ([[1, 1.3], [1.3, 1]], r"1\.3 at \(1, 2\) is no correlation"),
        ([[1, 0.3], [0.1, 1]], "not symmetric"),
        ([[1, 0], [0, 1]], "every correlation is 0"),
        ([[np.nan, np.nan], [np.nan, np.nan]], "every correlation is 0"),
    ],
)
def test_what_is_no_correlation_matrix_is_refused(ready: list[list[float]], message: str) -> None:
    with pytest.raises(InputError, match=rf"scan\.1D: .*{message}"):
        only(scan(np.array(ready, float), ready=True), numbered("n", 2))


# -- kinds, windows that overlap or lie anywhere, regions that are missing -------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_scan_is_correlated_in_the_kind_that_the_recipe_names(kind: str, bold) -> None:
    x = bold(0, 80, 4)
    assert np.array_equal(only(scan(x), kind=kind, lag=3).values, matrix_of(x, kind, 3))


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_sliding_windows_begin_every_step_and_stop_where_one_reaches_the_end(
    volumes: int, length: int, step: int
) -> None:
    pieces = windows(np.arange(volumes)[:, None], length, step)
    assert [int(piece[0, 0]) for piece in pieces] == [i * step for i in range(len(pieces))]
    assert all(len(piece) == length for piece in pieces[:-1])
    assert all(piece[-1, 0] < volumes - 1 for piece in pieces[:-1])
    assert pieces[-1][-1, 0] == volumes - 1 or len(pieces) * step >= volumes


def test_sliding_windows_overlap(bold) -> None:
    x = bold(0, 90, 4)
    found = connectivity_matrices(scan(x), ConnectivityConfig(window=40, step=25), ATLAS)
    assert [m.volumes for m in found if isinstance(m, Matrix)] == [40, 40, 40]
    assert isinstance(found[1], Matrix) and np.array_equal(found[1].values, pearson(x[25:65]))


def random_starts(recording: Recording, **keys: Any) -> list[int]:
    """Where the windows of a scan lie whose volumes are all different."""
    config = ConnectivityConfig(window=40, random_windows=5, **keys)
    found = connectivity_matrices(recording, config, ATLAS)
    assert recording.series is not None
    places = {
        pearson(recording.series[start : start + 40]).tobytes(): start
        for start in range(len(recording.series) - 39)
    }
    return [places[m.values.tobytes()] for m in found if isinstance(m, Matrix)]


def test_random_windows_are_the_same_for_one_seed_and_scan_and_others_for_others(bold) -> None:
    x = bold(0, 200, 4)
    starts = random_starts(scan(x))
    assert starts == random_starts(scan(x)) == sorted(set(starts))
    assert len(starts) == 5
    others = [random_starts(scan(x), random_seed=1)]
    for changed in ({"subject": "2"}, {"session": "2"}, {"run": "2"}):
        others.append(random_starts(replace(scan(x), **changed)))
    assert all(other != starts for other in others)


def test_random_windows_are_as_many_as_there_are_places(bold) -> None:
    assert random_starts(scan(bold(0, 42, 4))) == [0, 1, 2]
    config = ConnectivityConfig(window=60, random_windows=5, pad="drop")
    (skip,) = connectivity_matrices(scan(bold(0, 42, 4)), config, ATLAS)
    assert isinstance(skip, Skipped) and "shorter than connectivity.window" in skip.why


@pytest.mark.parametrize("ready", [False, True])
def test_a_region_that_a_file_with_names_lacks_is_missing(ready: bool, bold) -> None:
    x = bold(0, 40, 3)
    named = (2102, 2001, 2002)
    matrix = only(scan(pearson(x) if ready else x, ready, region_indices=named))
    assert matrix.missing == matrix.not_finite == (2,)
    assert not matrix.values[2].any()
    rest = [3, 0, 1]
    assert np.array_equal(matrix.values[np.ix_(rest, rest)], pearson(x))


def test_a_file_that_names_fewer_than_half_of_the_regions_is_refused(bold) -> None:
    with pytest.raises(InputError, match=r"scan\.1D: its header names 1 of the 4 regions"):
        only(scan(bold(0, 40, 1), region_indices=(2001,)))


def test_a_region_of_rounding_alone_is_constant(bold) -> None:
    """As a filter leaves of zeros."""
    x = bold(0, 40, 4)
    x[:, 1] = 1e-14 * np.random.default_rng(0).standard_normal(40)
    matrix = only(scan(x))
    assert matrix.constant == (1,) and not matrix.values[1].any()
    x[:, 1] *= 1e8
    assert only(scan(x)).constant == ()


@pytest.mark.parametrize("kind", ["pearson", *ESTIMATORS])
def test_a_dropped_region_enters_no_matrix(kind: str, bold) -> None:
    x = bold(0, 40, 4)
    found = only(scan(x), kind=kind, drop_regions=[2002])
    assert np.array_equal(found.values, matrix_of(x[:, [0, 2, 3]], kind))
    ready = only(scan(pearson(x), True), kind="pearson", drop_regions=[2002])
    assert np.array_equal(ready.values, pearson(x)[np.ix_([0, 2, 3], [0, 2, 3])])


def test_a_ready_covariance_is_divided_by_its_mean_variance(bold) -> None:
    given_matrix = np.cov(bold(0, 40, 4), rowvar=False)
    found = only(scan(given_matrix, True), kind="covariance").values
    assert np.allclose(found, given_matrix / np.diag(given_matrix).mean(), atol=1e-6)
    with pytest.raises(InputError, match=r"scan\.1D: the diagonal .* holds variances"):
        only(scan(given_matrix - 200 * np.eye(4), True), kind="covariance")
    with pytest.raises(InputError, match="is no correlation"):
        only(scan(given_matrix, True), kind="ledoit-wolf")


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"window": 40}, "window"),
        ({"crop": 40}, "crop"),
        ({"clean": CleanConfig(detrend=True)}, r"clean\.detrend"),
    ],
)
def test_a_ready_matrix_has_nothing_to_cut_or_to_clean(keys: dict, key: str, bold) -> None:
    with pytest.raises(InputError, match=rf"scan\.1D: a ready matrix: connectivity\.{key} is for"):
        only(scan(pearson(bold(0, 40, 4)), True), **keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"step": 5}, r"connectivity\.step: set connectivity\.window"),
        ({"random_windows": 5}, r"connectivity\.random_windows: set connectivity\.window"),
        ({"window": 40, "step": 5, "random_windows": 5}, "windows at random places"),
        ({"kind": "partial", "window": 40, "pad": "reference"}, "for kind=pearson alone"),
        ({"kind": "lagged", "lag": 29}, r"connectivity\.lag=29: 30 volumes"),
        ({"kind": "lagged", "lag": 9, "window": 10}, r"connectivity\.lag=9: 10 volumes"),
        ({"kind": "lagged", "clean": CleanConfig(scrub_mm=0.5)}, "scrubbing leaves gaps"),
        ({"accept_missing": [7]}, r"connectivity\.accept_missing: atlas codes: no region .* 7"),
        ({"drop_regions": [7]}, r"connectivity\.drop_regions: atlas codes: no region .* 7"),
        ({"drop_regions": [2001, 2002, 2101]}, "fewer than two regions are left"),
    ],
)
def test_keys_that_make_no_sense_together_are_refused_before_a_file_is_read(
    keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_connectivity(ConnectivityConfig(**keys), ATLAS)


# -- ready matrices that cannot be what they are said to be --


def test_a_matrix_far_from_positive_is_refused_with_a_hint() -> None:
    n = 4
    bad = np.full((n, n), -0.6)
    np.fill_diagonal(bad, 1)
    with pytest.raises(InputError, match=r"smallest eigenvalue is -0.8, .*triangle unpacked"):
        only(scan(bad, True))


def test_a_matrix_that_rounding_made_a_little_negative_is_said() -> None:
    x = np.random.default_rng(0).normal(size=(4, 4))
    right = np.corrcoef(x.T)
    values, vectors = np.linalg.eigh(right)
    values[0] = -0.05
    near = (vectors * values) @ vectors.T
    near = np.clip((near + near.T) / 2, -1, 1)
    np.fill_diagonal(near, 1)
    smallest = np.linalg.eigvalsh(near)[0]
    assert -0.1 < smallest < -0.01
    assert "smallest eigenvalue" in only(scan(near, True)).remark
    assert only(scan(right, True)).remark == ""


def test_partial_correlations_may_have_negative_eigenvalues() -> None:
    bad = np.full((4, 4), -0.6)
    np.fill_diagonal(bad, 1)
    assert only(scan(bad, True), kind="partial").remark == ""


def test_an_infinite_diagonal_says_fisher_z() -> None:
    """Also where no number off the diagonal is above 1."""
    ready = 0.3 * np.ones((4, 4))
    np.fill_diagonal(ready, np.inf)
    with pytest.raises(InputError, match="diagonal is infinite, so it holds Fisher z"):
        only(scan(ready, True))


def test_pairs_without_a_number_are_said_and_judge_nothing() -> None:
    """Stored as 0 they could make a good matrix look like a wrong one."""
    rng = np.random.default_rng(0)
    right = np.corrcoef(rng.normal(size=(4, 9)) + 3 * rng.normal(size=9))
    right[0, 1] = right[1, 0] = np.nan
    matrix = only(scan(right, True))
    assert "pairs of regions without a number" in matrix.remark and matrix.missing == ()
    assert np.linalg.eigvalsh(np.nan_to_num(right))[0] < -0.1  # what is not asked


def test_partial_correlations_may_be_negative_and_are_checked_by_what_they_mirror(bold) -> None:
    x = np.random.default_rng(0).normal(size=(40, 4)) + 3 * np.arange(40)[:, None] % 7
    precision = np.linalg.inv(np.cov(x.T))
    spread = np.sqrt(np.diag(precision))
    partial = -precision / np.outer(spread, spread)
    np.fill_diagonal(partial, 1)
    config = ConnectivityConfig(kind="partial")
    assert only(scan(partial, True), kind="partial").remark == ""
    turned = np.full((4, 4), 0.9)
    np.fill_diagonal(turned, 1)
    with pytest.raises(InputError, match=r"the smallest eigenvalue of 2 minus it is -1.7"):
        connectivity_matrices(scan(turned, True), config, ATLAS)
