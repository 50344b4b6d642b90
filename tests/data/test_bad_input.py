"""Bad input through the command line: exit code 2, one line that names file and field, nothing
written."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.cli import app as cli

RECIPE = """
name: tiny
reader: abide
atlas: "tiny:6"
source: {dir: raw}
groups:
  - {name: diagnosis, labels: [CN, Autism]}
"""
LAST = "raw/Site_0050003_rois_aal.1D"


@pytest.fixture
def lcm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str, str]]:
    """`lcm("verify shards/tiny")` -> (exit code, stdout, stderr), in this process."""

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lcm-scale", *shlex.split(line)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return (caught.value.code if isinstance(caught.value.code, int) else 0), out, err

    return call


@pytest.fixture
def raw(abide_folder, tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return abide_folder()


def refused(result: tuple[int, str, str], message: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert re.search(message, err), err


def test_good_files_are_sharded_verified_and_inspected(raw: Path, lcm) -> None:
    code, out, _ = lcm("shard tiny.yaml")
    assert code == 0 and "4 of 4 subjects" in out
    code, out, _ = lcm("verify shards/tiny")
    assert code == 0 and "4 scans in 1 tar(s) are what the manifest says" in out
    code, out, _ = lcm("inspect shards/tiny")
    assert code == 0 and "target diagnosis" in out


def columns_115(path: Path) -> None:
    """Without names nobody knows which region is missing."""
    lines = path.read_text().splitlines()[1:]
    path.write_text("\n".join(line.rpartition("\t")[0] for line in lines))


def text_in_a_cell(path: Path) -> None:
    header, first, *rest = path.read_text().splitlines()
    cells = first.split("\t")
    cells[1] = "artefact"
    path.write_text("\n".join([header, "\t".join(cells), *rest]))


def all_constant(path: Path) -> None:
    path.write_text(
        "\n".join(["\t".join(f"#{i}" for i in range(1, 7)), *["5\t5\t5\t5\t5\t5"] * 40])
    )


def empty(path: Path) -> None:
    path.write_text("")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def other_regions(path: Path) -> None:
    path.write_text(path.read_text().replace("#6", "#2001"))


def ragged(path: Path) -> None:
    path.write_text(path.read_text().rstrip() + "\t1.0\n")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (columns_115, "array of 40 x 5; expected one side of 6 regions .recipe key 'atlas'"),
        (text_in_a_cell, r"row 2, column 2 \(2\) is 'artefact', expected a number"),
        (all_constant, "all-constant: no region changes over its 40 volumes"),
        (empty, "empty; expected one row a volume"),
        (binary, "cannot be read as text"),
        (other_regions, "region index 2001 of its header is not in atlas tiny"),
        (ragged, "row 41 has 7 columns, the rows above have 6"),
    ],
)
def test_a_broken_scan_is_one_line_naming_the_file(
    break_it: Callable[[Path], None], message: str, raw, lcm, tmp_path
) -> None:
    break_it(tmp_path / LAST)
    refused(lcm("shard tiny.yaml"), f"{LAST}: {message}")
    assert not list(tmp_path.glob("shards/*"))


def test_115_columns_are_refused_for_aal116_with_both_numbers(
    raw, lcm, tmp_path, write_1d, bold
) -> None:
    write_1d(tmp_path / LAST, bold(0, regions=115), range(115))
    for other in (tmp_path / "raw").glob("*_005000[012]_*"):
        other.unlink()
    refused(
        lcm("shard tiny.yaml atlas=aal116"), rf"{LAST}: 115 columns, atlas aal116 has 116 regions"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("source.dir=nowhere", r"nowhere: no such folder \(source\.dir"),
        ("source.phenotypes=gone.csv", r"gone\.csv: no such table"),
        ("\"source.pattern='*_cc200.1D'\"", r"raw: no \*_cc200\.1D files"),
        ("atlas=aal11", r"atlas 'aal11': neither built in"),
        ("reader=abid", r"reader=abid, did you mean 'abide'\?"),
        ("source.dirr=raw", r"unknown key 'source\.dirr', did you mean 'dir'\?"),
        ("reader=mat", r"raw: no file fits source\.pattern"),
        ("reader=table", r"source\.table is not set"),
        ("dtype=float64", "dtype=float64"),
        ("connectivity.min_volumes=41", r"no usable scan \(4 fewer than 41 volumes"),
        ("'groups=[{name: dx}]'", "no label column 'dx' for group 'dx'"),
        (
            "'groups=[{name: diagnosis, labels: [CN]}]'",
            "diagnosis is 'Autism'; the recipe's group 'diagnosis' lists CN",
        ),
        ("shards_dir=tiny.yaml", r"tiny\.yaml/tiny: cannot be written"),
        ("block=0", r"block=0"),
        ("shard_scans=0", r"shard_scans=0"),
        ("connectivity.window=0", r"connectivity\.window=0"),
        ("connectivity.crop=0", r"connectivity\.crop=0"),
        ("name=a/b", "name 'a/b': a shard set's name holds"),
        ("name=abide.v2", r"name 'abide\.v2': a shard set's name holds"),
        ("name=..", r"name '\.\.': a shard set's name holds"),
    ],
)
def test_a_recipe_that_cannot_work_is_one_line_naming_the_key(
    overrides: str, message: str, raw, lcm, tmp_path
) -> None:
    code, out, err = lcm(f"shard tiny.yaml {overrides}")
    error = err.splitlines()[-1]
    assert (code, out) == (2, "")
    assert error.startswith("error: ") and re.search(message, error), err
    assert not list(tmp_path.glob("shards/*"))


@pytest.mark.parametrize(
    ("field", "cell"), [("AGE_AT_SCAN", "old"), ("SEX", "9"), ("DX_GROUP", "ASD"), ("SUB_ID", "")]
)
def test_a_wrong_phenotype_is_one_line_naming_row_and_column(
    field: str, cell: str, abide_folder, raw, lcm, tmp_path
) -> None:
    abide_folder(changes={2: {field: cell}})
    refused(
        lcm("shard tiny.yaml"),
        rf"raw/phenotypes\.csv, row 4: {field} is {'empty' if not cell else repr(cell)}",
    )


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_truncated_shard_is_one_line_naming_it(keep: int, raw, lcm, tmp_path) -> None:
    lcm("shard tiny.yaml")
    path = tmp_path / "shards/tiny/tiny-000000.tar"
    path.write_bytes(path.read_bytes()[:keep])
    refused(lcm("verify shards/tiny"), r"shards/tiny/tiny-000000\.tar: truncated")


def test_an_edited_manifest_is_one_line_naming_it(raw, lcm, tmp_path) -> None:
    lcm("shard tiny.yaml")
    path = tmp_path / "shards/tiny/manifest.json"
    path.write_text(path.read_text().replace('"Autism"', '"autism"'))
    refused(lcm("verify shards/tiny"), r"shards/tiny/manifest\.json: its fingerprint does not fit")


def test_a_second_bad_attempt_leaves_the_first_set_readable(raw, lcm, tmp_path) -> None:
    assert lcm("shard tiny.yaml")[0] == 0
    empty(tmp_path / LAST)
    assert lcm("shard tiny.yaml")[0] == 2
    assert lcm("verify shards/tiny")[0] == 0
    assert [p.name for p in (tmp_path / "shards").iterdir()] == ["tiny"]


def test_files_of_numpy_and_matlab_that_are_cut_off_are_named(raw, lcm, tmp_path) -> None:
    for suffix in ("npy", "npz", "mat"):
        (tmp_path / f"scan.{suffix}").write_bytes(b"\x93NUMPY\x01\x00")
        (tmp_path / "scans.csv").write_text(f"file,subject,diagnosis\nscan.{suffix},1,CN\n")
        refused(
            lcm("shard tiny.yaml reader=table source.table=scans.csv"),
            rf"scan\.{suffix}: cannot be read as",
        )


def test_a_ready_matrix_out_of_range_is_named_with_its_place(raw, lcm, tmp_path) -> None:
    np.save(tmp_path / "fc.npy", np.eye(6) + 2)
    (tmp_path / "scans.csv").write_text("file,subject,diagnosis\nfc.npy,1,CN\n")
    line = "shard tiny.yaml reader=table source.table=scans.csv source.kind=connectivity"
    refused(lcm(line), r"fc\.npy: 3 at \(1, 1\) is no correlation")
