"""People memory given away: every export answers as the checkpoint does, in fp32 whatever the other
weights are, or says that it cannot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from lcm_scale.atlas import Atlas
from lcm_scale.cli import main
from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.inference.predictor import Reading, answers, scores_of_parts
from lcm_scale.inference.pretrained import load_model
from lcm_scale.model.lcm import LCM
from lcm_scale.training import fit as run
from lcm_scale.weights import checkpoints, hub
from lcm_scale.weights.checkpoints import fitted
from lcm_scale.weights.hub import export_hub
from lcm_scale.weights.meaning import EXPORTED, Meaning
from lcm_scale.weights.official import export_official
from lcm_scale.weights.plain import export_plain

REGIONS = 12

# The simulated training scans are more connected than the noise that is asked about here.
pytestmark = pytest.mark.filterwarnings("ignore:predict. the mean")


@pytest.fixture
def trained(recipe: Callable[..., Recipe]) -> Path:
    return run.pretrain(recipe("trainer.max_steps=3", "model.people_memory=linear"))


@pytest.fixture
def lcm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str, str]]:
    """`lcm("inspect RUN")` -> (exit code, stdout, stderr), in this process."""

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lcm-scale", *line.split()])
        code: object = 0
        try:
            main()
        except SystemExit as caught:
            code = caught.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, err

    return call


def correlations(scans: int = 3) -> torch.Tensor:
    generator = np.random.default_rng(0)
    found = [np.corrcoef(generator.standard_normal((REGIONS, 80))) for _ in range(scans)]
    return torch.from_numpy(np.stack(found)).float()


def upper(fc: torch.Tensor) -> torch.Tensor:
    rows, columns = torch.triu_indices(REGIONS, REGIONS, 1)
    return fc[:, rows, columns]


def network(meaning: Meaning, state: Mapping[str, torch.Tensor]) -> LCM:
    made = LCM(meaning.model)
    made.load_state_dict(dict(state))
    return made.eval()


def test_one_safetensors_file_answers_as_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    own = checkpoints.load(trained)
    with safe_open(export_plain(trained, tmp_path / "w.safetensors"), "pt") as file:
        meaning = Meaning.from_json(json.loads(file.metadata()["lcm"]), EXPORTED, "lcm")
        state = {key: file.get_tensor(key) for key in sorted(file.keys())}
    assert meaning.model.people_memory
    expected = answers(network(own, own.state), Reading.of(own), upper(correlations()))
    found = answers(network(meaning, state), Reading.of(meaning), upper(correlations()))
    assert expected and all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_folder_answers_as_the_checkpoint(dtype: str, trained: Path, tmp_path: Path) -> None:
    own = checkpoints.load(trained)
    folder = export_hub(trained, tmp_path / "out", dtype=dtype)
    with safe_open(folder / hub.WEIGHTS, "pt") as file:
        for name in sorted(file.keys()):
            kept = name.startswith("people.") or dtype == "fp32" or "running_" in name
            number = file.get_tensor(name)
            assert not number.is_floating_point() or (number.dtype == torch.float32) == kept, name
            if name.startswith("people."):
                assert torch.equal(number, own.state[name]), name
    model, fc = load_model(folder), correlations()
    expected = answers(network(own, own.state), Reading.of(own), upper(fc))
    found = model.predict(fc)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3)
    parts = scores_of_parts(model, Reading.of(model.meaning), upper(fc))
    assert not torch.allclose(parts["whole"]["age"], parts["decoder"]["age"])


def test_another_order_of_regions_has_the_same_answers(trained: Path, tmp_path: Path) -> None:
    folder = export_hub(trained, tmp_path / "out")
    own = load_model(folder).meaning.atlas
    order = np.random.default_rng(1).permutation(REGIONS)
    other = Atlas("mine", tuple(own.indices[i] for i in order), tuple(own.names[i] for i in order))
    fc = correlations()
    moved = load_model(folder, atlas=other, reorder=True)
    found = moved.predict(fc[:, order][:, :, order])
    for name, expected in load_model(folder).predict(fc).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-4)
    moved.save_pretrained(tmp_path / "saved")
    again = load_model(tmp_path / "saved").predict(fc[:, order][:, :, order])
    assert all(torch.equal(again[name], value) for name, value in found.items())


def test_people_who_are_kept_are_not_given_away_unasked(
    recipe: Callable[..., Recipe], tmp_path: Path, lcm: Callable[[str], tuple[int, str, str]]
) -> None:
    words = ("name=kept", "trainer.max_steps=3", "model.people_memory=rbf")
    trained = run.pretrain(recipe(*words))
    own = checkpoints.load(trained)
    holds = f"it holds the vectors of {own.model.kept_people} people ({own.model.kept_scans} scans)"
    for kind, out in (("hub", tmp_path / "out"), ("plain", tmp_path / "out.safetensors")):
        code, said, error = lcm(f"export {kind} {trained} {out}")
        assert code == 2 and "with --with-people" in error and error.count("error:") == 1
        assert not out.exists()
        code, said, error = lcm(f"export {kind} {trained} {out} --with-people")
        assert code == 0 and f"(personal data: {holds})" in said, error
    code, said, _ = lcm(f"inspect {checkpoints.find(trained)}")
    assert code == 0 and holds in said
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**PERSONAL DATA: the weights hold the vectors of" in card
    model, fc = load_model(tmp_path / "out"), correlations()
    expected = answers(network(own, own.state), Reading.of(own), upper(fc))
    for name, value in model.predict(fc).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match=r"say so with model\.with_people = True"):
        model.save_pretrained(tmp_path / "again")
    model.with_people = True
    model.save_pretrained(tmp_path / "again")
    again = load_model(tmp_path / "again").predict(fc)
    assert all(torch.equal(again[name], value) for name, value in model.predict(fc).items())


def test_the_published_format_is_refused(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    raw = ("trainer.max_steps=1", "model.people_memory=linear", "objective.scalar_scale=raw")
    trained = run.pretrain(recipe(*raw))
    with pytest.raises(InputError, match="has people memory, and the published model has none"):
        export_official(trained, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_promises_a_memory_and_has_none_is_one_clear_line(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    without = run.pretrain(recipe("name=plain", "trainer.max_steps=1"))
    folder = export_hub(without, tmp_path / "out")
    config = json.loads((folder / hub.CONFIG).read_text())
    config["model"]["people_memory"] = True
    (folder / hub.CONFIG).write_text(json.dumps(config))
    (folder / hub.SUMS).unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"people\.whitening") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    loaded = checkpoints.load(without)
    promised = Meaning.from_json(config, EXPORTED, "config").model
    with pytest.raises(InputError, match=r"people\.whitening, expected \(12, 12\), found nothing"):
        fitted(promised, loaded.state, "x")


def test_a_model_that_takes_context_is_told_it_by_name(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    words = ("trainer.max_steps=3", "model.people_memory=linear", "model.context=[age, diagnosis]")
    own = checkpoints.load(run.pretrain(recipe(*words)))
    state = dict(own.state)
    generator = torch.Generator().manual_seed(0)  # whatever was chosen
    state["people.added"] = torch.randn(state["people.added"].shape, generator=generator)
    path = tmp_path / "told.ckpt"
    named = {f"model.{name}": value for name, value in state.items()}
    checkpoints.write_file({"state_dict": named, "lcm": own.to_json()}, path)
    model, fc = load_model(export_hub(path, tmp_path / "out")), correlations()
    age, diagnosis = model.meaning.context
    assert age.scale > 0 and len(diagnosis.categories) > 1
    context = {"age": [30.0, None, age.centre], "diagnosis": [diagnosis.categories[1], None, "new"]}
    told, untold = model.predict(fc, context), model.predict(fc)
    for name, value in told.items():
        assert not torch.allclose(value[0], untold[name][0], atol=1e-4)
        torch.testing.assert_close(value[1:], untold[name][1:])
    for wrong, said in (
        ({"agee": [1.0] * 3}, "'agee', did you mean 'age'"),
        ({"age": [1.0]}, "expected 3 values, found 1"),
        ({"age": ["old"] * 3}, "expected a number, found 'old'"),
    ):
        with pytest.raises(InputError, match=said):
            model.predict(fc, wrong)
