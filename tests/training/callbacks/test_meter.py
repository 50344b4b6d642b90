"""What a run says about its own speed, in a real run on simulated scans."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.training import fit as run
from lcm_scale.training.callbacks.meter import Meter


def test_every_epoch_of_a_run_has_its_speed_in_metrics_csv(recipe: Callable[..., Recipe]) -> None:
    folder = run.pretrain(recipe())
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert len(rows) == 4
    for row in rows:
        assert float(row["scans_per_s"]) > 0 and float(row["tflops"]) > 0
        assert 0 < float(row["mfu"]) < 1
        assert 0 <= float(row["data_wait"]) < 1
        assert float(row["memory_gb"]) > 0.05
        assert "energy_kj" not in row or torch.cuda.is_available()


def test_the_meter_costs_less_than_a_hundredth_of_a_147m_step() -> None:
    """A step of 147m takes 100 ms or more on any CPU; 1 % of that is 1 ms."""
    meter = Meter(SimpleNamespace(consumed=0))  # type: ignore[arg-type]
    start = time.perf_counter()
    for step in range(1000):
        meter.on_train_batch_start(None, None, None, step)  # type: ignore[arg-type]
        meter.on_train_batch_end(None, None, None, None, step)  # type: ignore[arg-type]
    assert (time.perf_counter() - start) / 1000 < 1e-4


def test_waiting_for_data_is_seen() -> None:
    meter = Meter(SimpleNamespace(consumed=0))  # type: ignore[arg-type]
    time.sleep(0.05)
    meter.on_train_batch_start(None, None, None, 0)  # type: ignore[arg-type]
    assert meter.waited == pytest.approx(0.05, abs=0.03)
