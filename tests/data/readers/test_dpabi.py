"""DPABI's and DPARSF's region series and matrices.

Layout: Chaogan-Yan/DPARSF at 3e5312b8 (Subfunctions/y_ExtractROISignal.m): variables ROISignals,
ROICorrelation and ROICorrelation_FisherZ = 0.5 * log((1 + r) ./ (1 - r)) in files of these names
and the subject's, as .mat and as -ASCII -DOUBLE -TABS .txt; ROI_OrderKey_ID.csv, parted by tabs,
with Order, Label in Mask, ROI Definition (DPABI: .tsv).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lcm_scale.config import ShardRecipe
from lcm_scale.errors import InputError

SUBJECTS = ("Sub_001", "Sub_002")


def write(folder: Path, subject: str, series: np.ndarray, suffixes: tuple[str, ...]) -> None:
    folder.mkdir(exist_ok=True)
    r = np.corrcoef(series.T)
    with np.errstate(divide="ignore"):
        z = 0.5 * np.log((1 + r) / (1 - r))
    np.fill_diagonal(z, np.inf)  # MATLAB has a diagonal of exactly 1
    for name, values in (
        ("ROISignals", series),
        ("ROICorrelation", r),
        ("ROICorrelation_FisherZ", z),
    ):
        for suffix in suffixes:
            path = folder / f"{name}_{subject}{suffix}"
            if suffix == ".mat":
                scipy.io.savemat(path, {name: values}, do_compression=True)
            else:
                np.savetxt(path, values, delimiter="\t", fmt="%.16e")


@pytest.fixture
def dpabi(tmp_path: Path, bold, recipe) -> Callable[..., ShardRecipe]:
    def make(suffixes: tuple[str, ...] = (".mat", ".txt"), **keys: object) -> ShardRecipe:
        folder = tmp_path / "ROISignals_FunImgARCWF"
        for i, subject in enumerate(SUBJECTS):
            write(folder, subject, bold(i), suffixes)
        return recipe(reader="dpabi", dir=folder, **keys)

    return make


@pytest.mark.parametrize("suffixes", [(".mat",), (".txt",), (".mat", ".txt")])
def test_series_are_read_once_a_subject(suffixes, dpabi, read_all, bold) -> None:
    scans, skipped = read_all(dpabi(suffixes))
    assert [scan.subject for scan in scans] == list(SUBJECTS) and not skipped
    for i, scan in enumerate(scans):
        assert np.allclose(scan.series, bold(i))
    assert scans[0].source.endswith(suffixes[0])


@pytest.mark.parametrize("fisher", [False, True])
@pytest.mark.parametrize("suffixes", [(".mat",), (".txt",)])
def test_matrices_are_correlations_whichever_file_they_come_from(
    fisher: bool, suffixes, dpabi, read_all, bold
) -> None:
    scans, _ = read_all(dpabi(suffixes, kind="connectivity", fisher_z=fisher))
    assert len(scans) == 2
    for i, scan in enumerate(scans):
        assert np.allclose(scan.connectivity, np.corrcoef(bold(i).T))


def test_fisher_z_alone_is_refused_until_it_is_asked_for(dpabi, read_all) -> None:
    made = dpabi((".mat",), kind="connectivity")
    for path in Path(made.source.dir).glob("ROICorrelation_Sub*"):
        path.unlink()
    with pytest.raises(InputError, match=r"only matrices of Fisher z .*source\.fisher_z=true"):
        read_all(made)
    with pytest.raises(InputError, match=r"source\.fisher_z: .*source\.kind=connectivity"):
        read_all(dpabi(fisher_z=True))


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_the_order_key_decides_where_it_has_the_atlass_codes(
    suffix: str, dpabi, read_all, bold, write_csv, tmp_path
) -> None:
    n = bold(0).shape[1]
    codes = [2000 + i for i in range(n)]
    table = [{"index": code, "name": f"r{code}"} for code in codes]
    made = dpabi(atlas=str(write_csv(tmp_path / "mine.tsv", table)))

    def key(labels: list[int]) -> None:
        lines = ["Order\tLabel in Mask\tROI Definition"]
        lines += [f"{i + 1}\t{label}\taal.nii" for i, label in enumerate(labels)]
        for subject in SUBJECTS:
            path = Path(made.source.dir) / f"ROI_OrderKey_{subject}{suffix}"
            path.write_text("\n".join(lines) + "\n")

    key(codes[::-1])
    assert read_all(made)[0][0].region_indices == tuple(codes[::-1])
    key(list(range(1, n + 1)))  # only counts the regions
    assert read_all(made)[0][0].region_indices is None
    key([code + 1 for code in codes])
    with pytest.raises(InputError, match=r"ROI_OrderKey_Sub_001.*first with code 2001"):
        read_all(made)


def test_a_table_is_joined_by_subject(dpabi, read_all, write_csv, tmp_path) -> None:
    rows = [{"subject": name, "diagnosis": "CN", "age": 30} for name in SUBJECTS]
    scans, _ = read_all(dpabi(table=write_csv(tmp_path / "people.csv", rows)))
    assert [scan.age for scan in scans] == [30, 30]
    write_csv(tmp_path / "people.csv", [{"subject": "other", "diagnosis": "CN"}])
    with pytest.raises(InputError, match="knows nobody of the"):
        read_all(dpabi(table=tmp_path / "people.csv"))
