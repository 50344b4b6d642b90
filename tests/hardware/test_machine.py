"""Every rank sees the same machine: the smallest card decides, and ranks tell each other without a
process group."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from lcm_scale.config import TrainerConfig
from lcm_scale.errors import InputError
from lcm_scale.hardware import machine
from lcm_scale.hardware.cards import CARDS, PCIE
from lcm_scale.hardware.machine import Device, Machine, host_memory, machine_here, weakest

A100 = Device("NVIDIA A100-SXM4-80GB", True, replace(CARDS["A100"], memory=85e9), 64e9)
SMALL = Device("NVIDIA A100-SXM4-40GB", True, replace(CARDS["A100-40GB"], memory=42e9), 32e9)


def here(accelerator: str, nodes: int, per_node: int, strategy: str = "auto") -> Machine:
    return machine_here(TrainerConfig(accelerator, per_node, nodes, strategy))


def test_of_cards_that_differ_the_smallest_and_the_slowest_decide() -> None:
    found = weakest([A100, SMALL, A100, A100], 2, 2)
    assert (found.card.memory, found.host, found.cards) == (42e9, 32e9, 4)
    assert found.card.bandwidth == CARDS["A100-40GB"].bandwidth
    assert found.words == "2 nodes x 2 x NVIDIA A100-SXM4-40GB (42 GB)"
    assert "the smallest decides" in found.notes[0] and "(85 GB)" in found.notes[0]
    plugged = replace(A100, card=replace(A100.card, link=PCIE))
    assert weakest([A100, plugged], 1, 2).card.link == PCIE
    assert weakest([A100, A100], 1, 2).notes == ()


def pretend(monkeypatch: pytest.MonkeyPatch, name: str, memory: list[float]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(memory))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(total_memory=memory[device.index]),
    )


def test_an_unknown_card_counts_as_a_common_one_with_its_memory_and_is_said_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, "Tesla V100", [16e9])
    found = here("gpu", 1, 1)
    assert found.card == replace(CARDS["24GB"], memory=16e9)
    (note,) = found.notes
    assert note.startswith("Tesla V100 is in no table of ours") and "linked by PCIe" in note


def test_one_machine_sees_all_of_its_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "NVIDIA GeForce RTX 4090", [25.2e9, 25.2e9, 12.6e9])
    assert here("gpu", 1, 2).card.memory == 25.2e9
    found = here("gpu", 1, 3)
    assert found.card.memory == 12.6e9 and "differ" in found.notes[0]


def test_processes_of_a_cpu_share_what_the_job_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = host_memory()
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # all of it
    assert host_memory() == everything
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    assert host_memory() == 100 * 2**20
    found = here("cpu", 1, 4)
    assert (found.name, found.card.memory) == ("CPU", 25 * 2**20)


def _tell(rank: int, world: int, port: int, told: object) -> None:
    os.environ |= {
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NTASKS": str(world),
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_JOB_ID": "7",
        "SLURM_NODELIST": "localhost",
        "MASTER_PORT": str(port),
    }
    machine.host_memory = lambda: (rank + 1) * 8e9  # type: ignore[attr-defined]
    first, again = here("cpu", world, 1), here("cpu", world, 1)
    assert again == first
    told.put(first)  # type: ignore[attr-defined]


def test_ranks_on_several_nodes_tell_each_other_what_they_have() -> None:
    """By the address that Slurm gives, before any process group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        ours = probe.getsockname()[1]
    first, many = machine.PORTS
    # The port beside which `ours` lies.
    port = next(p for p in range(first, first + many) if beside(p) == beside(ours - machine.BESIDE))
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    ranks = [context.Process(target=_tell, args=(rank, 3, port, told)) for rank in range(3)]
    for process in ranks:
        process.start()
    found = [told.get(timeout=60) for _ in ranks]
    for process in ranks:
        process.join()
        assert process.exitcode == 0
    assert found[0] == found[1] == found[2]
    assert found[0].card.memory == 8e9 and found[0].nodes == 3
    assert "the smallest decides" in found[0].notes[0]


def beside(port: int) -> int:
    first, many = machine.PORTS
    return first + (port - first + machine.BESIDE) % many


def test_a_first_rank_that_does_not_come_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(machine, "_address", lambda: ("127.0.0.1", 1, True))
    own = json.dumps(asdict(A100))
    with pytest.raises(InputError, match=r"could not learn the others' cards at 127\.0\.0\.1:1"):
        machine._everybodys(own, 2)


def test_processes_that_slurm_did_not_start_are_no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with pytest.raises(InputError, match=r"Slurm started 2 task\(s\)"):
        here("cpu", 1, 4)


def test_nobody_waits_for_the_others_where_the_recipe_names_the_strategy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_told_by_address", lambda: True)
    monkeypatch.setattr(machine, "_everybodys", lambda own, ranks: pytest.fail("it asked"))
    assert here("cpu", 2, 1, "zero2").cards == 2
