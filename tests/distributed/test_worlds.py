"""One process, two and four, plain, DDP and ZeRO: the same losses, the same checkpoints, in any
order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lcm_scale.training.folder import fact_of
from lcm_scale.training.run_log import epochs_of, read_log
from lcm_scale.weights import checkpoints
from lcm_scale.weights.plain import export_plain

Run = Callable[..., Path]
SWITCH = (
    6  # 33 scans of `first` are 3 steps an epoch of 12, two epochs; the rest has 5 steps an epoch
)
MIDDLE = SWITCH + 3  # in the middle of an epoch after it
STEPS = 21

SAME_TARGETS = (
    "phases=[{epochs: 2, stage: momentum, sets: [first]}, {epochs: 1, readout: adaptive, "
    "pseudo_labels: true}]"
)

# Softmax takes a key's bias away: its gradient is rounding alone, which Adam turns into steps of its
# own size. They do not touch the function.
DRIFTING = ("in_proj_bias",)

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def validation_losses(folder: Path) -> list[float]:
    return [row["val_loss"] for row in epochs_of(folder / "log.jsonl")]


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in read_log(folder / "log.jsonl") if event["event"] == "step"]


def newest(folder: Path) -> dict:
    file = checkpoints.newest(folder / "checkpoints")
    assert file is not None
    return checkpoints.read_file(file)


def assert_same_state(a: Path, b: Path, tolerance: float) -> None:
    """Weights and optimiser state, whole, by name and number."""
    one, other = newest(a), newest(b)
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for name, value in one["state_dict"].items():
        slack = 50 if name.endswith(DRIFTING) else 1
        torch.testing.assert_close(
            other["state_dict"][name], value, atol=slack * tolerance, rtol=slack * tolerance
        )
    mine, theirs = one["optimizer_states"][0], other["optimizer_states"][0]
    assert mine["state"].keys() == theirs["state"].keys()
    for number, state in mine["state"].items():
        for key, value in state.items():
            torch.testing.assert_close(
                theirs["state"][number][key], value, atol=tolerance, rtol=tolerance
            )
    assert mine["param_groups"] == theirs["param_groups"]


@pytest.mark.parametrize(
    ("devices", "strategy", "accumulate"),
    [
        (2, "ddp", 1),
        (2, "zero1", 1),
        (2, "zero2", 1),
        (2, "zero3", 1),
        (4, "ddp", 1),
        (4, "zero1", 1),
        (4, "zero2", 1),
        (4, "zero3", 1),
        (1, "zero2", 1),
        (2, "ddp", 2),
        (2, "zero3", 2),
    ],
)
def test_every_world_and_strategy_gives_the_losses_of_one_process(
    devices: int, strategy: str, accumulate: int, run_warm: Run, plain: Callable[[int], Path]
) -> None:
    """Through the switch of stage, readout, targets and scans; some batches hold no label of some
    target; clipping on."""
    whole = plain(accumulate)
    many = run_warm(
        "many",
        f"trainer.devices={devices}",
        f"trainer.strategy={strategy}",
        f"trainer.accumulate={accumulate}",
    )
    assert len(losses(whole)) == STEPS
    assert losses(many) == pytest.approx(losses(whole), rel=2e-4)
    assert validation_losses(many) == pytest.approx(validation_losses(whole), rel=1e-4)
    assert_same_state(whole, many, 2e-4)


def test_where_memory_is_small_auto_takes_zero_and_with_more_of_it_goes_on_as_ddp(
    run_warm: Run,
) -> None:
    """Both ranks choose alike; a checkpoint goes on under what the larger machine is best at."""
    large = "trainer.global_batch=24"  # activations are what does not fit
    whole = run_warm("plain", large)
    spread = (large, "trainer.devices=2")
    little = {"SLURM_MEM_PER_NODE": "5"}  # MiB that Slurm granted
    half = run_warm("many", *spread, "trainer.max_steps=6", environment=little)
    assert fact_of(half, "plan")["settings"] == [
        "trainer.strategy=zero1",
        "trainer.checkpoint_layers=true",
    ]
    many = run_warm("many", *spread)
    assert fact_of(many, "plan")["settings"] == ["trainer.strategy=ddp"]
    assert len(losses(many)) == len(losses(whole)) > 6
    assert losses(many) == pytest.approx(losses(whole), rel=2e-4)
    assert_same_state(whole, many, 2e-4)


def test_ddp_that_looks_for_no_unused_weights_has_the_gradients_of_one_process(
    run_warm: Run,
) -> None:
    """All phases train the same targets. The optimiser's averages, which are equal, are sums of
    gradients. Without dropout, the first layer's self-attention has a weight that gets none."""
    whole = run_warm("plain", SAME_TARGETS)
    many = run_warm("many", SAME_TARGETS, "trainer.devices=2", "trainer.strategy=ddp")
    assert len(losses(whole)) > 8
    assert losses(many) == pytest.approx(losses(whole), rel=2e-4)
    assert_same_state(whole, many, 2e-4)


@pytest.mark.parametrize("strategy", ["zero1", "zero3"])
def test_zero_computes_in_bf16_on_fp32_weights_as_one_process_does(
    strategy: str, run_warm: Run
) -> None:
    """What every run on a GPU does: precision is bf16-mixed there."""
    short = ("trainer.precision=bf16-mixed", f"trainer.max_steps={MIDDLE}")
    whole = run_warm("plain", *short)
    many = run_warm("many", *short, "trainer.devices=2", f"trainer.strategy={strategy}")
    assert losses(many) == pytest.approx(losses(whole), rel=1e-2)
    assert losses(many) != pytest.approx(
        losses(run_warm("fp32", f"trainer.max_steps={MIDDLE}")), rel=1e-5
    )
    weights = newest(many)["state_dict"]
    assert all(
        value.dtype == torch.float32 for value in weights.values() if value.is_floating_point()
    )
    assert any(
        (value != value.bfloat16()).any() for value in weights.values() if value.is_floating_point()
    )


@pytest.fixture(scope="module")
def _plain_runs() -> dict[int, Path]:
    return {}


@pytest.fixture
def plain(run_warm: Run, _plain_runs: dict[int, Path]) -> Callable[[int], Path]:
    """The run of one process, made once."""

    def make(accumulate: int) -> Path:
        if accumulate not in _plain_runs:
            _plain_runs[accumulate] = run_warm("plain", f"trainer.accumulate={accumulate}")
        return _plain_runs[accumulate]

    return make


@pytest.mark.parametrize(
    ("before", "after", "stop"),
    [
        ((1, "auto"), (2, "zero3"), SWITCH),
        ((1, "auto"), (2, "ddp"), MIDDLE),
        ((2, "zero3"), (1, "auto"), SWITCH),
        ((2, "zero3"), (1, "auto"), MIDDLE),
        ((4, "zero3"), (2, "zero3"), SWITCH),
        ((2, "zero3"), (4, "zero3"), MIDDLE),
        ((2, "zero2"), (1, "zero1"), MIDDLE),
    ],
)
def test_a_run_goes_on_at_another_world_size(
    before: tuple[int, str],
    after: tuple[int, str],
    stop: int,
    run_warm: Run,
    plain: Callable[[int], Path],
) -> None:
    """Stopped exactly at the switch of stage, and in the middle of an epoch after it."""
    run_warm(
        "parts",
        f"trainer.devices={before[0]}",
        f"trainer.strategy={before[1]}",
        f"trainer.max_steps={stop}",
    )
    parts = run_warm("parts", f"trainer.devices={after[0]}", f"trainer.strategy={after[1]}")
    whole = plain(1)
    assert losses(parts) == pytest.approx(losses(whole), rel=2e-4)
    assert_same_state(whole, parts, 2e-4)


@pytest.mark.parametrize("strategy", ["ddp", "zero3"])
def test_at_the_same_world_size_a_resume_is_bit_for_bit_with_dropout_on(
    strategy: str, run_warm: Run
) -> None:
    spread = ("trainer.devices=2", f"trainer.strategy={strategy}", "model.dropout=0.1")
    whole = run_warm("whole", *spread)
    run_warm("parts", *spread, f"trainer.max_steps={SWITCH + 2}")
    run_warm("parts", *spread, f"trainer.max_steps={SWITCH + 6}")
    parts = run_warm("parts", *spread)
    assert losses(parts) == losses(whole)
    assert_same_state(whole, parts, 0.0)


def test_a_second_checkpoint_holds_the_live_weights_not_those_that_were_loaded(
    run_warm: Run, plain: Callable[[int], Path]
) -> None:
    """Resume under ZeRO-3, take steps, save: what is saved is what one process has then."""
    spread = (
        "trainer.devices=2",
        "trainer.strategy=zero3",
        "trainer.checkpoint_steps=1",
        "trainer.keep_checkpoints=50",
    )
    run_warm("parts", *spread, "trainer.max_steps=4")
    parts = run_warm("parts", *spread)
    whole = run_warm("again", "trainer.checkpoint_steps=1", "trainer.keep_checkpoints=50")
    for step in (5, SWITCH + 1, STEPS - 1):
        mine, theirs = (
            checkpoints.read_file(f / "checkpoints" / f"step-{step:08d}.ckpt")["state_dict"]
            for f in (whole, parts)
        )
        for name, value in mine.items():
            slack = 50 if name.endswith(DRIFTING) else 1
            torch.testing.assert_close(theirs[name], value, atol=slack * 2e-4, rtol=slack * 2e-4)


def test_weights_exported_from_two_zero3_ranks_are_those_of_one_process(
    run_warm: Run, plain: Callable[[int], Path], tmp_path: Path
) -> None:
    many = run_warm("many", "trainer.devices=2", "trainer.strategy=zero3")
    mine, theirs = (
        load_file(export_plain(f, tmp_path / f"{f.name}.safetensors")) for f in (plain(1), many)
    )
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert theirs[name].dtype == value.dtype
        slack = 50 if name.endswith(DRIFTING) else 1
        torch.testing.assert_close(theirs[name], value, atol=slack * 2e-4, rtol=slack * 2e-4)


def test_offload_to_the_host_changes_nothing(run_warm: Run, plain: Callable[[int], Path]) -> None:
    many = run_warm("many", "trainer.devices=2", "trainer.strategy=zero2", "trainer.offload=true")
    assert losses(many) == pytest.approx(losses(plain(1)), rel=2e-4)


@pytest.mark.parametrize(
    ("trainable", "before", "after"),
    [
        ("tokens", (2, "zero2"), (2, "zero3")),
        ("lora", (2, "zero1"), (2, "zero3")),
        ("lora", (2, "zero3"), (1, "zero2")),
    ],
)
def test_weights_that_stand_still_are_saved_whole_and_untouched(
    trainable: str,
    before: tuple[int, str],
    after: tuple[int, str],
    run_warm: Run,
    adapted_runs: dict[str, Path],
) -> None:
    """Adapters, tokens and heads alone train, by a run that goes on at another world or stage."""

    def run(name: str, of: str, *overrides: str) -> Path:
        return run_warm(
            name, f"init_from={adapted_runs['start']}", f"optim.trainable={of}", *overrides
        )

    if not adapted_runs:
        adapted_runs["start"] = run_warm("start", "trainer.max_steps=2")
    if trainable not in adapted_runs:
        adapted_runs[trainable] = run("plain", trainable)
    for (devices, strategy), *until in ((before, f"trainer.max_steps={MIDDLE}"), (after,)):
        spread = (f"trainer.devices={devices}", f"trainer.strategy={strategy}")
        parts = run("parts", trainable, *spread, *until)
    assert len(losses(parts)) == STEPS
    assert losses(parts) == pytest.approx(losses(adapted_runs[trainable]), rel=2e-4)
    assert_same_state(adapted_runs[trainable], parts, 2e-4)
    start, made = checkpoints.load(adapted_runs["start"]), newest(parts)["state_dict"]
    for name in ("layers.1.cross_attention.in_proj_weight", "layers.1.linear1.weight"):
        assert torch.equal(made[f"model.{name}"], start.state[name])
        merged = checkpoints.load(parts).state[name]
        assert torch.equal(merged, start.state[name]) == (trainable == "tokens")


@pytest.fixture(scope="module")
def adapted_runs() -> dict[str, Path]:
    """What they all start from, and runs of one process, each made once."""
    return {}
