"""`benchmarks/bound.py`: the bound is what the products and Adam's bytes take at the best measured
rates."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lcm_scale.model.presets import LCMConfig

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bound.py"


@pytest.fixture(scope="module")
def physical() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bound", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["bound"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bound_adds_products_and_bytes_at_the_best_rates(physical: ModuleType) -> None:
    before = physical.Machine({"A, square": 4e9, "B, square": 2e9}, copy=1e9)
    machine = before.best_of(physical.Machine({"A, square": 3e9, "B, square": 5e9}, copy=2e9))
    # 10 GFLOP at B's 5 GFLOP/s; 28 bytes of 1e9 parameters at Adam's 28 GB in 7 s, which is quicker.
    found = physical.bound(machine, int(1e10), int(1e9), adam_s=7.0, step_s=12.0)
    assert (found["seconds"], found["share"]) == (9.0, 0.75)
    assert (found["gflops_by"], found["gb_per_s_by"]) == ("B, square", "Adam")
    found = physical.bound(machine, int(1e10), int(1e9), adam_s=28.0, step_s=32.0)
    assert (found["seconds"], found["gb_per_s_by"]) == (16.0, "copy")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_library_is_measured_on_every_shape(
    physical: ModuleType, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(physical, "SQUARES", (8,))
    monkeypatch.setattr(physical, "COPIED", 1 << 10)
    config = LCMConfig(n_regions=6, target_tokens=(3,), width=16, ffn=8, heads=2)
    seconds = itertools.count()  # every run takes one second
    machine = physical.measure(config, 4, 3, precision, "cpu", lambda: float(next(seconds)))
    assert machine.copy == 2 * 4 * (1 << 10)
    shapes = {"8 x 8 x 8": 1024, "12 x 16 x 16": 6144, "6 x 6 x 16": 1152}
    for shape, flops in shapes.items():
        rates = [rate for name, rate in machine.products.items() if name.endswith(f", {shape}")]
        assert rates
        assert set(rates) == {float(flops)}
