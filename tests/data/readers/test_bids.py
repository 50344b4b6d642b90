"""Region series and matrices under BIDS names, on small trees in the layouts of their writers.

Where the layouts come from:
- XCP-D, names with seg-: PennLINC/xcp_d at 0.10.7 (dfb6ac4abd7dcb141ba0b304f261bc0703776e3e),
  xcp_d/tests/data/test_ds001419_cifti_outputs.txt; with atlas-: at 26.1.1
  (f4cb65204e19110133e2e7778cfeba84636f098d), xcp_d/tests/data/test_ukbiobank_outputs.txt and
  docs/outputs.rst. Between them (0.11, 0.12) names have seg-. What its tables hold:
  xcp_d/interfaces/connectivity.py and censoring.py there.
- HALFpipe: HALFpipe/HALFpipe at b65f53d305936a2660ba420bbdff6c156416b3be,
  src/halfpipe/interfaces/connectivity.py (no header, ten digits) and src/halfpipe/result/bids; a
  real tree and its JSON: claraElk/HalfPipe2Bids at 6cb36cbbffca32935241a02f39af1cde15906502,
  halfpipe2bids/tests/data.
- C-PAC: FCP-INDI/C-PAC at 96db8b0b65ab1d5f55fb3b895855af34d72c17e4, CPAC/resources/cpac_outputs.tsv
  (desc-Mean_timeseries, 1D), and the patterns in ReproBrainChart/2026FunctionalPatch's README.
- fMRIPrep's confounds beside a series: the quickstart's own.
- participants, sessions and scans: bids-standard/bids-specification at
  b60eac1e58aa74ea68228ae85ee158ce66b355c0, src/modality-agnostic-files/data-summary-files.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.config import ConnectivityConfig
from lcm_scale.data.shards import write_shards
from lcm_scale.errors import InputError

REGIONS = 6  # of the fixture `recipe`'s atlas
NAMES = tuple(f"region {i}" for i in range(1, REGIONS + 1))


@pytest.fixture
def put(bold) -> Callable[..., np.ndarray]:
    """`put(path, seed)` writes a table of series as tabs, with a header or without, and a JSON."""

    def write(
        path: Path,
        seed: int = 0,
        volumes: int = 40,
        header: Sequence[str] = NAMES,
        described: Mapping[str, Any] | None = None,
        values: np.ndarray | None = None,
    ) -> np.ndarray:
        path.parent.mkdir(parents=True, exist_ok=True)
        values = bold(seed, volumes) if values is None else values
        line = "\t".join(header)
        np.savetxt(path, values, fmt="%.10f", delimiter="\t", header=line, comments="")
        if not header:
            path.write_text(path.read_text().lstrip("\n"))
        if described is not None:
            path.with_suffix(".json").write_text(json.dumps(described))
        return values

    return write


@pytest.fixture
def xcpd(tmp_path: Path, put, write_csv) -> Path:
    """XCP-D 0.10: two people, the first with two runs and their joined file; participants.tsv."""
    folder = tmp_path / "ds" / "derivatives" / "xcp_d"
    for subject, scan, seed in (
        ("01", "task-imagery_run-01", 1),
        ("01", "task-imagery_run-02", 2),
        ("01", "task-imagery", 3),
        ("02", "task-rest", 4),
    ):
        func = folder / f"sub-{subject}" / "func"
        name = f"sub-{subject}_{scan}"
        series = f"{name}_space-fsLR_seg-4S156Parcels_stat-mean_timeseries.tsv"
        put(func / series, seed, described={"SamplingFrequency": "TR"})
        bold = func / f"{name}_space-fsLR_den-91k_desc-denoised_bold.json"
        bold.write_text(json.dumps({"RepetitionTime": 2.5}))
        write_csv(func / f"{name}_motion.tsv", [{"framewise_displacement": seed / 10}] * 44)
        outliers = [{"framewise_displacement": int(i < 4)} for i in range(44)]
        write_csv(func / f"{name}_outliers.tsv", outliers)
        write_csv(func / f"{name}_space-fsLR_seg-4S156Parcels_stat-coverage_bold.tsv", outliers)
    people = [
        {"participant_id": "sub-01", "age": 34, "sex": "M", "group": "read"},
        {"participant_id": "sub-02", "age": "n/a", "sex": "F", "group": "write"},
    ]
    write_csv(tmp_path / "ds" / "participants.tsv", people)
    return folder


@pytest.fixture
def made(recipe) -> Callable[..., Any]:
    return lambda folder, **keys: recipe(reader="bids", dir=folder, **keys)


def test_xcpd_scans_have_their_run_tr_displacement_and_person(xcpd, made, read_all) -> None:
    scans, skipped = read_all(made(xcpd))
    assert [(s.subject, s.run) for s in scans] == [
        ("01", "task-imagery_run-01"),
        ("01", "task-imagery_run-02"),
        ("02", "task-rest"),
    ]
    assert [s.why for s in skipped] == [
        "file of joined runs, which are there apart (source.runs: joined takes it)"
    ]
    first = scans[0]
    assert (first.tr, first.age, first.sex) == (2.5, 34.0, "M")
    assert first.mean_fd == pytest.approx(0.1)
    assert first.labels["group"] == "read" and first.labels["task"] == "imagery"
    assert scans[2].age is None and scans[2].labels["group"] == "write"


def test_the_joined_file_is_taken_where_there_is_one(xcpd, made, read_all) -> None:
    scans, skipped = read_all(made(xcpd, runs="joined"))
    assert [(s.subject, s.run) for s in scans] == [("01", "task-imagery"), ("02", "task-rest")]
    assert len(skipped) == 2


def test_interpolated_outliers_are_left_out_and_counted(xcpd, made, put) -> None:
    """Mode abcd: the series has a row for each of the 44 volumes, four of them filled."""
    for path in xcpd.rglob("*_timeseries.tsv"):
        put(path, int(path.stat().st_size), volumes=44)
    manifest = write_shards(made(xcpd, groups=[]))
    assert manifest.quality["volumes without any number"] == 3 * 4


def test_a_censored_series_is_taken_as_it_is(xcpd, made, read_all) -> None:
    scans, _ = read_all(made(xcpd))
    assert all(np.isfinite(scan.series).all() and len(scan.series) == 40 for scan in scans)


def test_two_atlases_are_a_question_and_the_recipe_answers_it(xcpd, made, put, read_all) -> None:
    func = xcpd / "sub-02" / "func"
    put(func / "sub-02_task-rest_space-fsLR_seg-Gordon_stat-mean_timeseries.tsv", 9)
    with pytest.raises(
        InputError,
        match=r"sub-02_task-rest: 2 files of one scan differ in atlas \(4S156Parcels, Gordon\); "
        r"choose with source.entities, for example \{atlas: Gordon\}",
    ):
        read_all(made(xcpd))
    for key in ("seg", "atlas"):
        scans, _ = read_all(made(xcpd, entities={key: "4S156Parcels"}))
        assert len(scans) == 3
    with pytest.raises(InputError, match=r"atlas='Gorden' leaves no file, did you mean 'Gordon'"):
        read_all(made(xcpd, entities={"atlas": "Gorden"}))


def test_names_of_xcpd_26_and_a_filter_by_task_and_absence(put, made, read_all, tmp_path) -> None:
    func = tmp_path / "xcp_d" / "sub-0000001" / "ses-01" / "func"
    stem = "sub-0000001_ses-01_task-rest_space-MNI152NLin6Asym_atlas-Tian_stat-mean"
    put(func / f"{stem}_timeseries.tsv", 1)
    put(func / f"{stem}_desc-26volumes_timeseries.tsv", 2)
    put(func / f"{stem.replace('rest', 'nback')}_timeseries.tsv", 3)
    with pytest.raises(InputError, match=r"differ in desc \(none, 26volumes\)"):
        read_all(made(tmp_path / "xcp_d"))
    scans, _ = read_all(made(tmp_path / "xcp_d", entities={"desc": "", "task": "re*"}))
    assert [(s.session, s.run) for s in scans] == [("01", "task-rest")]
    assert scans[0].labels["ses"] == "01"


def test_halfpipe_tables_have_no_names_and_their_json_has_fd_and_tr(
    put, made, read_all, tmp_path, bold
) -> None:
    func = tmp_path / "halfpipe" / "sub-10159" / "func" / "task-rest"
    described = {"RepetitionTime": 2.0, "SamplingFrequency": 2.0, "FDMean": 0.162}
    for number in (1, 2):
        stem = f"sub-10159_task-rest_feature-corrMatrix{number}_atlas-schaefer400"
        put(func / f"{stem}_timeseries.tsv", number, header=(), described=described)
        values = bold(number)
        put(func / f"{stem}_desc-correlation_matrix.tsv", header=(), values=np.corrcoef(values.T))
        put(func / f"{stem}_desc-covariance_matrix.tsv", header=(), values=np.cov(values.T))
        put(func / f"sub-10159_task-nback_feature-a{number}_desc-design_matrix.tsv", header=())
    with pytest.raises(InputError, match=r"differ in feature \(corrMatrix1, corrMatrix2\)"):
        read_all(made(tmp_path / "halfpipe"))
    chosen = {"feature": "corrMatrix2"}
    (scan,), _ = read_all(made(tmp_path / "halfpipe", entities=chosen))
    assert (scan.tr, scan.mean_fd) == (2.0, 0.162)
    np.testing.assert_allclose(scan.series, bold(2))
    with pytest.raises(InputError, match=r"differ in desc \(correlation, covariance\)"):
        read_all(made(tmp_path / "halfpipe", entities=chosen, kind="connectivity"))
    keys = {"entities": chosen | {"desc": "correlation"}, "kind": "connectivity"}
    (scan,), _ = read_all(made(tmp_path / "halfpipe", **keys))
    np.testing.assert_allclose(scan.connectivity, np.corrcoef(bold(2).T), atol=1e-9)


def test_cpac_names_in_1d(put, made, read_all, tmp_path) -> None:
    func = tmp_path / "cpac" / "sub-1" / "ses-PNC1" / "func"
    stem = "sub-1_ses-PNC1_task-rest_acq-singleband"
    for regressors in ("36Parameter", "aCompCor"):
        name = f"{stem}_atlas-AAL_space-MNI152NLin6ASym_reg-{regressors}_desc-Mean_timeseries.1D"
        put(func / name, 1, header=[f"#{i}" for i in range(1, REGIONS + 1)])
    put(func / f"{stem}_desc-confounds_timeseries.1D", 1)
    with pytest.raises(InputError, match=r"differ in reg \(36Parameter, aCompCor\)"):
        read_all(made(tmp_path / "cpac"))
    (scan,), _ = read_all(made(tmp_path / "cpac", entities={"reg": "36Parameter"}))
    assert scan.run == "task-rest_acq-singleband" and scan.columns == ("1", "2", "3", "4", "5", "6")


def test_fmriprep_confounds_beside_a_series_are_its_displacement_and_nuisance(
    put, made, read_all, tmp_path, write_csv
) -> None:
    func = tmp_path / "fmriprep" / "sub-7" / "func"
    put(func / "sub-7_task-rest_space-MNI_atlas-A_timeseries.tsv", 1)
    rows = [{"framewise_displacement": "n/a" if i == 0 else 0.3, "csf": i % 5} for i in range(40)]
    write_csv(func / "sub-7_task-rest_desc-confounds_timeseries.tsv", rows)
    clean = ConnectivityConfig(min_volumes=10)
    clean.clean.nuisance = ["csf"]
    (scan,), _ = read_all(made(tmp_path / "fmriprep", connectivity=clean))
    assert scan.mean_fd == pytest.approx(0.3)
    np.testing.assert_array_equal(scan.confounds["csf"], np.arange(40) % 5)


# -- the data set's tables --


def test_the_repetition_time_is_inherited_from_the_raw_data_set(put, made, read_all, tmp_path):
    root = tmp_path / "ds"
    put(root / "derivatives" / "p" / "sub-1" / "func" / "sub-1_task-rest_timeseries.tsv", 1)
    (root / "participants.tsv").write_text("participant_id\nsub-1\n")
    (root / "task-rest_bold.json").write_text('{"RepetitionTime": 1.5}')
    (root / "task-nback_bold.json").write_text('{"RepetitionTime": 9}')
    assert read_all(made(root / "derivatives"))[0][0].tr == 1.5
    (root / "sub-1" / "func").mkdir(parents=True)
    nearer = root / "sub-1" / "func" / "sub-1_task-rest_bold.json"
    nearer.write_text('{"RepetitionTime": 0.8}')
    assert read_all(made(root / "derivatives"))[0][0].tr == 0.8
    nearer.write_text('{"RepetitionTime": 800}')
    with pytest.raises(InputError, match=r"bold.json: RepetitionTime is 800, expected seconds"):
        read_all(made(root / "derivatives"))


def test_a_session_says_more_than_a_person_and_a_scan_more_than_both(
    put, made, read_all, tmp_path, write_csv
) -> None:
    root = tmp_path / "ds"
    for seed, (subject, session) in enumerate((("1", "a"), ("1", "b"), ("2", "a"))):
        func = root / "derivatives" / "p" / f"sub-{subject}" / f"ses-{session}" / "func"
        name = f"sub-{subject}_ses-{session}_task-rest_timeseries.tsv"
        put(func / name, seed)
    rows = [{"participant_id": f"sub-{i}", "age": 30 * i, "sex": i, "group": i} for i in (1, 2)]
    write_csv(root / "participants.tsv", rows)
    levels = {"1": "male", "2": {"Description": "female"}}
    described = {"sex": {"Levels": levels}, "group": {"Levels": {"1": "patient", "2": "control"}}}
    (root / "participants.json").write_text(json.dumps(described))
    write_csv(
        root / "sub-1" / "sub-1_sessions.tsv",
        [
            {"session_id": "ses-a", "age": 31, "group": "n/a", "score": 5},
            {"session_id": "ses-b", "age": 35, "group": "remitted", "score": 7},
        ],
    )
    write_csv(
        root / "sub-1" / "ses-b" / "sub-1_ses-b_scans.tsv",
        [{"filename": "func/sub-1_ses-b_task-rest_bold.nii.gz", "score": 8}],
    )
    scans, _ = read_all(made(root / "derivatives"))
    assert [(s.session, s.age, s.sex) for s in scans] == [
        ("a", 31.0, "M"),
        ("b", 35.0, "M"),
        ("a", 60.0, "F"),
    ]
    assert [s.labels["group"] for s in scans] == ["patient", "remitted", "control"]
    assert [s.labels["score"] for s in scans] == ["5", "8", None]
    assert "sub-1_ses-b_scans.tsv, row 2" in scans[1].row


def test_one_table_of_all_sessions_and_ages_in_months(
    put, made, read_all, tmp_path, write_csv
) -> None:
    root = tmp_path / "ds"
    put(root / "p" / "sub-1" / "ses-a" / "func" / "sub-1_ses-a_task-rest_timeseries.tsv", 1)
    write_csv(root / "participants.tsv", [{"participant_id": "sub-1", "sex": "f"}])
    rows = [{"participant_id": "sub-1", "session_id": "ses-a", "age": 18}]
    write_csv(root / "sessions.tsv", rows)
    (root / "sessions.json").write_text('{"age": {"Units": "months"}}')
    assert read_all(made(root / "p"))[0][0].age == 1.5
    (root / "sessions.json").write_text('{"age": {"Units": "weeks"}}')
    with pytest.raises(InputError, match=r"sessions.json: age is in 'weeks', expected years"):
        read_all(made(root / "p"))


def test_a_table_elsewhere_is_named_by_the_recipe(put, made, read_all, tmp_path, write_csv) -> None:
    put(tmp_path / "p" / "sub-1" / "func" / "sub-1_task-rest_timeseries.tsv", 1)
    table = write_csv(tmp_path / "raw" / "people.tsv", [{"participant_id": "1", "age": 20}])
    assert read_all(made(tmp_path / "p"))[0][0].age is None
    assert read_all(made(tmp_path / "p", table=table))[0][0].age == 20.0


def test_people_without_a_scan_are_listed(xcpd, made, read_all) -> None:
    _, skipped = read_all(made(xcpd, entities={"task": "rest"}))
    assert [s.why for s in skipped] == ["row of participants.tsv without a file"]


# -- runs made one --


def test_runs_averaged_are_the_mean_of_their_correlations_weighted_by_volumes(
    put, made, read_all, tmp_path
) -> None:
    func = tmp_path / "p" / "sub-1" / "func"
    one = put(func / "sub-1_task-rest_run-1_timeseries.tsv", 1, volumes=40)
    two = put(func / "sub-1_task-rest_run-2_timeseries.tsv", 2, volumes=60)
    put(func / "sub-1_task-nback_timeseries.tsv", 3)
    scans, _ = read_all(made(tmp_path / "p", runs="average"))
    assert [s.run for s in scans] == ["task-nback", "task-rest"]
    mean = 0.4 * np.corrcoef(one.T) + 0.6 * np.corrcoef(two.T)
    np.testing.assert_allclose(np.corrcoef(scans[1].series.T), mean, atol=1e-7)


def test_matrices_averaged_go_through_fisher_z(put, made, read_all, tmp_path, bold) -> None:
    func = tmp_path / "p" / "sub-1" / "func"
    matrices = [np.corrcoef(bold(i).T) for i in (1, 2)]
    for i, matrix in enumerate(matrices):
        name = f"sub-1_task-rest_dir-{'AP' if i else 'PA'}_relmat.tsv"
        put(func / name, values=matrix, header=())
    keys = {"runs": "average", "kind": "connectivity"}
    (scan,), _ = read_all(made(tmp_path / "p", **keys))
    expected = np.tanh((np.arctanh(matrices[0][0, 1]) + np.arctanh(matrices[1][0, 1])) / 2)
    assert scan.connectivity[0, 1] == pytest.approx(expected, abs=1e-6)
    assert np.diag(scan.connectivity) == pytest.approx(1.0)
    put(func / "sub-1_task-rest_dir-PA_relmat.tsv", values=2 * matrices[0], header=())
    with pytest.raises(InputError, match=r"dir-PA_relmat.tsv: holds numbers outside -1..1"):
        read_all(made(tmp_path / "p", **keys))


def test_joined_runs_are_not_cleaned_and_have_no_lag(put, made, read_all, tmp_path) -> None:
    put(tmp_path / "p" / "sub-1" / "func" / "sub-1_task-rest_run-1_timeseries.tsv", 1)
    clean = ConnectivityConfig()
    clean.clean.detrend = True
    for config in (clean, ConnectivityConfig(kind="lagged")):
        with pytest.raises(InputError, match=r"joined runs .* set source.runs=apart"):
            read_all(made(tmp_path / "p", runs="average", connectivity=config))


# -- what is not there --


def test_a_link_without_its_file_is_listed(put, made, read_all, tmp_path) -> None:
    func = tmp_path / "p" / "sub-1" / "func"
    put(func / "sub-1_task-rest_timeseries.tsv", 1)
    (func / "sub-1_task-nback_timeseries.tsv").symlink_to("../../.git/annex/gone")
    scans, skipped = read_all(made(tmp_path / "p"))
    assert len(scans) == 1
    assert [s.why for s in skipped] == ["link to a file that is not there (datalad get)"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("notes.tsv", r"no table of series with a BIDS name"),
        ("sub-1/func/sub-1_rest_timeseries.tsv", r"no table of series with a BIDS name"),
        ("sub-1/func/sub-1_task-rest_relmat.tsv", r"no table of series .* source.kind"),
    ],
)
def test_a_folder_without_such_files_is_refused(put, made, read_all, tmp_path, name, error) -> None:
    put(tmp_path / "p" / name, 1)
    with pytest.raises(InputError, match=error):
        read_all(made(tmp_path / "p"))


def test_two_pipelines_in_one_folder_are_a_question(put, made, read_all, tmp_path) -> None:
    for pipeline in ("a", "b"):
        put(tmp_path / pipeline / "sub-1" / "func" / "sub-1_task-rest_timeseries.tsv", 1)
    with pytest.raises(InputError, match=r"2 files of one scan have the same name .*source.dir"):
        read_all(made(tmp_path))
