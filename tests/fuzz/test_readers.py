"""Every reader of strangers' files on thousands of damaged ones: it reads them, or says in one line
what is wrong. Nothing else may come out, and no mutant may take much memory.

A failure names kind, seed and number; `mutate(kind, seed, number)` makes that file again.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from mutants import mutant, table_mutant

from lcm_scale import config
from lcm_scale.atlas import load_atlas, numbered
from lcm_scale.config import ConnectivityConfig, GroupConfig, ShardRecipe, SourceConfig
from lcm_scale.data.connectivity import connectivity_matrices
from lcm_scale.data.readers import READERS, arrays, matlab, stack
from lcm_scale.data.recordings import Recording, Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.layouts import recognised
from lcm_scale.layouts.recipes import shard_recipe
from lcm_scale.layouts.survey import survey

SEED = 15
R = 6
ATLAS = numbered("tiny", R)
SERIES = np.round(np.random.default_rng(0).standard_normal((9, R)), 3)
GROWTH = 2**30  # bytes by which this process may grow over the mutants of a kind


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        read: what is done with a mutant's path.
        count: mutants.
        files: (suffix, bytes to be mutated, what makes a file of the mutated bytes).
        texts: whether cells are exchanged as well as bytes.
    """

    read: Callable[[Path], object]
    count: int
    files: list[tuple[str, bytes, Callable[[bytes], bytes]]]
    texts: bool = False


def mutate(kind: str, seed: int, number: int) -> tuple[str, bytes]:
    """Suffix and bytes of one mutant."""
    made = KINDS[kind]
    suffix, data, finish = made.files[number % len(made.files)]
    change = table_mutant if made.texts and number % 5 else mutant
    return suffix, finish(change(data, random.Random(f"{seed}/{number}")))


# -- what is done with a file --


def read_scan(path: Path) -> None:
    """As the table reader does, to the matrix."""
    table = arrays.read_array(path, fits=lambda variable: R in variable.shape)
    scan = Recording(
        cohort="fuzz",
        subject="1",
        source=path.name,
        series=table.values if table.columns else arrays.as_series(table.values, R, path),
        columns=table.columns,
    )
    for matrix in connectivity_matrices(scan, ConnectivityConfig(), ATLAS):
        assert isinstance(matrix, Skipped) or np.isfinite(matrix.values).all()


def read_people(reader: str, **source: str) -> None:
    made = ShardRecipe(
        name="fuzz",
        reader=reader,
        atlas=f"tiny:{R}",
        source=SourceConfig(**source),
        groups=[GroupConfig("diagnosis")],
    )
    for item in READERS[reader](made, ATLAS):
        if isinstance(item, Unread):
            item.read()
            texts = [item.subject, item.session, item.run, item.site, *item.labels.values()]
            # What the store cannot hold must not get that far.
            assert not any("\0" in (text or "") for text in texts)


def read_abide(path: Path) -> None:
    scan = path.parent / "Site_0050001_rois_tiny.1D"
    if not scan.exists():
        scan.write_bytes(tabbed(SERIES, "#{}"))
    read_people("abide", dir=str(path.parent), phenotypes=str(path))


def read_parts(path: Path) -> None:
    """Whatever structs and cells hold, by its key; the question where none is named."""
    for key in (None, "cell{1}", "cell", "struct.a", "struct", "sparse", "complex", "flags", "ts"):
        try:
            arrays.read_array(path, key, lambda variable: R in variable.shape)
        except InputError as error:
            if len(str(error)) > 2000:
                raise
            if "cannot be read" in str(error):  # each costs a new child where the parser crashes
                return
    with contextlib.suppress(InputError):
        arrays.MATLAB.words(path, "note")


def read_stack(path: Path) -> None:
    source = SourceConfig(file=str(path), stack="first", ids="rows", table=str(path.parent / "two"))
    (path.parent / "two").write_text("subject,age\n1,30\n2,40\n")
    recipe = ShardRecipe(name="fuzz", reader="stack", atlas=f"tiny:{R}", source=source)
    for scan in READERS["stack"](recipe, ATLAS):
        if isinstance(scan, Unread):
            scan.read()


def read_table(path: Path) -> None:
    scan = path.parent / "scan.npy"
    if not scan.exists():
        np.save(scan, SERIES)
    read_people("table", table=str(path))


def read_bids(path: Path) -> None:
    """The file as each table, or each JSON file, that stands beside a series under a BIDS name; then
    what `lcm-scale new` makes of the folder."""
    root = path.parent / "ds"
    scan = root / "sub-1" / "func" / "sub-1_task-rest_timeseries.tsv"
    if not scan.exists():
        scan.parent.mkdir(parents=True)
        scan.write_bytes(tabbed(SERIES, "region {}"))
    (root / "participants.tsv").write_bytes(PARTICIPANTS)
    (root / "participants.json").write_bytes(b"{}")
    beside = {
        ".tsv": [
            "participants.tsv",
            "sub-1/sub-1_scans.tsv",
            "sub-1/func/sub-1_task-rest_motion.tsv",
        ],
        ".json": ["participants.json", "task-rest_bold.json"],
    }
    for names in beside.values():
        for name in names[1:]:
            (root / name).unlink(missing_ok=True)
    for name in beside[path.suffix]:
        (root / name).write_bytes(path.read_bytes())
        with contextlib.suppress(InputError):
            read_people("bids", dir=str(root))
        found = recognised(root)
        recipe = path.parent / "new.yaml"
        recipe.write_text(shard_recipe(found, survey(found, "new"), "new", f"tiny:{R}"))
        assert config.load(ShardRecipe, recipe).reader == "bids"


def read_atlas(path: Path) -> None:
    atlas = load_atlas(str(path))
    assert np.isfinite(np.array(atlas.coordinates)).all()
    assert len(atlas.checksum) == 16


# -- the files that mutants are made of --


def mat(arrays: dict[str, object], **options: object) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, arrays, **options)
    return file.getvalue()


def compressed(variables: bytes) -> bytes:
    """Mutated variables of a MATLAB file, well compressed: damage behind a checksum that fits."""
    packed = zlib.compress(variables)
    return mat({})[:128] + struct.pack("<II", 15, len(packed)) + packed


def mat73(parts: bool = False, **arrays: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, array in arrays.items():
                packed = {"chunks": True, "compression": "gzip"} if name == "packed" else {}
                file.create_dataset(name, data=array.T, **packed)
            if parts:
                file.create_group("struct")["a"] = SERIES.T
                file["#refs#/b"] = SERIES.T
                links = np.array([[file["#refs#/b"].ref], [file["ts"].ref]], h5py.ref_dtype)
                file.create_dataset("cell", data=links, dtype=h5py.ref_dtype)
                sparse = file.create_group("sparse")
                sparse.attrs["MATLAB_sparse"] = 2
                sparse["data"], sparse["ir"], sparse["jc"] = [1.0, 2.0], [0, 1], [0, 1, 2]
                file["note"] = np.array([[97], [98]], np.uint16)
                file["note"].attrs["MATLAB_class"] = np.bytes_("char")
        return path.read_bytes()


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def npz(array: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("ts.npy", array)
    return file.getvalue()


def tabbed(values: np.ndarray, name: str) -> bytes:
    rows = [[name.format(i + 1) for i in range(R)], *([f"{v:.3f}" for v in row] for row in values)]
    return "\n".join("\t".join(row) for row in rows).encode()


def as_it_is(data: bytes) -> bytes:
    return data


CELLS = np.empty((1, 2), dtype=object)
CELLS[0, 0], CELLS[0, 1] = SERIES, "ab"
EVERYTHING = {
    "ts": SERIES,
    "cell": CELLS,
    "struct": {"a": SERIES[:2], "b": "text"},
    "note": "abc",
    "flags": np.ones((2, 2), dtype=bool),
    "complex": SERIES[:2, :5] + 1j,
    "sparse": scipy.sparse.csc_matrix(SERIES[:3]),
}
COMMAS = "\n".join(",".join(map(str, row)) for row in SERIES).encode()
PHENOTYPES = (
    b"SUB_ID,SITE_ID,FILE_ID,DX_GROUP,AGE_AT_SCAN,SEX,EYE_STATUS_AT_SCAN,func_mean_fd\n"
    b"50001,NYU,Site_0050001,1,10.5,1,1,0.1\n"
    b"50002,NYU,no_filename,2,-9999,2,2,0.1\n"
)
SCANS = (
    b"file,subject,session,run,site,tr,age,sex,mean_fd,diagnosis\n"
    b"scan.npy,1,1,1,north,2.0,31,M,0.1,CN\n"
    b"scan.npy,2,1,2,south,2.0,n/a,F,,Autism\n"
)
PARTICIPANTS = (
    b"participant_id\tsession_id\tfilename\tframewise_displacement\tage\tsex\tgroup\n"
    b"sub-1\tses-1\tfunc/sub-1_task-rest_bold.nii.gz\t0.5\t20\tM\t1\n"
    b"sub-2\tses-1\tfunc/sub-2_task-rest_bold.nii.gz\tn/a\tn/a\tF\t2\n"
)
DESCRIBED = json.dumps(
    {
        "RepetitionTime": 2.0,
        "FDMean": 0.5,
        "age": {"Units": "years"},
        "group": {"Levels": {"1": "patient", "2": {"Description": "control"}}},
    }
).encode()
REGIONS = b"index\tname\tnetwork\tx\ty\tz\n" + b"".join(
    b"%d\tregion %d\tnet\t1.5\t-2\t%d\n" % (i, i, i) for i in range(1, R + 1)
)
KINDS = {
    "mat 5": Kind(
        read_scan,
        600,
        [
            (".mat", mat({"ts": SERIES}), as_it_is),
            (".mat", mat({"ts": SERIES.T.astype(np.int32)}), as_it_is),
        ],
    ),
    "mat parts": Kind(
        read_parts,
        300,
        [
            (".mat", mat(EVERYTHING), as_it_is),
            (".mat", mat(EVERYTHING)[128:], compressed),
            (".mat", mat73(ts=SERIES, parts=True), as_it_is),
        ],
    ),
    "stack": Kind(
        read_stack,
        200,
        [
            (".npy", npy(np.stack([SERIES] * 2)), as_it_is),
            (".npz", npz(npy(np.stack([SERIES] * 2))), as_it_is),
            (".mat", mat({"tc": np.stack([SERIES] * 2)}), as_it_is),
            (".mat", mat73(tc=np.stack([SERIES] * 2)), as_it_is),
        ],
    ),
    "mat 7": Kind(
        read_scan,
        350,
        [
            (".mat", mat({"ts": SERIES}, do_compression=True), as_it_is),
            (".mat", mat({"ts": SERIES})[128:], compressed),
            (".mat", mat({"ts": SERIES.astype(np.float32)})[128:], compressed),
        ],
    ),
    "mat 4": Kind(read_scan, 150, [(".mat", mat({"ts": SERIES, "n": "a"}, format="4"), as_it_is)]),
    "mat 7.3": Kind(
        read_scan,
        450,
        [
            (".mat", mat73(ts=SERIES, note=np.arange(4, dtype=np.uint16)), as_it_is),
            (".mat", mat73(packed=SERIES), as_it_is),
        ],
    ),
    "npy": Kind(
        read_scan,
        150,
        [
            (".npy", npy(SERIES), as_it_is),
            (".npy", npy(np.asfortranarray(SERIES.astype(np.float32)), (2, 0)), as_it_is),
            (".npy", npy(SERIES.astype(">i2")), as_it_is),
        ],
    ),
    "npz": Kind(
        read_scan,
        250,
        [
            (".npz", npz(npy(SERIES)), as_it_is),
            (".npz", npz(npy(SERIES), zipfile.ZIP_STORED), as_it_is),
            (".npz", npy(SERIES), npz),
        ],
    ),
    "text": Kind(
        read_scan,
        250,
        [
            (".1D", tabbed(SERIES, "#{}"), as_it_is),
            (".csv", COMMAS, as_it_is),
            (".tsv", tabbed(SERIES, "region {}"), as_it_is),
            (".txt", COMMAS.replace(b",", b" "), as_it_is),
        ],
        texts=True,
    ),
    "phenotypes": Kind(read_abide, 150, [(".csv", PHENOTYPES, as_it_is)], texts=True),
    "scan list": Kind(
        read_table,
        150,
        [(".csv", SCANS, as_it_is), (".tsv", SCANS.replace(b",", b"\t"), as_it_is)],
        texts=True,
    ),
    "BIDS tables": Kind(
        read_bids,
        100,
        [(".tsv", PARTICIPANTS, as_it_is), (".json", DESCRIBED, as_it_is)],
        texts=True,
    ),
    "atlas": Kind(
        read_atlas,
        150,
        [(".tsv", REGIONS, as_it_is), (".csv", REGIONS.replace(b"\t", b","), as_it_is)],
        texts=True,
    ),
}


@pytest.fixture(autouse=True)
def own_child(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A reader of MATLAB files that gives up on one after seconds, not a minute."""
    files = matlab.MatlabFiles(seconds=5)
    monkeypatch.setattr(arrays, "MATLAB", files)
    monkeypatch.setattr(stack, "MATLAB", files)
    yield
    files.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error::RuntimeWarning")  # it would be printed in front of the line
def test_a_damaged_file_is_read_or_named_in_one_line(kind: str, tmp_path: Path) -> None:
    made = KINDS[kind]
    before = peak()
    for number in range(made.count):
        suffix, data = mutate(kind, SEED, number)
        path = tmp_path / f"mutant{suffix}"
        path.write_bytes(data)
        try:
            made.read(path)
        except InputError as error:
            problem = len(str(error)) > 2000 and "a message without end"
        except BaseException as error:
            problem = f"{type(error).__name__}: {str(error)[:200]}"
        else:
            problem = None
        assert not problem, f"{kind}, seed {SEED}, mutant {number}: {problem}"
    assert peak() - before < GROWTH, f"{kind}, seed {SEED}: more memory than the files are worth"


def test_the_files_that_mutants_are_made_of_are_read(tmp_path: Path) -> None:
    for made in KINDS.values():
        for suffix, data, finish in made.files:
            path = tmp_path / f"whole{suffix}"
            path.write_bytes(finish(data))
            made.read(path)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
