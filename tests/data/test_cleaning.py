"""Cleaning by recipe: each step against its plain formulation, their order, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal

from lcm_scale.atlas import numbered
from lcm_scale.config import CleanConfig, ConnectivityConfig
from lcm_scale.data.cleaning import Cleaned, check_cleaning, clean
from lcm_scale.data.connectivity import Matrix, connectivity_matrices, pearson
from lcm_scale.data.recordings import Recording, Skipped
from lcm_scale.errors import InputError

pytest.importorskip("nilearn")
FD = "framewise_displacement"
TR = 2.0


@pytest.fixture
def scan(bold):
    """`scan(tr=2.0, wm=...)`: 80 volumes of 6 regions that drift, and confounds of those names."""

    def make(
        series: np.ndarray | None = None, tr: float | None = TR, **confounds: np.ndarray
    ) -> Recording:
        if series is None:
            drift = np.cumsum(np.random.default_rng(9).standard_normal((80, 6)), 0)
            series = bold(0, 80) + 5 * drift + np.arange(80)[:, None]
        return Recording("c", "1", "scan.1D", series=series, tr=tr, confounds=confounds)

    return make


def cleaned(recording: Recording, **keys: Any) -> Cleaned:
    assert recording.series is not None
    found = clean(recording.series, recording, CleanConfig(**keys))
    assert isinstance(found, Cleaned)
    return found


def moved(*volumes: int, among: int = 80) -> np.ndarray:
    fd = np.full(among, 0.1)
    fd[0] = np.nan  # as fMRIPrep writes the first
    fd[list(volumes)] = 0.9
    return fd


def test_by_default_the_series_is_the_very_same(scan) -> None:
    recording = scan(tr=None)
    assert cleaned(recording).series is recording.series


def test_detrending_takes_out_a_straight_line(scan) -> None:
    recording = scan(tr=None)
    expected = scipy.signal.detrend(recording.series, axis=0)
    assert np.allclose(cleaned(recording, detrend=True).series, expected, atol=1e-8)


@pytest.mark.parametrize("band", [(0.01, 0.1), (0.01, None), (None, 0.1)])
def test_the_band_pass_is_butterworths_of_order_five_both_ways(
    band: tuple[float | None, float | None], scan
) -> None:
    high, low = band
    recording = scan()
    kind = "band" if high and low else "high" if high else "low"
    edges = [edge for edge in band if edge]
    filter_ = scipy.signal.butter(
        5, edges if len(edges) > 1 else edges[0], kind, fs=1 / TR, output="sos"
    )
    expected = scipy.signal.sosfiltfilt(
        filter_, scipy.signal.detrend(recording.series, axis=0), axis=0
    )
    found = cleaned(recording, detrend=True, high_pass=high, low_pass=low).series
    assert np.allclose(found, expected, atol=1e-6)


def test_confounds_are_regressed_out(scan) -> None:
    rng = np.random.default_rng(1)
    wm, csf = rng.standard_normal((2, 80)) + 7
    recording = scan(wm=wm, csf=csf)
    design = np.column_stack([np.ones(80), wm, csf])
    residual = recording.series - design @ np.linalg.lstsq(design, recording.series)[0]
    found = cleaned(recording, nuisance=["wm", "csf"]).series
    assert np.allclose(found - found.mean(0), residual, atol=1e-8)


def test_confounds_go_the_way_of_the_series_before_they_are_regressed_out(scan) -> None:
    """Else the band that was taken out comes back with them (Lindquist et al. 2019)."""
    noise = np.random.default_rng(1).standard_normal(80)
    keys: dict[str, Any] = {"detrend": True, "high_pass": 0.01, "low_pass": 0.1}
    band = cleaned(scan(noise[:, None]), **keys).series[:, 0]
    left = cleaned(scan(wm=noise), **keys, nuisance=["wm"]).series
    assert np.abs(np.corrcoef(band, left.T)[0, 1:]).max() < 1e-9


def test_volumes_that_move_are_left_out_and_counted(scan) -> None:
    found = cleaned(scan(**{FD: moved(3, 40)}), scrub_mm=0.5)
    assert found.scrubbed == 2
    assert np.array_equal(found.series, np.delete(scan().series, [3, 40], 0))
    assert cleaned(scan(fd=moved(3)), scrub_mm=0.5, fd_column="fd").scrubbed == 1
    assert cleaned(scan(**{FD: moved(3)}), scrub_mm=0.9).scrubbed == 0


@pytest.mark.parametrize("keys", [{}, {"detrend": True}, {"low_pass": 0.1}, {"nuisance": ["wm"]}])
def test_nothing_of_a_volume_that_was_left_out_is_left(keys: dict[str, Any], scan) -> None:
    """Volume 59 is the mirror image in time of 20: nilearn bridges neither where both are marked."""
    bad, wm = [0, 20, 21, 59, 79], np.random.default_rng(2).standard_normal(80)
    still, jumps = scan().series, scan().series
    jumps[bad] += 1e4
    found = [
        cleaned(scan(x, wm=wm, **{FD: moved(*bad)}), scrub_mm=0.5, **keys) for x in (still, jumps)
    ]
    assert found[1].series.shape == (75, 6) and found[1].scrubbed == 5
    assert np.allclose(found[0].series, found[1].series, atol=1e-8)


def test_volumes_without_any_number_are_left_out_unasked(scan) -> None:
    """XCP-D writes such rows for censored volumes."""
    series = scan().series
    series[[4, 50]] = np.nan
    found = cleaned(scan(series))
    assert (found.empty, found.scrubbed, len(found.series)) == (2, 0, 78)
    (matrix,) = connectivity_matrices(scan(series), ConnectivityConfig(), numbered("n", 6))
    assert isinstance(matrix, Matrix) and matrix.volumes == 78
    assert np.array_equal(matrix.values, pearson(np.delete(series, [4, 50], 0)))


def test_missing_regions_stay_missing_and_the_others_are_cleaned_as_without_them(scan) -> None:
    series = scan().series
    series[:, 1], series[9, 4] = 0.0, np.nan
    keys: dict[str, Any] = {"detrend": True, "high_pass": 0.01}
    found, alone = (cleaned(scan(x), **keys).series for x in (series, series[:, [0, 2, 3, 5]]))
    assert np.allclose(found[:, [0, 2, 3, 5]], alone, atol=1e-9)
    assert not found[:, 1].any() and np.isnan(found[9, 4])


def test_a_region_that_was_confound_alone_is_known_as_constant(scan) -> None:
    series = scan().series
    wm = np.random.default_rng(3).standard_normal(80)
    series[:, 2] = 3 * wm + 1000
    config = ConnectivityConfig(clean=CleanConfig(nuisance=["wm"]))
    (matrix,) = connectivity_matrices(scan(series, wm=wm), config, numbered("n", 6))
    assert isinstance(matrix, Matrix) and matrix.constant == (2,)


def test_the_length_that_counts_is_that_after_scrubbing(scan) -> None:
    config = ConnectivityConfig(min_volumes=79, clean=CleanConfig(scrub_mm=0.5))
    for bad, kept in (((3,), Matrix), ((3, 4), Skipped)):
        (found,) = connectivity_matrices(scan(**{FD: moved(*bad)}), config, numbered("n", 6))
        assert isinstance(found, kept)
    assert isinstance(found, Skipped) and "fewer than 79 volumes after scrubbing" in found.why


def test_what_is_cropped_counts_for_nothing(scan) -> None:
    config = ConnectivityConfig(crop=50, clean=CleanConfig(scrub_mm=0.5, detrend=True))
    (found,) = connectivity_matrices(scan(**{FD: moved(3, 60)}), config, numbered("n", 6))
    assert isinstance(found, Matrix) and (found.volumes, found.scrubbed) == (49, 1)


@pytest.mark.parametrize(
    ("recorded", "keys", "message"),
    [
        ({"tr": None}, {"high_pass": 0.01}, r"scan\.1D: .*need the repetition time.*source\.tr"),
        ({}, {"low_pass": 0.25}, r"low_pass=0\.25 Hz: with a repetition time of 2 s.* 0\.25 Hz"),
        ({}, {"nuisance": ["wm"]}, r"scan\.1D: .*confound 'wm'.*a column 'confounds'"),
        ({}, {"scrub_mm": 0.5}, r"confound 'framewise_displacement'"),
        ({"wm": np.ones(79)}, {"nuisance": ["wm"]}, r"80 volumes, but 79 rows of confounds"),
        (
            {"wm": np.r_[0, np.nan, np.ones(78)]},
            {"nuisance": ["wm"]},
            r"confound 'wm' has no value at volume 2",
        ),
    ],
)
def test_what_the_scan_does_not_have_is_one_line(
    recorded: dict[str, Any], keys: dict[str, Any], message: str, scan
) -> None:
    with pytest.raises(InputError, match=message):
        cleaned(scan(**recorded), **keys)


@pytest.mark.parametrize(
    ("volumes", "keys", "why"),
    [
        (33, {"high_pass": 0.01}, "fewer than the 34 volumes"),
        (40, {"scrub_mm": 0.05}, "no two volumes are left"),
        (40, {"nuisance": [f"c{i}" for i in range(38)]}, "too few volumes for 38 confounds"),
    ],
)
def test_a_scan_that_is_too_short_for_a_step_is_skipped(
    volumes: int, keys: dict[str, Any], why: str, scan, bold
) -> None:
    more = {f"c{i}": np.arange(volumes) for i in range(38)}
    fd = np.full(volumes, 0.1)
    recording = scan(bold(0, volumes), **more, **{FD: fd})
    found = clean(recording.series, recording, CleanConfig(**keys))
    assert isinstance(found, Skipped) and why in found.why


def test_a_band_turned_over_and_a_missing_library_are_found_in_the_dry_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match=r"high_pass=0\.1 is not below low_pass=0\.08"):
        check_cleaning(CleanConfig(high_pass=0.1, low_pass=0.08))
    monkeypatch.setitem(sys.modules, "nilearn.signal", None)
    check_cleaning(CleanConfig(scrub_mm=0.5))
    with pytest.raises(InputError, match=r"needs nilearn.*lcm-scale\[imaging\]"):
        check_cleaning(CleanConfig(detrend=True))


def test_the_table_reader_gives_the_columns_that_the_recipe_asks_for(
    tmp_path: Path, tiny_recipe, read_all
) -> None:
    """From a file as fMRIPrep writes it: tabs, n/a in the first row, columns of no use here."""
    made = tiny_recipe(people=1)
    table = Path(made.source.table or "")
    header, row = table.read_text().splitlines()
    table.write_text(f"{header},confounds\n{row},sub-1_confounds.tsv\n")
    rows = ["wm\tframewise_displacement\twords", "1.5\tn/a\ta", *["2.5\t0.7\tb"] * 39]
    (table.parent / "sub-1_confounds.tsv").write_text("\n".join(rows) + "\n")
    ((scan,), _) = read_all(made)
    assert scan.confounds == {} and "confounds" not in scan.labels
    made.connectivity.clean = CleanConfig(scrub_mm=0.5, nuisance=["wm"])
    ((scan,), _) = read_all(made)
    assert {name: values[:2].tolist() for name, values in scan.confounds.items()} == {
        "framewise_displacement": pytest.approx([np.nan, 0.7], nan_ok=True),
        "wm": [1.5, 2.5],
    }
    made.connectivity.clean.nuisance = ["wmm"]
    with pytest.raises(InputError, match="no column 'wmm', did you mean 'wm'"):
        read_all(made)
