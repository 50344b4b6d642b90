"""Adapters without their base: there and back with the answers of the merged model, and refused on
another base, in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lcm_scale import load_model
from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.inference import asked
from lcm_scale.training import fit as run
from lcm_scale.training.folder import run_folder
from lcm_scale.weights import checkpoints, hub
from lcm_scale.weights.adapters import WEIGHTS, export_adapters, import_adapters, read_adapters
from lcm_scale.weights.checkpoints import ADAPTERS

# The simulated training scans are more connected than what is asked about here.
pytestmark = pytest.mark.filterwarnings("ignore:predict. the mean")

Make = Callable[..., Recipe]
Call = Callable[[str], tuple[int, str, str]]
PHASE = "phases=[{name: tune, epochs: 1, stage: adaptive}]"


@pytest.fixture(scope="module")
def place(recipe_into: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `base` and `tuned`, and `adapters` of the latter."""
    folder = tmp_path_factory.mktemp("adapters")
    sizes = ("model.edge_branch=true",)
    base = run.pretrain(recipe_into(folder, *sizes, "name=base", "data.targets=[sex, age]"))
    tuned = run.finetune(
        recipe_into(
            folder,
            *sizes,
            *("name=tuned", "data=second", f"init_from={base}", "model.people_memory=linear"),
            *("optim.trainable=lora", "optim.lora.rank=3", "optim.adaptive.lr=1e-2", PHASE),
        )
    )
    base.rename(folder / "base"), tuned.rename(folder / "tuned")
    export_adapters(folder / "tuned", folder / "adapters", licence="CC0-1.0")
    return folder


@pytest.fixture
def copied(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "adapters", tmp_path / "given"))


def read_again(folder: Path, **changes: Any) -> dict[str, torch.Tensor]:
    """The weights with changes, in a folder whose maker wrote no sums."""
    (folder / hub.SUMS).unlink()
    state = {**load_file(folder / WEIGHTS), **changes}
    return {name: value for name, value in state.items() if value is not None}


def refused(folder: Path, base: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_adapters(folder, base)
    assert "\n" not in str(caught.value)


def test_on_their_base_they_are_the_merged_model_bit_for_bit(place: Path) -> None:
    loaded = checkpoints.load(place / "tuned")
    assert loaded.path.name == checkpoints.FINAL
    exported = hub.export_hub(place / "base", place / "base-hub")
    for base in (place / "base", exported):
        found = read_adapters(place / "adapters", base)
        assert set(found.state) == set(loaded.state)
        for name, value in loaded.state.items():
            assert torch.equal(found.state[name], value), name
        assert found.meaning.vocabulary == loaded.vocabulary
        assert found.meaning.cohort == loaded.cohort


def test_answers_are_those_of_the_run_by_every_way_in(place: Path, tmp_path: Path) -> None:
    fc = torch.eye(12).expand(3, 12, 12).clone()
    fc[1:, 0, 1] = fc[1:, 1, 0] = 0.4
    whole = load_model(hub.export_hub(place / "tuned", tmp_path / "hub")).predict(fc)
    adapted = load_model(place / "adapters", base=place / "base").predict(fc)
    import_adapters(place / "adapters", place / "base", tmp_path / "taken")
    taken = load_model(hub.export_hub(tmp_path / "taken", tmp_path / "again")).predict(fc)
    for name, value in whole.items():
        assert torch.equal(adapted[name], value) and torch.equal(taken[name], value)
    assert not torch.equal(whole["outcome"][0], whole["outcome"][1])
    assert checkpoints.load(tmp_path / "taken").unknown_subjects


def test_only_what_was_trained_is_in_the_folder_and_no_ones_id(place: Path) -> None:
    state = load_file(place / "adapters" / WEIGHTS)
    base = checkpoints.load(place / "base")
    still = [n for n in base.state if n.startswith("layers.") and n.endswith(("weight", "bias"))]
    assert len(still) > 20 and not any(name in state for name in still)
    assert not any(name.startswith("embedding.linear") for name in state)
    assert {"norm.weight", "readout.weight", "embedding.norm.running_mean"} < set(state)
    loaded = checkpoints.load(place / "tuned")
    texts = [p.read_text() for p in (place / "adapters").iterdir() if p.suffix != ".safetensors"]
    assert not any(person in text for person in loaded.subjects for text in texts)
    assert not any(str(place) in text for text in texts)


def test_the_card_names_the_adapters_and_their_base(place: Path, tmp_path: Path) -> None:
    text = (place / "adapters" / "README.md").read_text()
    about = json.loads((place / "adapters" / ADAPTERS).read_text())
    assert about["lora"] == {"rank": 3, "alpha": 16.0, "targets": ["attention", "ffn"]}
    assert (
        f"base is base; the SHA-256 of its weights (in fp32) is\n{about['base']['sha256']}" in text
    )
    assert 'load_model("THIS FOLDER OR REPOSITORY", base="THE BASE", atlas' in text
    assert "license: CC0-1.0" in text
    whole = (hub.export_hub(place / "tuned", tmp_path / "hub") / "README.md").read_text()
    for card in (text, whole):
        assert "went on from base (phases: tune). Low-rank adapters (LoRA) of rank 3, alpha" in card
        assert "16, on attention and the feed-forward parts" in card


def test_another_base_is_refused_in_one_line(place: Path, recipe: Make, tmp_path: Path) -> None:
    other = run.pretrain(
        recipe("seed=1", "model.edge_branch=true", "data.targets=[sex, age]", "trainer.max_steps=1")
    )
    refused(place / "adapters", other, r"belong on another base than .*: on base, SHA-256 \w{16}, ")
    wider = run.pretrain(recipe("name=wider", "model.ffn=24", "trainer.max_steps=1"))
    refused(place / "adapters", wider, r"whose layers\.0\.linear1\.weight is of shape \(16, 16\)")
    rounded = hub.export_hub(place / "base", tmp_path / "rounded", dtype="bf16")
    refused(place / "adapters", rounded, "it holds rounded weights, and they need those in fp32")


def test_one_number_changed_in_the_base_is_another_base(place: Path, tmp_path: Path) -> None:
    file = checkpoints.find(place / "base")
    data = checkpoints.read_file(file)
    state = {name: value.clone() for name, value in data["state_dict"].items()}
    state["model.layers.1.norm2.bias"][3] += 1e-6
    checkpoints.write_file({**data, "state_dict": state}, tmp_path / "changed.ckpt")
    refused(place / "adapters", tmp_path / "changed.ckpt", "belong on another base")


def test_a_base_that_is_missing_or_holds_adapters_itself_is_named(place: Path) -> None:
    refused(place / "adapters", place / "none.ckpt", r"none\.ckpt: no checkpoint there")
    refused(place / "adapters", place / "adapters", "holds adapters without their base; name that")


def test_a_run_without_adapters_has_none_to_give(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no adapters .* `lcm-scale export hub"):
        export_adapters(place / "base", tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_people_are_not_given_away_unasked(
    place: Path, recipe: Make, tmp_path: Path, lcm: Call
) -> None:
    tuned = run.finetune(
        recipe(
            *("name=rbf", "data=second", f"init_from={place}/base", "model.people_memory=rbf"),
            *("model.edge_branch=true", "optim.trainable=lora", "optim.lora.rank=3", PHASE),
        )
    )
    code, out, err = lcm(f"export adapters {tuned} {tmp_path}/out")
    assert code == 2 and "say so with --with-people" in err and not (tmp_path / "out").exists()
    code, out, err = lcm(f"export adapters {tuned} {tmp_path}/out --with-people")
    assert (code, err) == (0, "") and "(personal data: it holds the vectors of" in out
    assert "**PERSONAL DATA" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm.weight": None}, r"for norm\.weight, expected \(16,\), found nothing"),
        (
            {"layers.0.linear1.lora_a": torch.zeros(1, 4, 16)},
            r"expected \(1, 3, 16\), found \(1, 4",
        ),
        ({"layers.0.linear1.weight": torch.zeros(16, 16)}, "no place for the weight layers.0.lin"),
        ({"norm.weight": torch.zeros(16).half()}, r"norm\.weight is of type F16"),
        ({"norm.weight": torch.full((16,), torch.nan)}, "norm.weight holds numbers that are not"),
        (
            {"layers.0.linear1.lora_b": torch.full((1, 16, 3), torch.inf)},
            "layers.0.linear1.weight holds numbers that are not finite",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    changes: dict[str, Any], message: str, copied: Path, place: Path
) -> None:
    save_file(read_again(copied, **changes), copied / WEIGHTS)
    refused(copied, place / "base", message)


def test_a_damaged_file_is_named_by_its_sum(copied: Path, place: Path) -> None:
    data = bytearray((copied / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (copied / WEIGHTS).write_bytes(data)
    refused(copied, place / "base", "adapters.safetensors: damaged: its SHA-256")
    (copied / WEIGHTS).write_bytes(data[:-8])
    (copied / hub.SUMS).unlink()
    refused(copied, place / "base", r"adapters\.safetensors: missing or damaged")
    (copied / WEIGHTS).unlink()
    refused(copied, place / "base", r"adapters\.safetensors: missing or damaged")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "lcm-scale-adapters/9", "not of this format"),
        ("base", {"run": "base", "sha256": "00"}, r"base\.sha256: expected 64 hex digits"),
        ("lora", {"rank": 10**9, "alpha": 1, "targets": ["ffn"]}, r"lora\.rank: expected a whole"),
        ("lora", {"rank": 3, "alpha": -1, "targets": ["ffn"]}, r"lora\.alpha: expected a number"),
        ("lora", {"rank": 3, "alpha": 1, "targets": ["ffm"]}, "did you mean 'ffn'"),
        ("lora", {"rank": 3, "alpha": 1, "targets": []}, r"lora\.targets: expected at least one"),
        ("lora", {"rank": 3, "alpha": 1, "targets": ["ffn"]}, "has no place for the weight"),
        ("whole", {}, "not of this format"),
    ],
)
def test_what_the_file_says_of_them_is_checked(
    key: str, value: Any, message: str, copied: Path, place: Path
) -> None:
    about = json.loads((copied / ADAPTERS).read_text())
    (copied / ADAPTERS).write_text(json.dumps({**about, key: value}))
    refused(copied, place / "base", message)


def test_a_claim_of_terabytes_takes_no_memory(copied: Path, place: Path) -> None:
    """The shapes of the file's head are compared before anything is read."""
    about = json.loads((copied / ADAPTERS).read_text())
    about["lora"]["rank"] = 65_536
    (copied / ADAPTERS).write_text(json.dumps(about))
    refused(copied, place / "base", r"expected \(3, 65536, 16\), found \(3, 3, 16\)")


def test_verbs_from_outside(place: Path, world: Path, lcm: Call, tmp_path: Path) -> None:
    made, base, tuned = tmp_path / "made", place / "base", place / "tuned"
    code, out, err = lcm(f"export adapters {tuned} {made}")
    assert (code, err) == (0, "")
    assert out.endswith(f"next: lcm-scale predict {made} SCANS --base BASE\n")
    asking = f"{world}/shards/second --out {tmp_path}"
    assert lcm(f"predict {made} {asking}/a.csv --base {base}")[0] == 0
    assert lcm(f"export hub {tuned} {tmp_path}/whole")[0] == 0
    assert lcm(f"predict {tmp_path}/whole {asking}/b.csv")[0] == 0
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    code, out, err = lcm(f"import adapters {made} {base} {tmp_path}/taken")
    assert (code, err) == (0, "") and out.endswith(f"init_from={tmp_path}/taken\n")
    for line, said in (
        (f"predict {made} {asking}/c.csv", "holds adapters without their base"),
        (f"predict {made} {asking}/c.csv --base {tuned}", "belong on another base"),
        (f"predict {base} {asking}/c.csv --base {base}", "a whole model needs no base"),
        (f"inspect {made}/{ADAPTERS}", "damaged or not a checkpoint"),
        (f"export adapters {tuned} {made}", "exists; name a new folder"),
    ):
        code, _, err = lcm(line)
        assert code == 2 and said in err and err.count("\n") == 1, (line, err)
    assert not (tmp_path / "c.csv").exists()


def test_a_recipe_cannot_start_from_adapters_alone(place: Path, recipe: Make) -> None:
    made = recipe("name=next", "data=second", f"init_from={place}/adapters")
    with pytest.raises(InputError, match="holds adapters without their base; `lcm-scale import"):
        run.finetune(made)
    assert not run_folder(made).exists()


def test_a_model_that_is_asked_is_known_by_what_its_files_say(place: Path) -> None:
    opened = asked.opened(str(place / "adapters"), str(place / "base"))
    assert opened.name == "tuned" and opened.run is None and len(opened.fingerprint) == 16
