"""The machine that a run has at hand: the cards of all its ranks, as every rank sees them alike.

A strategy is chosen before a process group exists, since it is what makes the group; and every rank
must choose the same one. So ranks on several machines tell each other what they have without a
collective: each writes its card's figures into a key-value store of the first rank (torch's
TCPStore, at the address that Slurm or torchrun gives) and reads everybody's. Where one machine
starts its own processes, each of them sees all of its cards, and nothing has to be told.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.util
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from lcm_scale.config import TrainerConfig
from lcm_scale.errors import InputError
from lcm_scale.hardware.cards import CARDS, Card, card_as_driven
from lcm_scale.hardware.precision import cpu_has_bf16
from lcm_scale.ranks import rank, under_slurm

ANSWER_SECONDS = 120  # that ranks wait for the slowest to come up
# Lightning takes a port of this range (its first, how many) from the job's number; ours lies in it
# as well, where a site that opens ports has opened them.
PORTS, BESIDE = (15_000, 10_000), 5_000
UNKNOWN = "24GB"  # the card of the table as which one counts that is in none
ALIKE = 1.02  # the ratio of their memory up to which cards of one name are one kind


@dataclass(frozen=True)
class Device:
    """One rank's card, and its host's memory.

    Attributes:
        name: what its driver calls it, ``CPU`` where there is none.
        known: its figures are a data sheet's; else, but for its memory, those of `UNKNOWN`.
        host: bytes that this job may use of the host's memory.
    """

    name: str
    known: bool
    card: Card
    host: float


@dataclass(frozen=True)
class Machine:
    """What a planner has to know of where a run takes place.

    Attributes:
        card: on which everything is counted; of cards that differ, each figure is the least.
        nodes, per_node: machines, and processes (one a card) of each.
        host: bytes of a node's host memory, None where it is not known.
        deepspeed: whether ZeRO can run.
        notes: what was assumed, or differs between ranks, for people to read.
    """

    card: Card
    name: str
    nodes: int = 1
    per_node: int = 1
    host: float | None = None
    deepspeed: bool = True
    notes: tuple[str, ...] = ()

    @property
    def cards(self) -> int:
        return self.nodes * self.per_node

    @property
    def words(self) -> str:
        """``2 nodes x 4 x NVIDIA L40S (48 GB)``"""
        many = f"{self.per_node} x " if self.cards > 1 else ""
        nodes = f"{self.nodes} nodes x " if self.nodes > 1 else ""
        return f"{nodes}{many}{self.name} ({self.card.memory / 1e9:.0f} GB)"


def accelerator_here(asked: str) -> str:
    """``gpu`` or ``cpu``.

    Args: asked: ``trainer.accelerator``; auto: a GPU where there is one.
    Raises: InputError where it asks for a GPU and there is none.
    """
    has = torch.cuda.is_available() and torch.cuda.device_count() > 0
    if asked == "gpu" and not has:
        raise InputError("trainer.accelerator=gpu: no usable GPU here; use trainer.accelerator=cpu")
    return asked if asked != "auto" else "gpu" if has else "cpu"


def machine_here(trainer: TrainerConfig) -> Machine:
    """What this run's ranks have. Where the strategy is theirs to choose it is the same on each of
    them; else nobody waits for anybody, and each counts on what it sees itself.

    Raises: InputError where there is no such device, the first rank cannot be reached, or Slurm
        started other tasks.
    """
    accelerator = accelerator_here(trainer.accelerator)
    nodes, per_node = trainer.nodes, trainer.devices
    processes = nodes * per_node
    started = int(os.environ["SLURM_NTASKS"]) if under_slurm() else processes
    if started != processes:
        raise InputError(
            f"trainer.devices={per_node} trainer.nodes={nodes}: Slurm started {started} task(s), "
            "and each process is one of them"
        )
    if _told_by_address() and processes > 1 and trainer.strategy == "auto":
        number = os.environ.get("SLURM_LOCALID", os.environ.get("LOCAL_RANK", "0"))
        own = _device(accelerator, int(number), per_node)
        devices = _everybodys(json.dumps(asdict(own)), processes)
    else:
        devices = [_device(accelerator, number, per_node) for number in range(per_node)]
    return weakest(devices, nodes, per_node)


def weakest(devices: Sequence[Device], nodes: int, per_node: int) -> Machine:
    """The machine that no rank overestimates: the smallest memory and the slowest pace of all."""
    least = min(devices, key=lambda device: device.card.memory)
    cards = [device.card for device in devices]
    single = [card.peak_in("32-true") for card in cards]
    card = replace(
        least.card,
        peak=min(card.peak for card in cards),
        peak_fp32=min(single) if least.card.peak_fp32 is not None else None,
        bandwidth=min(card.bandwidth for card in cards),
        link=min(card.link for card in cards),
    )
    notes = [
        f"{name} is in no table of ours: taken as quick as a card of {UNKNOWN}, linked by PCIe"
        for name in sorted({device.name for device in devices if not device.known})
    ]
    largest = max(card.memory for card in cards)
    if len({device.name for device in devices}) > 1 or largest > ALIKE * least.card.memory:
        sizes = sorted({f"{d.name} ({d.card.memory / 1e9:.0f} GB)" for d in devices})
        notes.append(f"the ranks' cards differ ({', '.join(sizes)}): the smallest decides")
    return Machine(
        card=card,
        name=least.name,
        nodes=nodes,
        per_node=per_node,
        host=min(device.host for device in devices),
        deepspeed=importlib.util.find_spec("deepspeed") is not None,
        notes=tuple(notes),
    )


def host_memory() -> float:
    """Bytes of the host's memory that this job may use: what Slurm granted or the control group
    allows, else all there is."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    granted = os.environ.get("SLURM_MEM_PER_NODE", "")
    if granted.isdigit() and int(granted):  # 0: all of it
        limits.append(int(granted) * 2.0**20)
    limits += _group_limits()
    return min(limits)


def _group_limits() -> Iterator[float]:
    """Those of this process's control group and of the groups around it (version 2), or of the
    container's own (version 1)."""
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):
        own = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip().lstrip("/")
        groups = [root / own, *(root / own).parents]
        files = [group / "memory.max" for group in groups if group.is_relative_to(root)]
        for file in (*files, root / "memory" / "memory.limit_in_bytes"):
            if file.is_file() and (text := file.read_text().strip()).isdigit():
                yield float(text)


def _device(accelerator: str, number: int, per_node: int) -> Device:
    host = host_memory()
    if accelerator == "cpu":  # one process's share of it
        precision = "bf16-mixed" if cpu_has_bf16() else "32-true"
        card = replace(CARDS["cpu"], memory=host / per_node, precision=precision)
        return Device("CPU", True, card, host)
    number %= torch.cuda.device_count()  # Slurm may show each task its own GPU only
    name = torch.cuda.get_device_name(torch.device("cuda", number))
    memory = torch.cuda.get_device_properties(torch.device("cuda", number)).total_memory
    known = card_as_driven(name, memory)
    # Not measured: two ranks would find two numbers, and might choose two strategies.
    card = known or replace(CARDS[UNKNOWN], memory=memory)
    return Device(name, known is not None, card, host)


# -- ranks on several machines ---------------------------------------------------------------------


def _told_by_address() -> bool:
    """Whether all ranks are there from the start and know where the first one is."""
    return under_slurm() or "TORCHELASTIC_RUN_ID" in os.environ


@functools.cache  # ranks meet once, however many runs a process prepares
def _everybodys(own: str, ranks: int) -> list[Device]:
    """Each rank's device, in their order.

    Args: own: this rank's, as JSON.
    Raises: InputError.
    """
    host, port, hosted = _address()
    # torchrun's store outlives ranks that it starts anew.
    ours = f"lcm_scale/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    try:
        store = torch.distributed.TCPStore(
            host,
            port,
            is_master=rank() == 0 and not hosted,
            wait_for_workers=False,
            timeout=datetime.timedelta(seconds=ANSWER_SECONDS),
        )
        store.set(f"{ours}/card/{rank()}", own)
        told = [json.loads(store.get(f"{ours}/card/{other}")) for other in range(ranks)]
        store.add(f"{ours}/read", 1)
        until = time.monotonic() + ANSWER_SECONDS
        # It is gone with its first rank, so that one stays until all have read.
        while rank() == 0 and store.add(f"{ours}/read", 0) < ranks and time.monotonic() < until:
            time.sleep(0.01)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"rank {rank()} of {ranks} could not learn the others' cards at {host}:{port} "
            f"({str(error).splitlines()[0][:120]}); that address must be reached from all nodes, "
            "or set trainer.strategy"
        ) from error
    return [Device(**{**each, "card": Card(**each["card"])}) for each in told]


def _address() -> tuple[str, int, bool]:
    """Host and port of the store, and whether somebody hosts it already, as torchrun does."""
    if under_slurm():
        from lightning.fabric.plugins.environments import SLURMEnvironment

        place = SLURMEnvironment(auto_requeue=False)
        address, meeting = place.main_address, place.main_port
    else:
        address, meeting = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            return address, meeting, True
    first, many = PORTS
    # Not the port at which the process group will meet: whoever is quick would find this store
    # there.
    return address, first + (meeting - first + BESIDE) % many, False
