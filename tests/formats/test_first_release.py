"""What release 0.1.0 wrote is read for ever: shards, a run that was stopped in its middle, exported
weights. Its files lie beside this test; its losses are those of the undisturbed run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from lcm_scale import load_model
from lcm_scale.config import Recipe, load
from lcm_scale.data.verify import verify_shards
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.inference.predictor import Predictor
from lcm_scale.training.fit import fit
from lcm_scale.training.prepare import prepare
from lcm_scale.training.run_log import read_log
from lcm_scale.weights import checkpoints

FILES = Path(__file__).parent / "0.1.0"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, with the salt that hashed its people."""
    folder = tmp_path / "old"
    shutil.copytree(FILES, folder)
    (folder / "salt").write_text("5a" * 32)
    monkeypatch.setenv("LCM_SALT_FILE", str(folder / "salt"))
    monkeypatch.chdir(folder)
    return folder


def test_its_shards_are_what_their_manifest_says(old: Path) -> None:
    manifest = verify_shards(old / "shards" / "first")
    assert manifest.scans == 20 and manifest.vocabulary.names[0] == "diagnosis"


def test_its_stopped_run_goes_on_to_the_losses_of_the_undisturbed_one(old: Path) -> None:
    prepared = prepare(load(Recipe, old / "run.yaml"))
    assert prepared.resume is not None and prepared.resume.name == "step-00000005.ckpt"
    result = fit(prepared)
    steps = [e for e in read_log(result.folder / "log.jsonl") if e["event"] == "step"]
    stored = [float(line.split()[1]) for line in (old / "losses.txt").read_text().splitlines()]
    assert [e["step"] for e in steps] == list(range(1, 13))
    assert [e["loss"] for e in steps] == pytest.approx(stored, rel=1e-4)
    # The mean over the epoch in whose middle it was stopped holds the steps before the stop too.
    assert result.rows[1]["train_loss"] == pytest.approx(sum(stored[3:6]) / 3, rel=1e-4)


def test_its_exported_folder_answers_as_its_checkpoint_does(old: Path) -> None:
    model = load_model(old / "hub")
    prepared = prepare_evaluation(
        load(Recipe, old / "run.yaml", ["evaluate.folds=2", "name=evaluation"])
    )
    checkpoint = checkpoints.load(old / "runs" / "run")
    scans = prepared.scans[:5]
    predictor = Predictor(prepared.opened.sets, prepared.opened.source, prepared.recipe)
    (age,) = predictor.answers(checkpoint, scans, [("age", ())])
    R = model.meaning.atlas.n_regions
    rows, columns = torch.triu_indices(R, R, 1)
    matrices = torch.eye(R).repeat(len(scans), 1, 1)
    matrices[:, rows, columns] = torch.from_numpy(predictor.edges(scans))
    matrices[:, columns, rows] = matrices[:, rows, columns]
    assert model.predict(matrices)["age"].numpy() == pytest.approx(age, rel=1e-4)
