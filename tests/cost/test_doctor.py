"""The pre-flight says what it saw and what to do, and fails before a run would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.config import Recipe
from lcm_scale.cost import doctor

Make = Callable[..., Recipe]


def by_name(recipe: Recipe) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.examine(recipe)}


def test_a_ready_machine_has_nothing_to_mend(recipe: Make, tmp_path: Path) -> None:
    findings = doctor.examine(recipe("trainer.accelerator=cpu"))
    assert doctor.failed(findings) == []
    assert {"torch", "device", "writing", "room", "shards first"} <= {f.what for f in findings}
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_missing_set_and_a_missing_gpu_are_both_told(recipe: Make) -> None:
    findings = by_name(recipe("data=[nowhere]", "trainer.accelerator=gpu"))
    assert findings["shards nowhere"].state == "fail"
    assert "nowhere" in findings["shards nowhere"].seen


def test_what_the_machine_cannot_hold_is_told(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipe("trainer.accelerator=cpu")
    assert by_name(asked)["plan"].state == "ok"
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    found = by_name(recipe("trainer.accelerator=cpu", "model.width=512"))["plan"]
    assert found.state == "fail" and "nothing fits CPU" in found.seen


def test_a_damaged_tar_is_named(recipe: Make, make_set, tmp_path: Path) -> None:
    make_set(tmp_path, "own", ["simulation.subjects=8"])
    tar = tmp_path / "shards" / "own" / "own-000000.tar"
    data = bytearray(tar.read_bytes())
    data[3000] ^= 1
    tar.write_bytes(data)
    finding = by_name(recipe("data=own", f"data.shards_dir={tmp_path}/shards"))["shards own"]
    assert finding.state == "fail"
    assert "own-000000.tar has another SHA-256" in finding.seen


def test_too_little_room_is_told_before_the_first_checkpoint(recipe: Make) -> None:
    huge = by_name(recipe("model.width=65536", "model.heads=8", "model.layers=200"))
    assert huge["room"].state == "fail"


def test_a_folder_that_cannot_be_written_is_named(recipe: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = by_name(recipe(f"runs_dir={tmp_path}/file/runs"))["runs_dir"]
    assert finding.state == "fail"
    assert "name a folder that every node can write" in finding.advice


def test_advice_stands_below_what_is_not_in_order() -> None:
    text = doctor.report(
        [
            doctor.Finding("a", "ok", "fine", "never shown"),
            doctor.Finding("b", "fail", "bad", "mend it"),
        ]
    )
    assert text.splitlines()[-1].strip() == "-> mend it"
    assert "never shown" not in text
