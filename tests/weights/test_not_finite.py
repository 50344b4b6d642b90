"""Weights that are not finite are refused wherever they would come in or go out, by file and
tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.inference.pretrained import load_model
from lcm_scale.training import fit as run
from lcm_scale.training.prepare import prepare_finetuning
from lcm_scale.weights import checkpoints
from lcm_scale.weights.hub import SUMS, WEIGHTS, export_hub, import_hub
from lcm_scale.weights.official import export_official
from lcm_scale.weights.plain import export_plain

Make = Callable[..., Recipe]
NAME = "readout.weight"


def change(checkpoint: Path, value: float, name: str = NAME) -> None:
    """Put one number into a weight."""
    data = checkpoints.read_file(checkpoint)
    weights = {key: tensor.clone() for key, tensor in data["state_dict"].items()}
    weights[f"model.{name}"].view(-1)[0] = value
    checkpoint.unlink()  # the old one is mapped
    checkpoints.write_file({**data, "state_dict": weights}, checkpoint)


@pytest.fixture
def trained(recipe: Make) -> Path:
    return run.pretrain(recipe("name=pre", "phases=[{epochs: 1}]", "data.targets=[sex, age]"))


@pytest.mark.parametrize("name", [NAME, "embedding.norm.running_mean"])
def test_a_checkpoint_is_no_start_no_model_and_no_export(
    name: str, trained: Path, recipe: Make, tmp_path: Path
) -> None:
    file = checkpoints.find(trained)
    change(file, float("nan"), name)
    other = ["name=other", "data=second"]
    ways: list[Callable[[], object]] = [
        lambda: prepare_finetuning(recipe(*other, f"init_from={trained}")),
        lambda: prepare_evaluation(recipe(*other, f"init_from={trained}")),
        lambda: prepare_evaluation(recipe(*other, f"evaluate.checkpoint={trained}")),
        lambda: export_hub(trained, tmp_path / "out"),
        lambda: export_plain(trained, tmp_path / "out.safetensors"),
        lambda: export_official(trained, tmp_path / "out"),
    ]
    for way in ways:
        with pytest.raises(InputError) as caught:
            way()
        assert str(caught.value).startswith(f"{file}: {name} holds numbers that are not finite")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs" / "other").exists()
    assert not list(tmp_path.glob("out*"))


def test_a_folder_is_no_model_and_no_start(trained: Path, tmp_path: Path) -> None:
    folder = export_hub(trained, tmp_path / "out")
    weights = load_file(folder / WEIGHTS)
    weights[NAME].view(-1)[0] = float("inf")
    save_file(weights, folder / WEIGHTS)
    (folder / SUMS).unlink()  # as of somebody who wrote the folder with other tools
    for way in (load_model, lambda path: import_hub(path, tmp_path / "runs" / "mine")):
        with pytest.raises(InputError) as caught:
            way(folder)
        assert f"{WEIGHTS}: {NAME} holds numbers that are not finite" in str(caught.value)
    assert not (tmp_path / "runs" / "mine").exists()


def test_a_weight_that_is_too_large_for_fp16_is_not_written_as_infinity(
    trained: Path, tmp_path: Path
) -> None:
    change(checkpoints.find(trained), 1e6)
    with pytest.raises(InputError, match=rf"{NAME} holds .*float16.*; use --dtype fp32"):
        export_hub(trained, tmp_path / "out", "fp16")
    assert not (tmp_path / "out").exists()
    export_hub(trained, tmp_path / "out", "bf16")


def test_a_run_that_saved_after_it_diverged_goes_on_from_before(
    recipe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """As release 0.1.0 did."""
    whole = run.pretrain(recipe("name=whole"))
    folder = run.pretrain(recipe("name=parts", "trainer.max_steps=12"))
    change(folder / "checkpoints" / "step-00000012.ckpt", float("nan"))
    found = checkpoints.newest(folder / "checkpoints")
    assert found is not None and found.name == "step-00000010.ckpt"
    assert "step-00000012.ckpt: model.readout.weight holds" in capsys.readouterr().err
    same = [checkpoints.load(run.pretrain(recipe(f"name={name}"))) for name in ("whole", "parts")]
    assert whole.name == "whole"
    assert all(value.equal(same[1].state[name]) for name, value in same[0].state.items())
