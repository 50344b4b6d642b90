"""Small raw data and shard sets, made anew for each test in a folder of its own, under a salt of
its own."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.atlas import load_atlas
from lcm_scale.config import GroupConfig, ShardRecipe, SourceConfig
from lcm_scale.data.readers import READERS
from lcm_scale.data.recordings import Recording, Skipped, Unread
from lcm_scale.data.shards import write_shards

REGIONS = 6
VOLUMES = 40


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the project's salt, or leaves a file in the repository."""
    monkeypatch.setenv("LCM_SALT_FILE", str(tmp_path / "salt"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bold() -> Callable[..., np.ndarray]:
    """`bold(seed, volumes, regions)` -> (T, R) series about 1000, as raw BOLD is; all regions share
    a part."""

    def make(seed: int, volumes: int = VOLUMES, regions: int = REGIONS) -> np.ndarray:
        rng = np.random.default_rng(seed)
        series = 1000 + 10 * (
            rng.standard_normal((volumes, regions)) + rng.standard_normal((volumes, 1))
        )
        return np.round(series, 3)

    return make


@pytest.fixture
def write_csv() -> Callable[[Path, Sequence[Mapping[str, Any]]], Path]:
    def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(
                handle, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ","
            )
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


@pytest.fixture
def write_1d() -> Callable[..., None]:
    """`write_1d(path, series, indices)`: tabs, CRLF and a `#2001` header, as the Preprocessed
    Connectomes Project's."""

    def write(
        path: Path, series: np.ndarray, indices: Sequence[int] = tuple(range(1, REGIONS + 1))
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            "\t".join(f"#{i}" for i in indices),
            *("\t".join(f"{v:.3f}" for v in row) for row in series),
        ]
        path.write_bytes("".join(line + "\r\n" for line in lines).encode())

    return write


@pytest.fixture
def abide_folder(tmp_path: Path, bold, write_csv, write_1d) -> Callable[..., Path]:
    """`abide_folder(4, {1: {"AGE_AT_SCAN": -9999}})`: people 0050000 ..., alternately autistic and
    control, in raw/."""

    def write(
        people: int = 4, changes: Mapping[int, Mapping[str, Any]] | None = None, folder: str = "raw"
    ) -> Path:
        rows = []
        for i in range(people):
            row = {
                "SUB_ID": 50000 + i,
                "SITE_ID": "NYU" if i % 3 else "PITT",
                "FILE_ID": f"Site_{50000 + i:07d}",
                "DX_GROUP": 1 + i % 2,
                "AGE_AT_SCAN": 10 + i,
                "SEX": 1 + i % 2,
                "EYE_STATUS_AT_SCAN": 1 + i % 2,
                "func_mean_fd": 0.1,
            }
            write_1d(tmp_path / folder / f"{row['FILE_ID']}_rois_aal.1D", bold(i))
            rows.append(row | dict((changes or {}).get(i, {})))
        write_csv(tmp_path / folder / "phenotypes.csv", rows)
        return tmp_path / folder

    return write


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., ShardRecipe]:
    """`recipe(dir=..., reader="mat")`: a shard recipe of the tiny atlas; keys of `source` may be
    given directly."""

    def make(**keys: Any) -> ShardRecipe:
        given = {
            key: keys.pop(key) for key in list(keys) if key in SourceConfig.__dataclass_fields__
        }
        source = SourceConfig(
            **{key: str(v) if isinstance(v, Path) else v for key, v in given.items()}
        )
        made = ShardRecipe(
            name="tiny",
            atlas=f"tiny:{REGIONS}",
            shards_dir=str(tmp_path / "shards"),
            source=source,
            groups=[GroupConfig("diagnosis")],
        )
        return replace(made, **keys)

    return make


@pytest.fixture
def read_all() -> Callable[[ShardRecipe], tuple[list[Recording], list[Skipped]]]:
    """What a recipe's reader lists, each file read: (recordings, skipped)."""

    def read(made: ShardRecipe) -> tuple[list[Recording], list[Skipped]]:
        items = list(READERS[made.reader](made, load_atlas(made.atlas)))
        return [i.read() for i in items if isinstance(i, Unread)], [
            i for i in items if isinstance(i, Skipped)
        ]

    return read


@pytest.fixture
def atlas_file(tmp_path: Path, write_csv) -> Callable[..., str]:
    """`atlas_file([3, 1, 2])` -> path of an atlas whose rows stand in that order."""

    def write(indices: Sequence[int], name: str = "mine") -> str:
        return str(
            write_csv(
                tmp_path / f"{name}.tsv", [{"index": i, "name": f"region {i}"} for i in indices]
            )
        )

    return write


@pytest.fixture
def tiny_recipe(tmp_path: Path, bold, write_csv, recipe) -> Callable[..., ShardRecipe]:
    """`tiny_recipe("a", people=5, runs=2)`: raw .npy files of people 1.. and the recipe that lists
    them (table reader).

    A person's series depend on her number and the run alone, whatever the set. `order`: of the
    columns in the files.
    """

    def write(
        name: str = "tiny",
        people: int = 6,
        runs: int = 1,
        first: int = 1,
        order: Sequence[int] | None = None,
        labels: Sequence[str] = ("CN", "Autism"),
        **keys: Any,
    ) -> ShardRecipe:
        rows = []
        for i in range(first, first + people):
            for run in range(1, runs + 1):
                file = tmp_path / "raw" / name / f"scan-of-{i}-{run}.npy"
                file.parent.mkdir(parents=True, exist_ok=True)
                series = bold(100 * i + run)
                np.save(file, series if order is None else series[:, list(order)])
                rows.append(
                    {
                        "file": file.name,
                        "subject": f"{i:03d}",
                        "run": run,
                        "site": ("north", "south")[i % 2],
                        "age": 20 + i % 60,
                        "sex": "MF"[i % 2],
                        "diagnosis": labels[i % len(labels)],
                    }
                )
        table = write_csv(tmp_path / "raw" / name / "table.csv", rows)
        return recipe(name=name, reader="table", table=table, **keys)

    return write


@pytest.fixture
def tiny_set(tiny_recipe) -> Callable[..., Path]:
    """The shard folder of `tiny_recipe(...)`."""

    def write(*args: Any, **keys: Any) -> Path:
        made = tiny_recipe(*args, **keys)
        write_shards(made)
        return Path(made.shards_dir) / made.name

    return write


@pytest.fixture
def shard_bytes() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder -> its bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            p.relative_to(folder).as_posix(): p.read_bytes()
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        }

    return read
