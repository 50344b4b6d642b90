"""Files that release 0.1.0 wrote open for ever: shards, a run that was stopped, exported weights.

They are read where they lie, or copied where a command writes beside them; nobody writes them anew.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import lcm_scale
from lcm_scale.cli import app as cli
from lcm_scale.data.verify import verify_shards
from lcm_scale.inference.pretrained import PretrainedLCM
from lcm_scale.training.run_log import read_log
from lcm_scale.weights import checkpoints, hub

RELEASE = Path(__file__).parent / "0.1.0"
# What release 0.1.0 answered with the exported model to `correlations()`.
ANSWERS = {
    "diagnosis": [
        [0.33262336, 0.34062025, 0.32675642],
        [0.33585665, 0.33443111, 0.32971224],
        [0.33811250, 0.34089762, 0.32098991],
    ],
    "eye_status": [
        [0.34906718, 0.32486907, 0.32606372],
        [0.34504983, 0.31383172, 0.34111845],
        [0.34362775, 0.32761863, 0.32875362],
    ],
    "sex": [[0.47606406, 0.52393597], [0.49820822, 0.50179178], [0.47261032, 0.52738965]],
    "age": [13.47023201, 16.11777878, 14.48172569],
}


def correlations() -> torch.Tensor:
    generator = np.random.default_rng(0)
    series = [generator.standard_normal((12, 80)) for _ in range(3)]
    return torch.from_numpy(np.stack([np.corrcoef(one) for one in series])).float()


def check(answers: dict[str, torch.Tensor]) -> None:
    assert list(answers) == list(ANSWERS)
    for name, expected in ANSWERS.items():
        torch.testing.assert_close(answers[name], torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the release ran, with its salt."""
    folder = tmp_path / "project"
    shutil.copytree(RELEASE, folder)
    (folder / "salt").write_text("5a" * 32)
    monkeypatch.setenv("LCM_SALT_FILE", str(folder / "salt"))
    monkeypatch.chdir(folder)
    return folder


def lcm(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["lcm-scale", *line.split()])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_shards_verify() -> None:
    manifest = verify_shards(RELEASE / "shards" / "first")
    assert manifest.scans == 20 and manifest.fingerprint == "50fd63ab3cb42c4e"


def test_a_stopped_run_goes_on_to_its_end_with_the_releases_losses(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line.split() for line in (RELEASE / "losses.txt").read_text().splitlines()]
    assert lcm("pretrain run.yaml", monkeypatch) == 0
    events = read_log(project / "runs" / "run" / "log.jsonl")
    assert [event["step"] for event in events if event["event"] == "resumed"] == [5]
    losses = {event["step"]: event["loss"] for event in events if event["event"] == "step"}
    stored = {int(step): float(loss) for step, loss in lines}
    assert losses == pytest.approx(stored, rel=1e-4)
    # Of the epoch in whose middle it was stopped, the mean holds the steps before the stop as well.
    rows = [event for event in events if event["event"] == "epoch"]
    assert rows[1]["train_loss"] == pytest.approx(sum(stored[n] for n in (4, 5, 6)) / 3, rel=1e-4)


def test_a_checkpoint_says_what_it_said() -> None:
    loaded = checkpoints.load(RELEASE / "runs" / "run")
    exported = json.loads((RELEASE / "hub" / "config.json").read_text())
    assert loaded.vocabulary.to_json() == exported["vocabulary"]
    assert loaded.atlas.checksum == exported["atlas"]["checksum"]
    assert (loaded.edges, loaded.readout) == ("raw", "adaptive")
    assert loaded.active == ("diagnosis", "eye_status", "sex", "age")
    assert loaded.scalars == {"age": tuple(exported["scalars"]["age"])}
    assert len(loaded.subjects) == 20 and not loaded.unknown_subjects
    assert loaded.fingerprints == {"first": "50fd63ab3cb42c4e"}
    assert checkpoints.fitted(loaded.model, loaded.state, "it")


def test_an_exported_folder_answers_as_it_did() -> None:
    check(lcm_scale.load_model(RELEASE / "hub").predict(correlations()))


def test_the_import_that_its_card_names_works() -> None:
    from lcm_scale.hub import load_model

    assert "from lcm_scale.hub import load_model" in (RELEASE / "hub" / "README.md").read_text()
    check(
        load_model(RELEASE / "hub", atlas=str(RELEASE / "hub" / "atlas.tsv")).predict(
            correlations()
        )
    )


def test_an_exported_folder_becomes_a_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lcm("import hub hub imported", monkeypatch) == 0
    loaded = checkpoints.load(project / "imported")
    assert loaded.unknown_subjects and not loaded.subjects
    exported = hub.read_folder(RELEASE / "hub").state
    assert all(torch.equal(loaded.state[name], value) for name, value in exported.items())


def test_a_safetensors_file_answers_as_it_did() -> None:
    with safe_open(RELEASE / "plain.safetensors", "pt") as file:
        model = PretrainedLCM(json.loads(file.metadata()["lcm"]))
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    check(model.predict(correlations()))
