"""Runs that differ in epochs alone start from each other's stable part and end as if they had
not."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lcm_scale.config import OptimConfig
from lcm_scale.sweep.measure import run_point
from lcm_scale.sweep.plan import Plan
from lcm_scale.training.run_log import read_log
from lcm_scale.training.schedule import decay_epoch, lr_factor
from lcm_scale.weights import checkpoints

Make = Callable[..., Plan]
SWEEP = """
name: lengths
runs_dir: {folder}/runs
recipe: run
overrides: [optim.schedule=wsd, optim.decay_share=0.25, optim.warmup_steps=2, model.dropout=0.2]
axes: {{size: [8x1], subjects: [16], epochs: [4, 8]}}
baselines: []
keep_checkpoints: true
"""


def test_the_rate_is_constant_until_its_decay_and_falls_to_the_last_factor() -> None:
    config = OptimConfig(schedule="wsd", warmup_steps=4, final_lr=0.1, decay_share=0.25)
    factors = [lr_factor(config, step, 40, 30) for step in range(41)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4:31] == [1.0] * 27
    assert all(a > b for a, b in pairwise(factors[30:]))
    assert factors[40] == pytest.approx(0.1)
    assert [decay_epoch(config, epochs) for epochs in (4, 8, 10)] == [3, 6, 7]


def test_a_longer_run_starts_from_a_shorter_ones_and_is_the_same_to_the_last_bit(
    make_sweep: Make, tmp_path: Path
) -> None:
    made = make_sweep(text=SWEEP)
    short, long = (p.point for p in made.points)
    for point in (short, long):
        run_point(made.sweep, point)
    folder = made.sweep.folder_of(long)
    resumed = [e for e in read_log(folder / "log.jsonl") if e["event"] == "resumed"]
    assert [(e["epoch"], e["step"]) for e in resumed] == [(3, 6)]

    alone = make_sweep("axes.epochs=[8]", "name=alone", text=SWEEP)
    run_point(alone.sweep, alone.points[0].point)
    other = alone.sweep.folder_of(alone.points[0].point)
    mine, theirs = (checkpoints.load(f) for f in (folder, other))
    assert all(torch.equal(mine.state[name], theirs.state[name]) for name in mine.state)
    a, b = (json.loads((f / "point.json").read_text()) for f in (folder, other))
    assert (a["loss"], a["last_loss"], a["flops"]) == (b["loss"], b["last_loss"], b["flops"])


def test_a_plan_counts_the_shared_part_once(make_sweep: Make) -> None:
    short, long = make_sweep("budget.step_ms=1000", text=SWEEP).points
    assert (short.spared_hours, long.spared_hours) == (
        0,
        pytest.approx(6 / 3600),
    )  # 3 epochs of 2 steps
    assert long.hours == pytest.approx((16 - 6 + 20) / 3600)
    apart = make_sweep("budget.step_ms=1000", "set=[optim.schedule=cosine]", text=SWEEP).points
    assert [p.spared_hours for p in apart] == [0, 0]


def test_other_people_or_seeds_share_nothing_and_a_damaged_trunk_is_passed_over(
    make_sweep: Make,
) -> None:
    made = make_sweep("axes.seed=[0, 1]", text=SWEEP)
    by_name = {p.point.name: p.point for p in made.points}
    short = next(p for n, p in by_name.items() if "e4" in n and n.endswith("s0"))
    other = next(p for n, p in by_name.items() if "e8" in n and n.endswith("s1"))
    long = next(p for n, p in by_name.items() if "e8" in n and n.endswith("s0"))
    run_point(made.sweep, short)
    stable = next((made.sweep.folder_of(short) / "stable" / "checkpoints").glob("step-*.ckpt"))
    run_point(made.sweep, other)
    assert not [
        e for e in read_log(made.sweep.folder_of(other) / "log.jsonl") if e["event"] == "resumed"
    ]
    stable.write_bytes(stable.read_bytes()[:-100])
    run_point(made.sweep, long)
    assert (made.sweep.folder_of(long) / "point.json").is_file()
    assert not [
        e for e in read_log(made.sweep.folder_of(long) / "log.jsonl") if e["event"] == "resumed"
    ]
