"""Models as folders: there and back, in another order of regions, in pieces, and what is
refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lcm_scale.atlas import Atlas, load_atlas
from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.inference.odd_input import odd_input
from lcm_scale.inference.predictor import Reading, scores
from lcm_scale.inference.pretrained import PretrainedLCM, load_model
from lcm_scale.model.lcm import LCM
from lcm_scale.training import fit as run
from lcm_scale.weights import checkpoints, hub
from lcm_scale.weights.hub import export_hub, import_hub

# The simulated training scans are more connected than the noise that is asked about here.
pytestmark = pytest.mark.filterwarnings("ignore:predict. the mean")


@pytest.fixture
def trained(recipe: Callable[..., Recipe]) -> Path:
    return run.pretrain(recipe("trainer.max_steps=3", "model.edge_branch=true"))


def correlations(regions: int, scans: int = 3) -> torch.Tensor:
    generator = np.random.default_rng(0)
    return torch.from_numpy(
        np.stack([np.corrcoef(generator.standard_normal((regions, 80))) for _ in range(scans)])
    ).float()


@pytest.mark.parametrize("shard_gb", [5.0, 1e-5])
def test_a_folder_answers_as_its_checkpoint_does(
    trained: Path, tmp_path: Path, shard_gb: float
) -> None:
    folder = export_hub(trained, tmp_path / "out", shard_gb=shard_gb)
    assert (folder / hub.INDEX).is_file() == (shard_gb < 1)
    loaded, model = checkpoints.load(trained), load_model(folder)
    plain = LCM(loaded.model)
    plain.load_state_dict(dict(loaded.state))
    fc = correlations(loaded.atlas.n_regions)
    rows, columns = torch.triu_indices(loaded.atlas.n_regions, loaded.atlas.n_regions, 1)
    with torch.no_grad():
        expected = scores(plain, Reading.of(loaded), fc[:, rows, columns])
    answers = model.predict(fc)
    assert set(answers) == set(loaded.active)
    for name, score in expected.items():
        same = score.softmax(1) if loaded.vocabulary[name].is_class else score[:, 0]
        assert torch.equal(answers[name], same)
    text = (folder / "README.md").read_text()
    assert "SIMULATED data" in text and all(name in text for name in loaded.active)
    everything = "".join(p.read_text() for p in folder.iterdir() if p.suffix != ".safetensors")
    assert not any(subject in everything for subject in loaded.subjects)
    assert load_atlas(str(folder / "atlas.tsv")).checksum == loaded.atlas.checksum


def test_matrices_of_another_kind_than_the_model_saw_are_refused(
    trained: Path, tmp_path: Path
) -> None:
    folder = export_hub(trained, tmp_path / "out")
    with pytest.raises(InputError, match="out: was trained on pearson matrices, the data are par"):
        load_model(folder, kind="partial")
    model = load_model(folder, kind="pearson")
    fc = 3 * correlations(model.meaning.atlas.n_regions)
    with pytest.raises(InputError, match="correlations are between -1 and 1"):
        model.predict(fc)
    (facts,) = model.meaning.data
    of_covariances = ({**facts, "connectivity": {"kind": "covariance"}},)
    model.meaning = replace(model.meaning, data=of_covariances)
    assert model.predict(fc)
    with pytest.raises(InputError, match="none is NaN"):
        model.predict(fc * torch.nan)


def test_matrices_unlike_the_training_ones_are_told_of(trained: Path, tmp_path: Path) -> None:
    model = load_model(export_hub(trained, tmp_path / "out"))
    R = model.meaning.atlas.n_regions
    low, high = model.meaning.cohort.size
    usual = torch.full((3, R, R), (low + high) / 2)
    usual.diagonal(dim1=1, dim2=2).fill_(1)
    zeroed = usual - torch.eye(R)
    assert odd_input(model.meaning, usual) == odd_input(model.meaning, zeroed) == []
    scaled, uneven = usual.clone(), usual.clone()
    scaled[1].diagonal().fill_(0.7)
    uneven[0, 0, 1] = -0.5
    weak = usual * torch.tensor([0.1, 1, 1])[:, None, None]
    weak.diagonal(dim1=1, dim2=2).fill_(1)
    for fc, expected in (
        (scaled, "the diagonal of 1 of 3 matrices is neither 1 nor 0"),
        (uneven, "1 of 3 matrices are not symmetric"),
        (weak, r"the mean \|r\| of 1 of 3 matrices is from .* pearson matrices it was trained on"),
    ):
        with pytest.warns(UserWarning, match=expected):
            model.predict(fc)


def test_a_folder_says_whether_it_is_from_before_or_after_finetuning(
    trained: Path, tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    before = load_model(export_hub(trained, tmp_path / "before")).meaning
    assert before.history == "Before finetuning: trained from random weights (phases: momentum)."
    tuned = run.finetune(
        recipe(
            f"init_from={trained}", "name=tuned", "trainer.max_steps=1", "model.edge_branch=true"
        )
    )
    folder = export_hub(tuned, tmp_path / "after")
    after = load_model(folder).meaning
    assert after.history == f"After finetuning: went on from {trained.name} (phases: momentum)."
    assert after.history in (folder / "README.md").read_text()
    assert str(tmp_path) not in (folder / "config.json").read_text()


def test_a_card_says_that_its_numbers_are_of_other_fits(trained: Path, tmp_path: Path) -> None:
    results = {
        "title": "Study",
        "simulated": False,
        "verdict": {"sentence": "A plain baseline wins.", "standing": "behind", "detail": "By .1."},
        "protocol": "5 folds.",
    }
    measure = {
        "name": "auroc",
        "value": 0.7,
        "low": 0.6,
        "high": None,
        "n_scans": 20,
        "n_subjects": 10,
    }
    target = {"target": "frailty", "confounded": True, "results": {"LCM": [measure]}}
    (tmp_path / "results.json").write_text(json.dumps({**results, "targets": [target]}))
    folder = export_hub(trained, tmp_path / "out", results=tmp_path, licence="CC-BY-4.0")
    text = (folder / "README.md").read_text()
    assert "A plain baseline wins. By .1." in text and "license: CC-BY-4.0" in text
    assert "Protocol: 5 folds." in text and '"Study", of 10 people.' in text
    assert "none of these numbers is of this very file" in text
    assert "does not answer frailty" in text
    assert "| frailty (confounded) | LCM | auroc | 0.700 | - | 20 | 10 |" in text


def test_whoever_may_read_a_new_file_here_may_read_the_weights(
    trained: Path, tmp_path: Path
) -> None:
    folder = export_hub(trained, tmp_path / "out")
    assert (folder / hub.WEIGHTS).stat().st_mode == (folder / hub.CONFIG).stat().st_mode


def test_huggingface_hubs_mixin_reads_it(trained: Path, tmp_path: Path) -> None:
    folder = export_hub(trained, tmp_path / "out")
    fc = correlations(checkpoints.load(trained).atlas.n_regions)
    theirs, ours = (
        PretrainedLCM.from_pretrained(str(folder)).predict(fc),
        load_model(folder).predict(fc),
    )
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


@pytest.mark.parametrize("shard_gb", [5.0, 1e-5])
def test_what_the_mixin_saves_over_an_exported_folder_is_what_is_loaded(
    trained: Path, tmp_path: Path, shard_gb: float
) -> None:
    folder = export_hub(trained, tmp_path / "out", shard_gb=shard_gb)
    model = load_model(folder)
    own = model.meaning.atlas
    other = Atlas("mine", own.indices[::-1], own.names[::-1])
    with torch.no_grad():
        model.norm.weight.mul_(1.5)
    model.reorder(other)
    model.save_pretrained(str(folder))
    reread, fc = load_model(folder, atlas=other), correlations(own.n_regions)
    assert reread.meaning.atlas.checksum == other.checksum
    expected, found = model.predict(fc), reread.predict(fc)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_another_order_is_refused_or_brought_into_it_exactly(trained: Path, tmp_path: Path) -> None:
    folder = export_hub(trained, tmp_path / "out")
    own = load_model(folder).meaning.atlas
    order = np.random.default_rng(1).permutation(own.n_regions)
    other = Atlas("mine", tuple(own.indices[i] for i in order), tuple(own.names[i] for i in order))
    with pytest.raises(InputError, match="reorder=True"):
        load_model(folder, atlas=other)
    fc = correlations(own.n_regions)
    moved = load_model(folder, atlas=other, reorder=True).predict(fc[:, order][:, :, order])
    for name, expected in load_model(folder, atlas=own).predict(fc).items():
        torch.testing.assert_close(moved[name], expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(load_model(folder).predict(fc[:, order][:, :, order])[name], expected)


@pytest.mark.parametrize("shard_gb", [5.0, 1e-5])
def test_a_model_from_elsewhere_is_finetuned_and_whom_it_saw_is_unknown(
    trained: Path, tmp_path: Path, recipe: Callable[..., Recipe], shard_gb: float
) -> None:
    folder = export_hub(trained, tmp_path / "out", shard_gb=shard_gb)
    path = import_hub(folder, tmp_path / "runs" / "elsewhere")
    ours, theirs = checkpoints.load(trained), checkpoints.load(path)
    for name in ("model", "vocabulary", "atlas", "edges", "readout", "active", "scalars", "data"):
        assert getattr(theirs, name) == getattr(ours, name), name
    assert all(torch.equal(theirs.state[name], value) for name, value in ours.state.items())
    assert theirs.unknown_subjects and not theirs.subjects
    keys = ("model.edge_branch=true", "trainer.max_steps=3")
    runs = [
        run.finetune(recipe(f"name=from-{start.name}", f"init_from={start}", *keys))
        for start in (path.parents[1], trained)
    ]
    one, other = (checkpoints.load(folder) for folder in runs)
    assert all(torch.equal(one.state[name], value) for name, value in other.state.items())
    assert one.unknown_subjects and not other.unknown_subjects
    with pytest.raises(InputError, match="holds checkpoints already"):
        import_hub(folder, path.parents[1])


def test_weights_in_bf16_are_half_the_size_and_nearly_the_same(
    trained: Path, tmp_path: Path
) -> None:
    wide, narrow = (
        export_hub(trained, tmp_path / "a"),
        export_hub(trained, tmp_path / "b", dtype="bf16"),
    )
    assert (narrow / hub.WEIGHTS).stat().st_size < 0.7 * (wide / hub.WEIGHTS).stat().st_size
    fc = correlations(checkpoints.load(trained).atlas.n_regions)
    for name, expected in load_model(wide).predict(fc).items():
        torch.testing.assert_close(
            load_model(narrow).predict(fc)[name], expected, rtol=0.05, atol=0.05
        )


def test_what_cannot_be_read_is_one_clear_line(trained: Path, tmp_path: Path) -> None:
    folder = export_hub(trained, tmp_path / "out")
    with pytest.raises(InputError, match="name a new folder"):
        export_hub(trained, folder)
    with pytest.raises(InputError, match="one of fp32"):
        export_hub(trained, tmp_path / "c", dtype="fp8")
    (tmp_path / "results.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="not the results of an evaluation"):
        export_hub(trained, tmp_path / "c", results=tmp_path)
    with pytest.raises(InputError, match="between -1 and 1"):
        load_model(folder).predict(correlations(load_model(folder).meaning.atlas.n_regions) * 3)
    weights = bytearray((folder / hub.WEIGHTS).read_bytes())
    weights[-3] ^= 1
    (folder / hub.WEIGHTS).write_bytes(weights)
    with pytest.raises(InputError, match="damaged: its SHA-256"):
        load_model(folder)
    (folder / hub.SUMS).unlink()
    load_model(folder)  # only the sums can tell
    (folder / hub.WEIGHTS).write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="missing or damaged"):
        load_model(folder)
    (folder / hub.INDEX).write_text(json.dumps({"weight_map": {"x": "../elsewhere.safetensors"}}))
    with pytest.raises(InputError, match="in its folder, without a path"):
        load_model(folder)
    config = json.loads((folder / hub.CONFIG).read_text())
    for damage in (
        {"model": {**config["model"], "depth": 3}},
        {"atlas": 3},
        {"scalars": {"age": [1.0]}},
    ):
        (folder / hub.CONFIG).write_text(json.dumps({**config, **damage}))
        with pytest.raises(InputError, match=r"config\.json: damaged"):
            load_model(folder)
    (folder / hub.CONFIG).write_text("{}")
    with pytest.raises(InputError, match="not of this format"):
        load_model(folder)
    assert not list(tmp_path.glob(".*partial"))
