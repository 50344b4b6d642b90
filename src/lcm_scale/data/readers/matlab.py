"""MATLAB files of all versions, read in a child process that a hostile or damaged file may crash.

One child serves many files, so that thousands of them cost one start. It starts with the first
file and ends with this process: by `close`, or because its input ends. The kernel holds it to its
memory and processor time (`matlab_child.py` sets both), also when this process is gone. A file that
makes it crash, run for ever or take too much memory is one `InputError`.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.data.readers.numpy_files import Variable
from lcm_scale.errors import InputError
from lcm_scale.limits import MOST_NUMBERS

CHILD = Path(__file__).with_name("matlab_child.py")
# Of processor time a file, so that a busy machine or a slow disk is not held against it. Unpacking
# the largest array that is read takes a tenth of it.
SECONDS = 60
# Bytes that a file may take: the largest array as it lies there, unpacked, turned, and once more.
MEMORY = 4 * MOST_NUMBERS * 8
LARGEST_ARRAY = 16 + 8 * MOST_NUMBERS  # bytes of an answer: its two lengths, and the numbers
LONGEST_TEXT = 2**22  # bytes of any other answer
PIPE = 2**20  # bytes that it holds, so that most answers are one turn of the two processes
CONTAINERS = ("struct", "cell")
# What may name the columns of an array beside it: `names`, `roi_labels`, `regions`.
NAMES = re.compile(r"name|label|region|roi", re.IGNORECASE)
HEAD = struct.Struct("<cQ")  # of an answer: its kind, and how many bytes follow
# One thread is enough to parse. HDF5 shall load no filters from plug-ins; MATLAB uses none.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HDF5_PLUGIN_PRELOAD": "::",
}


class Died(Exception):
    """The child ended instead of answering.  Attributes: code: its return code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class MatlabFiles:
    """A child process and what it is asked; `MATLAB` below is the one of this program.

    Args: seconds: of processor time that a file may take.
    """

    def __init__(self, seconds: int = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0  # the process that started it: after a fork, the other one starts its own

    def variables(self, path: Path) -> list[Variable]:
        """What a file holds, from its variables' headers.

        Raises: InputError where it cannot be read, or refers to data outside the file.
        """
        return _variables(self._ask(path, ask="variables"))

    def inside(self, path: Path, name: str) -> list[Variable]:
        """One variable and all that it holds: fields as `subj.tc`, cells as `data{2}`. Cells of one
        shape are one array (`matlab_parts.py`).

        Raises: InputError as `variables`.
        """
        return _variables(self._ask(path, ask="inside", name=name))

    def candidates(self, path: Path, key: str | None) -> list[Variable]:
        """The variables, with what structs and cells hold: all of them, or the one into which the
        key leads.

        Raises: InputError as `variables`.
        """
        first = None if key is None else _parted(key)[0]
        found = []
        for variable in self.variables(path):
            opened = variable.kind in CONTAINERS and key is None
            led_into = variable.kind in (*CONTAINERS, "sparse") and variable.name == first
            found += self.inside(path, variable.name) if opened or led_into else [variable]
        return found

    def read(
        self,
        path: Path,
        name: str,
        slab: tuple[int, int] | None = None,
        cells: Sequence[int] | None = None,
    ) -> np.ndarray:
        """One table of numbers.

        Args:
            name: of a variable, or of a place in it as `inside` names it.
            slab: (side, place along it), of an array of three sides.
            cells: of an array of cells, those to be joined, counted from 0.
        Returns: float64 (rows, columns).
        Raises: InputError as `variables`, or where it is no table of numbers.
        """
        variable, within = _parted(name)
        chosen = None if cells is None else list(cells)
        answer = self._ask(path, ask="read", name=variable, within=within, slab=slab, cells=chosen)
        shape = struct.unpack_from("<QQ", answer)
        return np.frombuffer(answer, np.float64, offset=16).reshape(shape)

    def words(self, path: Path, name: str) -> list[str]:
        """A list of texts, or of numbers as one would write them.

        Raises: InputError as `variables`, or where it is no such list.
        """
        variable, within = _parted(name)
        words: list[str] = json.loads(self._ask(path, ask="words", name=variable, within=within))
        return words

    def names_beside(self, path: Path, of: Variable, variables: Sequence[Variable]) -> list[str]:
        """What the file calls the regions of an array: the list of as many texts as it has columns
        or rows that lies beside it; empty where there is none, or there are several and none is
        called `names`.

        Raises: InputError as `variables`.
        """
        place = of.name.rpartition(".")[0]
        beside = {
            variable.name.rpartition(".")[2]: variable
            for variable in variables
            if variable.name.rpartition(".")[0] == place
            and variable.kind.partition(" of ")[0] in ("cell", "char")
            and NAMES.search(variable.name.rpartition(".")[2])
            and max(variable.shape, default=0) in of.shape
        }
        found = {}
        for name, variable in beside.items():
            with contextlib.suppress(InputError):  # cells of other things, under such a name
                words = self.words(path, variable.name)
                if len(words) in of.shape and all(words):
                    found[name] = words
        return next(iter(found.values())) if len(found) == 1 else found.get("names", [])

    def close(self) -> None:
        """End the child, if there is one.  It holds nothing that could be lost."""
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # of a request that nobody reads now
                    pipe.close()

    def _ask(self, path: Path, **asked: Any) -> bytearray:
        request = json.dumps({"path": str(path.absolute()), **asked}).encode() + b"\n"
        with self._lock:
            try:
                kind, answer = self._answer(request, path)
            except BaseException:  # an answer left in the pipe would be taken for the next file's
                self.close()
                raise
        if kind in b"VA":
            return answer
        words = answer.decode(errors="replace")
        raise InputError(
            f"{path}: {words}" if kind == b"R" else f"{path}: cannot be read as .mat ({words})"
        )

    def _answer(self, request: bytes, path: Path) -> tuple[bytes, bytearray]:
        """Ask a second time where a child crashed that had read other files: one of them may have
        damaged its memory, and the file that is asked for now shall not be blamed for it."""
        while True:
            new = self._start()
            try:
                return self._exchange(request)
            except Died as death:
                if new or death.code == -signal.SIGXCPU:
                    raise InputError(f"{path}: {self._reason(death.code)}") from None

    def _start(self) -> bool:
        """Whether a child had to be started."""
        if self._child is not None and self._owner == os.getpid():
            return False
        limits = map(str, (MOST_NUMBERS, self._seconds, MEMORY))
        # -P: the readers beside its file are no modules of its own. A process group of its own
        # keeps Ctrl-C from it, which is for this process.
        command = [sys.executable, "-P", "-W", "ignore", str(CHILD), *limits]
        self._owner = os.getpid()
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | ENVIRONMENT,
                process_group=0,
            )
            with contextlib.suppress(OSError):  # a system that grants no more: more turns an answer
                fcntl.fcntl(self._child.stdout, fcntl.F_SETPIPE_SZ, PIPE)  # type: ignore[arg-type]
            self._take(HEAD.size)
        except (OSError, Died) as error:
            raise InputError(
                f"the process that reads .mat files does not start ({type(error).__name__} {error})"
            ) from error
        return True

    def _exchange(self, request: bytes) -> tuple[bytes, bytearray]:
        assert self._child is not None and self._child.stdin is not None
        try:
            self._child.stdin.write(request)
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        kind, size = HEAD.unpack(self._take(HEAD.size))
        if size > (LARGEST_ARRAY if kind == b"A" else LONGEST_TEXT):
            raise self._death()
        return kind, self._take(size)

    def _take(self, size: int) -> bytearray:
        assert self._child is not None and self._child.stdout is not None
        taken = bytearray(size)
        room, filled = memoryview(taken), 0
        while filled < size:
            step = self._child.stdout.readinto(room[filled:])  # type: ignore[attr-defined]
            if not step:
                raise self._death()
            filled += step
        return taken

    def _death(self) -> Died:
        """Its return code as the kernel gave it, or that of being killed here."""
        child = self._child
        assert child is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=5)
        self.close()
        return Died(child.returncode)

    def _reason(self, code: int) -> str:
        if code == -signal.SIGXCPU:
            return (
                f"cannot be read as .mat (not done after {self._seconds} s of processor time); the "
                "file is damaged, or made to hang what reads it"
            )
        if code == -signal.SIGKILL:
            return "cannot be read as .mat (the system ended its reader: was memory short?)"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return (
            f"cannot be read as .mat (the parser crashed: {name}); the file is damaged, or made to "
            "crash what reads it"
        )


def _variables(answer: bytearray) -> list[Variable]:
    return [
        Variable(name, tuple(shape), kind, numbers)
        for name, shape, kind, numbers in json.loads(answer)
    ]


def _parted(name: str) -> tuple[str, str]:
    """`subj{2}.tc` as the variable, `subj`, and the place in it, `{2}.tc`."""
    variable = re.split(r"[.{]", name, maxsplit=1)[0]
    return variable, name[len(variable) :]


MATLAB = MatlabFiles()
atexit.register(MATLAB.close)
