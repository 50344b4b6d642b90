"""Finetuning by low-rank adapters: what trains, what stays as it was, and what a checkpoint gives
to those who know nothing of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lcm_scale import load_model
from lcm_scale.config import LoRAConfig, Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation.scratch import without_pretraining
from lcm_scale.training import fit as run
from lcm_scale.training.fit import batches_of, start_module
from lcm_scale.training.folder import run_folder
from lcm_scale.training.prepare import prepare_finetuning
from lcm_scale.training.run_log import read_log
from lcm_scale.weights import checkpoints
from lcm_scale.weights.hub import export_hub
from lcm_scale.weights.plain import export_plain

Make = Callable[..., Recipe]
LORA = ("optim.trainable=lora", "optim.lora.rank=3", "optim.adaptive.lr=1e-2")
PHASES = "phases=[{name: tune, epochs: 2, stage: adaptive}]"


@pytest.fixture
def pretrained(recipe: Make) -> Path:
    return run.pretrain(recipe("name=pre", "data.targets=[eye_status, sex, age]"))


def tune(recipe: Make, start: Path, *overrides: str) -> Recipe:
    return recipe("name=tune", "data=second", f"init_from={start}", PHASES, *LORA, *overrides)


def newest(folder: Path) -> dict:
    file = checkpoints.newest(folder / "checkpoints")
    assert file is not None
    return checkpoints.read_file(file)


def losses(folder: Path) -> list[float]:
    return [e["loss"] for e in read_log(folder / "log.jsonl") if e["event"] == "step"]


def test_only_adapters_tokens_and_heads_move_and_the_base_stays_bit_for_bit(
    recipe: Make, pretrained: Path
) -> None:
    start = checkpoints.load(pretrained)
    made = newest(run.finetune(tune(recipe, pretrained)))
    state = {k.removeprefix("model."): v for k, v in made["state_dict"].items()}
    stands = [
        name
        for name in start.state
        if name.startswith(("layers.", "embedding."))
        and not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    assert len(stands) > 20
    for name in stands:
        assert torch.equal(state[name], start.state[name]), name
    adapters = [name for name in state if name.endswith(("lora_a", "lora_b"))]
    assert len(adapters) == 2 * 2 * 6
    moved = [name for name in adapters if name.endswith("lora_b") and state[name].any()]
    assert len(moved) == 2 * 6
    assert not torch.equal(state["norm.weight"], start.state["norm.weight"])
    kept = made["optimizer_states"][0]["state"].values()
    trained = sum(value.numel() for name, value in state.items() if name in adapters)
    trained += sum(v.numel() for n, v in state.items() if n.startswith(("tokens.", "norm.")))
    assert sum(value["exp_avg"].numel() for value in kept) == trained + 16 + 1


def test_before_the_first_step_the_loss_is_that_of_the_base(recipe: Make, pretrained: Path) -> None:
    made = tune(recipe, pretrained)
    bare = replace(made.optim, trainable="tokens", lora=LoRAConfig())
    folders = [
        run.finetune(replace(made, name=optim.trainable, optim=optim))
        for optim in (made.optim, bare)
    ]
    lora, tokens = (losses(folder) for folder in folders)
    assert lora[0] == pytest.approx(tokens[0], rel=1e-6)
    assert lora[-1] != pytest.approx(tokens[-1], rel=1e-3)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(recipe: Make, pretrained: Path) -> None:
    whole = run.finetune(tune(recipe, pretrained, "name=whole"))
    run.finetune(tune(recipe, pretrained, "name=parts", "trainer.max_steps=2"))
    parts = run.finetune(tune(recipe, pretrained, "name=parts"))
    assert losses(parts) == losses(whole)
    one, other = newest(whole)["state_dict"], newest(parts)["state_dict"]
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_who_loads_it_gets_merged_weights_and_the_answers_of_the_adapted_model(
    recipe: Make, pretrained: Path, tmp_path: Path
) -> None:
    made = tune(recipe, pretrained)
    folder = run.finetune(made)
    file = checkpoints.newest(folder / "checkpoints")
    assert file is not None
    loaded = checkpoints.load(file)
    assert not any("lora" in name for name in loaded.state)
    prepared = prepare_finetuning(tune(recipe, pretrained, "name=other"))
    adapted = start_module(prepared, batches_of(prepared))
    adapted.load_state_dict(checkpoints.read_file(file)["state_dict"])
    fc = torch.rand(5, 12, 12)
    with torch.no_grad():
        expected = adapted.model.eval()(fc)
        plain = export_plain(file, tmp_path / "plain.safetensors")
        module = start_module(
            prepare_finetuning(replace(made, name="x", optim=Recipe().optim)), batches_of(prepared)
        )
        module.model.load_state_dict(load_file(plain))
        torch.testing.assert_close(module.model.eval()(fc), expected, atol=1e-5, rtol=1e-5)
    export_hub(folder, tmp_path / "hub")
    assert not any("lora" in name for name in load_file(tmp_path / "hub" / "model.safetensors"))
    answers = load_model(tmp_path / "hub").predict(torch.eye(12).expand(3, 12, 12).clone())
    assert answers["outcome"].shape == (3, 3)


def test_it_may_be_finetuned_further_and_remembers_whom_it_saw(
    recipe: Make, pretrained: Path
) -> None:
    folder = run.finetune(tune(recipe, pretrained))
    made = checkpoints.load(folder)
    assert made.subjects > checkpoints.load(pretrained).subjects
    further = tune(recipe, folder, "name=further", "data=first", "data.targets=[sex, age]")
    again = newest(run.finetune(further))["state_dict"]
    name = "layers.1.linear1.weight"
    assert torch.equal(again[f"model.{name}"], made.state[name]), "the merged one stands still now"


def test_people_memory_stands_beside_adapters_and_is_loaded_beside_merged_weights(
    recipe: Make, pretrained: Path
) -> None:
    folder = run.finetune(tune(recipe, pretrained, "model.people_memory=linear"))
    final = folder / "checkpoints" / checkpoints.FINAL
    apart, loaded = checkpoints.load(final, apart=True).state, checkpoints.load(final).state
    best = checkpoints.load(folder / "checkpoints" / checkpoints.BEST)
    assert sum(name.endswith("lora_a") for name in apart) == 12
    assert not any("lora" in name for name in loaded)
    assert all(torch.equal(loaded[name], value) for name, value in best.state.items())
    assert any(name.startswith("people.") for name in loaded)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("init_from=null", "init_from is empty"),
        ("optim.trainable=tokens", r"optim\.lora: optim\.trainable=tokens trains no adapters"),
        ("optim.lora.targets=[]", r"optim\.lora\.targets is empty"),
        ("optim.lora.rank=16", r"optim\.lora\.rank=16: not below 16"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_folder_is_made(
    change: str, expected: str, recipe: Make, pretrained: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=expected):
        prepare_finetuning(tune(recipe, pretrained, change))
    assert not (tmp_path / "runs" / "tune").exists()


def test_a_run_from_nothing_has_nothing_to_put_adapters_on(recipe: Make) -> None:
    with pytest.raises(InputError, match=r"optim\.trainable=lora: adapters stand on weights"):
        run.pretrain(recipe("optim.trainable=lora"))
    assert not run_folder(recipe()).exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("optim.lora.rank=0", "optim.lora.rank=0: expected a whole number from 1 on"),
        ("optim.lora.alpha=0", "optim.lora.alpha=0"),
        ("optim.lora.targets=[ffm]", "did you mean 'ffn'"),
        ("optim.trainable=lorra", "did you mean 'lora'"),
    ],
)
def test_a_bad_value_is_one_line_and_exit_code_2(
    words: str, said: str, lcm: Callable, tmp_path: Path
) -> None:
    (tmp_path / "r.yaml").write_text("name: r\n")
    code, _, err = lcm(f"finetune {tmp_path}/r.yaml {words} --dry-run")
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_the_model_from_scratch_beside_it_trains_in_full(recipe: Make, pretrained: Path) -> None:
    optim = without_pretraining(tune(recipe, pretrained)).optim
    assert (optim.trainable, optim.lora) == ("all", LoRAConfig())
    assert optim.adaptive.lr == pytest.approx(1e-2)
    assert np.isfinite(optim.adaptive.lr)
