"""One process at a folder: a lock that names its holder, on every file system of a cluster.

A lock is a file. Creating it is atomic, also on NFS and Lustre, where `flock` may be switched off.
It says who holds it (host, process, Slurm job) and is touched every few seconds. Its holder is dead
where that host's kernel no longer knows the process, where Slurm has started the holder's own job
anew, or where the file has not been touched for long; a dead holder's lock is taken over.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lcm_scale.errors import InputError
from lcm_scale.ranks import is_first

BEAT = 15.0  # seconds between two touches
DEAD = 120.0  # seconds without one, after which a holder on another host counts as dead
LARGEST = 4096  # bytes of a lock file
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        process: pid and start time, which together name a process of that boot and container.
        job: Slurm's job id, '' outside of Slurm.   restart: how often Slurm has requeued it.
        launch: the same for all ranks of one start, '' where that cannot be known.
    """

    host: str
    boot: str
    process: str
    job: str
    restart: str
    launch: str

    @classmethod
    def me(cls) -> Holder:
        return cls(
            socket.gethostname(),
            _boot(),
            f"{os.getpid()}.{_start_time(os.getpid())}",
            os.environ.get("SLURM_JOB_ID", ""),
            os.environ.get("SLURM_RESTART_COUNT", "0"),
            _launch(),
        )

    @property
    def words(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.process.partition('.')[0]} on {self.host}{job}"

    def is_dead(self, me: Holder, silence: float) -> bool:
        """Args: silence: seconds since the last touch."""
        if self.host == me.host and self.boot == me.boot != UNKNOWN:
            pid, _, start = self.process.partition(".")
            return not pid.isdigit() or _start_time(int(pid)) != start
        if self.job and self.job == me.job and self.restart != me.restart:
            return True  # the same job was requeued: Slurm has ended its processes
        return silence > DEAD


class InUse(InputError):
    """Somebody else is at work in the folder."""


class Lock:
    """Held by this process until `release`; made by `holding`."""

    def __init__(self, file: Path, me: Holder) -> None:
        self.file, self.me = file, me
        self.beaten = _now()
        self._lost: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """See that the lock is still ours; to be called before what must not be written twice.

        Raises: InputError where another process took it, as it may after this one was asleep.
        """
        if _now() - self.beaten > 2 * BEAT:
            self._beat()
        if self._lost is not None:
            raise InputError(
                f"{self.file.parent}: taken over by {self._lost} while this process was not heard "
                "of; nothing more is written here"
            )

    def release(self) -> None:
        self._over.set()
        self._thread.join()
        if self._lost is None and _holder(self.file) == self.me:
            self.file.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._over.wait(BEAT):
            self._beat()

    def _beat(self) -> None:
        try:
            holder = _holder(self.file)
            if holder is None and _create(self.file, self.me):
                holder = self.me  # somebody removed the file by hand
            if holder is not None and holder != self.me:
                self._lost = holder.words
            else:
                os.utime(self.file)
                self.beaten = _now()
        except (OSError, InputError):
            pass  # the file server is away: the next beat tries again


_held: dict[Path, Lock] = {}


@contextlib.contextmanager
def holding(file: Path) -> Iterator[Lock | None]:
    """Hold a lock while the block runs. The first rank holds it for all; a block within the block
    of the same process holds what is held already.

    Yields: the lock, None on other ranks.
    Raises: InUse naming the holder where it lives; InputError where the folder cannot be written.
    """
    key = file.absolute()
    if not is_first():
        check_free(file)
        yield None
    elif key in _held:
        yield _held[key]
    else:
        lock = _take(file)
        _held[key] = lock
        try:
            yield lock
        finally:
            del _held[key]
            lock.release()


def check_free(file: Path) -> None:
    """See that no other run holds a lock; nothing is written.  Raises: InUse naming the
    holder."""
    holder = living_holder(file)
    me = Holder.me()
    if holder is None or holder == me:
        return
    if not is_first() and (not me.launch or holder.launch == me.launch):
        return  # held by the first rank of this very run, as far as can be known
    raise _in_use(file, holder)


def living_holder(file: Path) -> Holder | None:
    """Who holds a lock and is not dead."""
    holder = _holder(file)
    if holder is None or holder.is_dead(Holder.me(), _silence(file)):
        return None
    return holder


def _take(file: Path) -> Lock:
    me = Holder.me()
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        if _create(file, me):
            return Lock(file, me)
        # Whoever takes over must not remove the lock of somebody who was quicker, so only one at a
        # time may try.
        turn = file.with_name(f"{file.name}.turn")
        before = _holder(turn)
        if before is not None and before.is_dead(me, _silence(turn)):
            turn.unlink(missing_ok=True)
        if _create(turn, me):
            try:
                if living_holder(file) is None:
                    file.unlink(missing_ok=True)
                    if _create(file, me):
                        return Lock(file, me)
            finally:
                turn.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from error
    raise _in_use(file, _holder(file))


def _in_use(file: Path, holder: Holder | None) -> InUse:
    if holder is None:
        return InUse(f"{file.parent}: another process is just beginning there")
    heard = ""
    if holder.host != socket.gethostname():
        silence = max(_silence(file), 0)
        heard = f", last heard of {silence:.0f} s ago (counts as dead after {DEAD:.0f})"
    return InUse(
        f"{file.parent}: in use by {holder.words}{heard}; wait for it, stop it, or set name"
    )


def _create(file: Path, me: Holder) -> bool:
    """Whether the file was not there and now is, as ours.  Raises: OSError."""
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with open(handle, "wb") as lock:
            lock.write(json.dumps(asdict(me)).encode())
    except OSError:  # a full disk: an empty lock would be somebody's who lives, for two minutes
        file.unlink(missing_ok=True)
        raise
    return True


def _holder(file: Path) -> Holder | None:
    """Who a lock file says holds it; None where there is none.  Raises: InputError."""
    for _ in range(3):
        try:
            with open(file, "rb") as lock:  # opening asks the file server, a stat may be old
                data = json.loads(lock.read(LARGEST))
            return Holder(**{key: str(data[key]) for key in Holder.__dataclass_fields__})
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError):
            time.sleep(0.05)  # just being written
    return Holder("an unknown host", UNKNOWN, "0", "", "", "")


def _silence(file: Path) -> float:
    """Seconds since a lock was touched, by the file server's own clock; 0 where there is none."""
    probe = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(file, "rb") as lock:
            touched = os.fstat(lock.fileno()).st_mtime
        try:
            with open(probe, "wb") as asked:
                return os.fstat(asked.fileno()).st_mtime - touched
        finally:
            probe.unlink(missing_ok=True)
    except FileNotFoundError:
        return 0.0
    except OSError:  # a folder that may only be read
        return time.time() - touched


def _launch() -> str:
    names: tuple[str, ...] = ()
    if "SLURM_PROCID" in os.environ:
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID")
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
    return ".".join(os.environ.get(name, "0") for name in names)


def _boot() -> str:
    """This boot of this kernel, this container: where it differs, process numbers mean nothing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return UNKNOWN


def _start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks; '' where there is none (or it is a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _now() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
