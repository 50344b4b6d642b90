"""A full disk, as the kernel's /dev/full is one: what is told, and what is left."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.training import fit as run
from lcm_scale.training.folder import run_folder
from lcm_scale.training.run_log import read_log
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def fill(path: Path) -> None:
    """Let what `path` is written through, aside, lead to a disk without space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f".{path.name}.{os.getpid()}.partial").symlink_to("/dev/full")


@pytest.mark.parametrize("numbers", [10, 100_000])
def test_the_systems_word_is_told_not_torchs(numbers: int, tmp_path: Path) -> None:
    file = tmp_path / "x.ckpt"
    file.write_bytes(b"old")
    fill(file)
    with pytest.raises(InputError) as caught:
        checkpoints.write_file({"state_dict": {"a": torch.zeros(numbers)}}, file)
    assert str(caught.value) == (
        f"{file}: cannot be written (No space left on device); check space and permissions; "
        "earlier checkpoints are untouched"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]
    assert file.read_bytes() == b"old"


@pytest.mark.parametrize("room", [1_000, 100_000, 200_000, 320_700])
def test_it_is_told_too_where_the_room_ends_within_a_file(room: int, tmp_path: Path) -> None:
    """torch counts the bytes that are missing and says that; a limit stands for the disk's end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(InputError, match=r"x\.ckpt: cannot be written \(File too large\)"):
            checkpoints.write_file(
                {"a": torch.zeros(40_000), "b": torch.zeros(40_000)}, tmp_path / "x.ckpt"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_has_no_room_ends_the_run_and_older_ones_stay(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run.pretrain(recipe("name=whole"))
    folder = run_folder(recipe("name=parts"))
    real = checkpoints.write_file

    def write(data: dict, path: Path) -> None:
        if path.name == "step-00000010.ckpt":
            fill(path)
        real(data, path)

    monkeypatch.setattr(checkpoints, "write_file", write)
    with pytest.raises(InputError, match=r"step-00000010\.ckpt: .*No space left on device"):
        run.pretrain(recipe("name=parts", "trainer.keep_checkpoints=1"))
    monkeypatch.undo()
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-00000005.ckpt"]
    parts = run.pretrain(recipe("name=parts", "trainer.keep_checkpoints=1"))
    assert (
        read_log(parts / "log.jsonl")[-1]["train_loss"]
        == (read_log(whole / "log.jsonl")[-1]["train_loss"])
    )


def test_a_log_that_has_no_room_ends_the_run_before_anything_is_saved_beyond_it(
    recipe: Make,
) -> None:
    made = recipe("trainer.checkpoint_steps=1")
    folder = run_folder(made)
    folder.mkdir(parents=True)
    (folder / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"log\.jsonl: .*No space left on device"):
        run.pretrain(made)
    assert not list(folder.glob("checkpoints/*"))
    (folder / "log.jsonl").unlink()
    steps = [
        e["step"]
        for e in map(json.loads, (run.pretrain(made) / "log.jsonl").open())
        if e["event"] == "step"
    ]
    assert steps == list(range(1, 21))
