"""One table of cards: found by what a recipe calls them and by what their drivers do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from lcm_scale.hardware import cards
from lcm_scale.hardware.cards import CARDS, PCIE, card_here, card_named, peak_flops

SOURCE = Path(cards.__file__).parents[1]


@pytest.mark.parametrize(
    ("driver_name", "card"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "24GB"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA GeForce RTX 4070", "12GB"),
    ],
)
def test_a_card_is_known_by_its_drivers_name(driver_name: str, card: str) -> None:
    assert card_named(driver_name) == CARDS[card]


@pytest.mark.parametrize(
    "driver_name",
    [
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA L40",
        "Tesla V100",
    ],
)
def test_another_card_of_a_similar_name_is_not_taken_for_it(driver_name: str) -> None:
    assert card_named(driver_name) is None


def test_peaks_stand_in_one_table() -> None:
    """A peak is some tens or hundreds of 10^12; the meter once had its own."""
    holders = [p for p in SOURCE.rglob("*.py") if re.search(r"\b\d{2,3}e12\b", p.read_text())]
    assert [p.relative_to(SOURCE).as_posix() for p in holders] == ["hardware/cards.py"]


def test_a_known_gpu_is_taken_from_the_table_with_the_memory_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Properties:
        total_memory = 42e9

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-PCIE-40GB")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    gpu = torch.device("cuda", 0)
    assert peak_flops(gpu, torch.bfloat16) == CARDS["A100"].peak
    assert card_here(gpu).peak == CARDS["A100"].peak and card_here(gpu).memory == 42e9
    # Plugged in, it has no NVLink to all cards of its node.
    assert card_here(gpu).link == PCIE < CARDS["A100-40GB"].link
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-40GB")
    assert card_here(gpu).link == CARDS["A100-40GB"].link


def test_an_unknown_gpu_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        total_memory = 16e9

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch, "ones", lambda *shape, **how: None)
    monkeypatch.setattr(cards, "_seconds", lambda work, device: 0.01)
    card = card_here(torch.device("cuda", 0))
    assert (card.peak, card.memory) == (2 * 8192**3 / 0.01, 16e9)


def test_measuring_the_peak_draws_no_random_number() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert peak_flops(torch.device("cpu"), torch.float32) > 1e9
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_the_probe_finds_a_pace_between_a_slow_core_and_a_whole_cluster() -> None:
    card = cards.probe()
    assert (
        card.measured
        and 1e9 < card.peak < 1e16
        and 1e8 < card.bandwidth < 1e14
        and card.memory > 1e9
    )
