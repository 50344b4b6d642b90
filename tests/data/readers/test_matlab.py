"""The child process that reads MATLAB files: what a file can do to it, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from lcm_scale.data.readers import arrays, matlab
from lcm_scale.data.readers.arrays import read_array
from lcm_scale.data.readers.matlab import MatlabFiles
from lcm_scale.errors import InputError

VALUES = np.array([[1.5, -2.0, 3e-3], [4.0, 5.25, 6.0]])

# The real child, with a parser that does what a file named `evil` makes it do.
EVIL = """
import os, runpy
import numpy as np
import scipy.io
loadmat = scipy.io.loadmat
def evil(path, **options):
    if os.path.basename(path) == "evil.mat":
        {evil}
    return loadmat(path, **options)
scipy.io.loadmat = evil
runpy.run_path({child!r}, run_name="__main__")
"""


@pytest.fixture
def files() -> Iterator[MatlabFiles]:
    made = MatlabFiles(seconds=1)
    yield made
    made.close()


@pytest.fixture
def evil_child(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def write(evil: str) -> None:
        script = tmp_path / "evil_child.py"
        script.write_text(EVIL.format(evil=evil, child=str(matlab.CHILD)))
        monkeypatch.setattr(matlab, "CHILD", script)

    return write


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A file that is read, and one of the name that the evil parser waits for."""
    for name in ("good", "evil"):
        scipy.io.savemat(tmp_path / f"{name}.mat", {"ts": VALUES})
    return tmp_path / "good.mat", tmp_path / "evil.mat"


@pytest.mark.parametrize(
    ("evil", "message"),
    [
        ("import ctypes; ctypes.string_at(0)", r"the parser crashed: SIGSEGV"),
        ("os._exit(3)", r"the parser crashed: exit code 3"),
        ("os.kill(os.getpid(), 9)", r"was memory short\?"),
        ("while True: pass", r"not done after 1 s of processor time"),
        ("bytearray(2**32)", r"MemoryError"),
        ("raise RecursionError('x' * 10**6)", r"RecursionError: x+\)"),
    ],
)
def test_what_a_file_does_to_its_parser_is_one_line_and_the_next_file_is_read(
    evil: str, message: str, evil_child, two, files: MatlabFiles
) -> None:
    evil_child(evil)
    good, bad = two
    assert np.array_equal(files.read(good, "ts"), VALUES)
    with pytest.raises(InputError, match=rf"evil\.mat: cannot be read as \.mat .*{message}") as got:
        files.read(bad, "ts")
    assert "\n" not in str(got.value) and len(str(got.value)) < 1000
    assert np.array_equal(files.read(good, "ts"), VALUES)


def test_what_a_parser_prints_is_no_answer(evil_child, two, files: MatlabFiles, capfd) -> None:
    evil_child("os.write(1, b'A' * 100); os.write(2, b'glibc: corrupted'); print('x', flush=True)")
    assert np.array_equal(files.read(two[1], "ts"), VALUES)
    assert capfd.readouterr() == ("", "")


def test_a_file_is_not_blamed_for_the_damage_of_an_earlier_one(
    evil_child, two, files: MatlabFiles
) -> None:
    evil_child("globals()['loadmat'] = lambda *a, **k: os.abort(); return {'ts': np.eye(2)}")
    good, bad = two
    files.read(bad, "ts")  # and leaves a parser that crashes on whatever comes next
    assert np.array_equal(files.read(good, "ts"), VALUES)


def test_thousands_of_files_cost_one_start(two, files: MatlabFiles, monkeypatch) -> None:
    starts = []
    start = subprocess.Popen
    monkeypatch.setattr(
        matlab.subprocess, "Popen", lambda *a, **k: starts.append(1) or start(*a, **k)
    )
    for _ in range(50):
        files.variables(two[0])
        files.read(two[0], "ts")
    assert len(starts) == 1


def test_an_answer_that_was_not_taken_is_not_the_next_files(two, files: MatlabFiles) -> None:
    """As after Ctrl-C between a request and its answer."""
    good, other = two
    scipy.io.savemat(other, {"other": VALUES})
    files.variables(good)
    taken = files._take
    files._take = lambda size: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        files.variables(good)
    files._take = taken  # type: ignore[method-assign]
    assert [v.name for v in files.variables(other)] == ["other"]


def test_a_child_that_cannot_start_is_no_files_fault(
    two, files: MatlabFiles, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setattr(sys, "executable", str(two[0]))
    with pytest.raises(InputError, match=r"the process that reads \.mat files does not start"):
        files.variables(two[0])


def test_a_fork_starts_a_child_of_its_own(two, files: MatlabFiles) -> None:
    files.variables(two[0])
    theirs = files._child
    pid = os.fork()
    if pid == 0:
        good = [v.name for v in files.variables(two[0])] == ["ts"] and files._child is not theirs
        files.close()
        os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert [v.name for v in files.variables(two[0])] == ["ts"]


SCRIPT = """
import sys, time
from pathlib import Path
from lcm_scale.data.readers.matlab import MATLAB
MATLAB.variables(Path(sys.argv[1]))
print(MATLAB._child.pid, flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["", "raise SystemExit(2)", "import os; os.kill(os.getpid(), 9)"])
def test_no_child_outlives_the_program(end: str, two) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(end=end), str(two[0])],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    while is_running(int(done.stdout)):
        assert time.monotonic() - started < 30, "the child is still there"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- MATLAB 7.3 is HDF5, which can lead out of the file --


def hdf5(path: Path, write: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "w", userblock_size=512) as file:
        write(file)
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["ts"] = VALUES
    (tmp_path / "raw.bin").write_bytes(VALUES.tobytes())
    return path


def external_link(file: h5py.File, secret: Path) -> None:
    file["ts"] = h5py.ExternalLink(str(secret), "/ts")


def soft_link(file: h5py.File, secret: Path) -> None:
    file.create_group("#refs#")["way"] = h5py.ExternalLink(str(secret), "/")
    file["ts"] = h5py.SoftLink("/#refs#/way/ts")


def external_storage(file: h5py.File, secret: Path) -> None:
    raw = secret.with_name("raw.bin")
    file.create_dataset("ts", (2, 3), "f8", external=[(str(raw), 0, VALUES.nbytes)])


def virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((2, 3), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "ts", (2, 3))
    file.create_virtual_dataset("ts", layout)


@pytest.mark.parametrize("key", [None, "ts"], ids=["found", "named"])
@pytest.mark.parametrize(
    ("write", "message"),
    [
        (external_link, "'ts' is an external link"),
        (soft_link, "'ts' is a soft link"),
        (external_storage, "the numbers of 'ts' lie in other files"),
        (virtual, "the numbers of 'ts' lie in other files"),
    ],
)
def test_hdf5_that_leads_out_of_the_file_is_refused(
    write, message: str, key: str | None, tmp_path, secret
) -> None:
    path = hdf5(tmp_path / "scan.mat", lambda file: write(file, secret))
    with pytest.raises(InputError, match=rf"scan\.mat: {message}"):
        read_array(path, key)


def test_hdf5_in_large_pieces_is_refused_before_they_are_unpacked(tmp_path) -> None:
    def write(file: h5py.File) -> None:
        file.create_dataset(
            "ts", (2, 3), "u1", maxshape=(None, None), chunks=(2**20, 2**10), compression="gzip"
        )

    path = hdf5(tmp_path / "scan.mat", write)
    with pytest.raises(InputError, match=r"'ts' claims 1,073,741,824 numbers; at most 67,108,864"):
        read_array(path)


def test_a_damaged_variable_does_not_hide_another(tmp_path) -> None:
    path = tmp_path / "scan.mat"
    with h5py.File(path, "w") as file:
        file["note"], file["ts"] = np.ones(3), VALUES.T
        header = h5py.h5o.get_info(file["note"].id).addr
    data = bytearray(path.read_bytes())
    data[header] = 99  # the version of its description
    path.write_bytes(data)
    assert np.array_equal(read_array(path).values, VALUES)
    with pytest.raises(InputError, match=r"'note' is damaged"):
        read_array(path, "note")


def test_every_file_of_scipys_own_tests_is_listed_as_scipy_lists_it(files: MatlabFiles) -> None:
    """Versions 4 to 7, both orders of bytes, structs, objects and functions."""
    folder = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"
    if not folder.is_dir():
        pytest.skip("this SciPy comes without its tests")
    for path in folder.glob("*.mat"):
        try:
            listed = scipy.io.whosmat(path)
        except Exception:
            continue
        mine = [(v.name, v.shape, v.kind) for v in files.variables(path)]
        assert mine == [v for v in listed if not v[0].startswith("__")], path.name


def test_text_and_truth_values_are_no_candidates(tmp_path) -> None:
    def write(file: h5py.File) -> None:
        file["ts"] = VALUES.T
        for name, array in (("char", np.ones((3, 10), "u2")), ("logical", np.ones((3, 2), "u1"))):
            file[name] = array
            file[name].attrs["MATLAB_class"] = np.bytes_(name)

    path = hdf5(tmp_path / "new.mat", write)
    assert np.array_equal(read_array(path, fits=lambda v: 3 in v.shape).values, VALUES)
    with pytest.raises(InputError, match=r"'char' is char, 10 x 3; expected a table of numbers"):
        read_array(path, "char")
    old = tmp_path / "old.mat"
    scipy.io.savemat(old, {"ts": VALUES, "roi_ok": np.ones((2, 3), dtype=bool)})
    assert np.array_equal(read_array(old).values, VALUES)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_matlab_file_that_claims_too_much_is_refused_before_it_is_read(
    compressed: bool, tmp_path
) -> None:
    path = tmp_path / "scan.mat"
    scipy.io.savemat(path, {"ts": VALUES})
    # Lengths of 2 and 3 stand as two 32 bit numbers.
    data = path.read_bytes().replace(b"\x02\0\0\0\x03\0\0\0", b"\x01\0\0\x10\x03\0\0\0", 1)
    path.write_bytes(data)
    assert b"\x01\0\0\x10\x03\0\0\0" in data
    with pytest.raises(
        InputError, match=r"'ts': 268435457 x 3 values; at most 67,108,864 are read"
    ):
        read_array(path)


def test_the_file_that_crashed_scipy_is_read_or_named(tmp_path, monkeypatch, files) -> None:
    """SciPy looks up the type of a variable's numbers without comparing it with what it knows."""
    monkeypatch.setattr(arrays, "MATLAB", files)
    path = tmp_path / "scan.mat"
    scipy.io.savemat(path, {"ts": VALUES})
    data = path.read_bytes()
    tag = b"\x09\0\0\0" + VALUES.nbytes.to_bytes(4, "little")
    assert tag in data
    for kind in (0x0105, 0x2000, 0xFF00):
        path.write_bytes(data.replace(tag, kind.to_bytes(4, "little") + tag[4:]))
        with pytest.raises(InputError, match=r"scan\.mat: cannot be read as \.mat"):
            read_array(path)
