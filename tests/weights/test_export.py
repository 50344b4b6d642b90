"""Weights as safetensors; the published model's, there and back. The official files are made here,
by the plain model of benchmarks/."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import LCMConfig
from lcm_scale.training import fit as run
from lcm_scale.weights import checkpoints
from lcm_scale.weights.official import export_official, import_official
from lcm_scale.weights.plain import export_plain

GROUPS = "diagnosis: [N/A, CN, Autism]\nstate: [N/A, REST]\n"
SIZES = {"regions": 116, "width": 32}


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "official_model.py"
    spec = importlib.util.spec_from_file_location("official_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["official_model"] = module
    spec.loader.exec_module(module)
    return module


def files(
    plain: ModuleType, folder: Path, tokens: int, finetuned: int = 0
) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A trained-looking official pair, saved as state dicts."""
    torch.manual_seed(0)
    backbone = plain.Backbone(116, 32)
    head = plain.Head(tokens, layers=3, width=32, heads=4, ffn=24, finetuned=finetuned)
    for _ in range(3):
        backbone(torch.randn(4, 116, 116))
    with torch.no_grad():
        for parameter in [*backbone.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.05)  # no zero biases, no equal layers
    torch.save(backbone.state_dict(), folder / "b.pth")
    torch.save(head.state_dict(), folder / "h.pth")
    return backbone.eval(), head.eval()


def imported(folder: Path, groups: str = GROUPS) -> Path:
    (folder / "groups.yaml").write_text(groups)
    return import_official(
        folder / "b.pth",
        folder / "h.pth",
        folder / "groups.yaml",
        "aal116",
        folder / "run",
        heads=4,
    )


@pytest.mark.parametrize("finetuned", [0, 2])
def test_a_round_trip_is_bit_for_bit_unused_weights_and_key_order_included(
    plain: ModuleType, tmp_path: Path, finetuned: int
) -> None:
    files(plain, tmp_path, 8 - finetuned, finetuned)
    paths = export_official(imported(tmp_path), tmp_path / "out")
    for before, after in zip((tmp_path / "b.pth", tmp_path / "h.pth"), paths, strict=True):
        old, new = torch.load(before, weights_only=True), torch.load(after, weights_only=True)
        assert list(old) == list(new)
        for key in old:
            assert old[key].dtype == new[key].dtype and torch.equal(old[key], new[key]), key


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("finetuned", [0, 2])
@pytest.mark.parametrize("attention", ["projected", "flash", "absorbed"])
def test_our_model_gives_the_published_models_outputs(
    plain: ModuleType,
    tmp_path: Path,
    dtype: torch.dtype,
    tolerance: float,
    finetuned: int,
    attention: str,
) -> None:
    backbone, head = files(plain, tmp_path, 8 - finetuned, finetuned)
    loaded = checkpoints.load(imported(tmp_path))
    model = LCM(loaded.model)
    model.load_state_dict(loaded.state)
    model.to(dtype).eval()
    for layer in model.layers:
        layer.cross_attention.formulation = attention
    fc = torch.randn(3, 116, 116).to(dtype)
    theirs = head.to(dtype)(backbone.to(dtype)(fc))
    assert theirs.shape == (3, 3, 8)
    torch.testing.assert_close(model(fc), theirs, rtol=tolerance, atol=tolerance)


def test_imported_weights_know_their_regions_and_tokens(plain: ModuleType, tmp_path: Path) -> None:
    files(plain, tmp_path, 8)
    loaded = checkpoints.load(imported(tmp_path).parents[1])  # by run folder
    assert loaded.vocabulary.names == ("diagnosis", "state", "sex", "age")
    assert loaded.vocabulary["state"].categories == ("N/A", "REST")
    assert loaded.atlas.name == "aal116" and loaded.readout == "adaptive" and loaded.edges == "raw"


@pytest.mark.parametrize(
    ("file", "key"), [("b.pth", "lin.0.bias"), ("h.pth", "decoder.norm.weight")]
)
def test_official_weights_that_are_not_finite_are_refused_by_file_and_key(
    file: str, key: str, plain: ModuleType, tmp_path: Path
) -> None:
    files(plain, tmp_path, 8)
    state = torch.load(tmp_path / file, weights_only=True)
    state[key].view(-1)[0] = float("nan")
    torch.save(state, tmp_path / file)
    with pytest.raises(InputError, match=rf"{file}: {key} holds numbers that are not finite"):
        imported(tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_model_of_ours_is_exported_in_the_official_keys(
    plain: ModuleType, tmp_path: Path
) -> None:
    backbone, head = files(plain, tmp_path, 8)
    path = imported(tmp_path)
    data = dict(checkpoints.read_file(path))
    data["lcm"] = {k: v for k, v in data["lcm"].items() if k != "official"}
    checkpoints.write_file(data, tmp_path / "ours.ckpt")
    paths = export_official(tmp_path / "ours.ckpt", tmp_path / "out")
    backbone.load_state_dict(torch.load(paths[0], weights_only=True))  # strict: every key, no other
    head.load_state_dict(torch.load(paths[1], weights_only=True))


@pytest.mark.parametrize("change", [{"edges": "fisher_z"}, {"model": {"mask_constant": True}}])
def test_what_the_published_model_cannot_be_told_is_refused(
    plain: ModuleType, tmp_path: Path, change: dict[str, Any]
) -> None:
    files(plain, tmp_path, 8)
    data = dict(checkpoints.read_file(imported(tmp_path)))
    about = data["lcm"]
    change = {k: {**about[k], **v} if isinstance(v, dict) else v for k, v in change.items()}
    checkpoints.write_file({**data, "lcm": {**about, **change}}, tmp_path / "ours.ckpt")
    with pytest.raises(InputError, match="it cannot be told so"):
        export_official(tmp_path / "ours.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("diagnosis: [N/A, CN]\n", "8 tokens, the vocabulary 5"),
        ("just words", "a line a group"),
        ("a: [1", "not valid YAML"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_the_users_mistake(
    plain: ModuleType, tmp_path: Path, groups: str, message: str
) -> None:
    files(plain, tmp_path, 8)
    with pytest.raises(InputError, match=message):
        imported(tmp_path, groups)


def test_files_in_the_wrong_order_are_named(plain: ModuleType, tmp_path: Path) -> None:
    files(plain, tmp_path, 8)
    (tmp_path / "b.pth").rename(tmp_path / "x"), (tmp_path / "h.pth").rename(tmp_path / "b.pth")
    (tmp_path / "x").rename(tmp_path / "h.pth")
    with pytest.raises(InputError, match=r"no lin\.0\.weight"):
        imported(tmp_path)


def test_a_file_that_would_run_code_is_refused(plain: ModuleType, tmp_path: Path) -> None:
    files(plain, tmp_path, 8)
    torch.save({"lin.0.weight": Path("x")}, tmp_path / "b.pth")
    with pytest.raises(InputError, match="would run code are not read"):
        imported(tmp_path)


def test_safetensors_hold_what_the_checkpoint_loads_as_and_no_ones_id(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    folder = run.pretrain(recipe("trainer.max_steps=2"))
    loaded = checkpoints.load(folder)
    with safe_open(export_plain(folder, tmp_path / "out" / "w.safetensors"), "pt") as file:
        text = file.metadata()["lcm"]
        assert set(file.keys()) == set(loaded.state)
        for key, value in loaded.state.items():
            assert (
                torch.equal(file.get_tensor(key), value)
                and file.get_tensor(key).dtype == value.dtype
            ), key
    about = json.loads(text)
    about["model"]["target_tokens"] = tuple(about["model"]["target_tokens"])
    assert LCMConfig(**about["model"]) == loaded.model
    assert (
        about["vocabulary"] == loaded.vocabulary.to_json()
        and about["atlas"] == loaded.atlas.to_json()
    )
    assert (about["edges"], about["readout"], tuple(about["active"])) == (
        loaded.edges,
        loaded.readout,
        loaded.active,
    )
    assert {k: tuple(v) for k, v in about["scalars"].items()} == loaded.scalars
    assert about["subjects"] == len(loaded.subjects) > 0
    assert not any(subject in text for subject in loaded.subjects)


@pytest.mark.parametrize(
    ("out", "message"),
    [("weights", "ends in .safetensors"), ("file/w.safetensors", "cannot be written")],
)
def test_weights_that_have_no_place_are_one_clear_line(
    recipe: Callable[..., Recipe], tmp_path: Path, out: str, message: str
) -> None:
    folder = run.pretrain(recipe("trainer.max_steps=1"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=message):
        export_plain(folder, tmp_path / out)
