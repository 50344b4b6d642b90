"""Checkpoint files: which are kept, and what becomes of damaged ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch

from lcm_scale.config import Recipe
from lcm_scale.training import fit as run
from lcm_scale.training.run_log import read_log
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in read_log(folder / "log.jsonl") if event["event"] == "step"]


def test_the_newest_intact_checkpoint_is_used_and_the_damaged_one_named(
    recipe: Make, capsys
) -> None:
    whole = run.pretrain(recipe("name=whole"))
    folder = run.pretrain(recipe("name=parts", "trainer.max_steps=12"))
    newest = checkpoints.newest(folder / "checkpoints")
    assert newest is not None
    data = bytearray(newest.read_bytes())
    middle = slice(len(data) // 2, len(data) // 2 + 256)  # longer than what pads a weight's place
    data[middle] = bytes(byte ^ 1 for byte in data[middle])
    newest.write_bytes(data)
    capsys.readouterr()
    assert losses(run.pretrain(recipe("name=parts"))) == losses(whole)
    assert f"{newest}: damaged" in capsys.readouterr().err


def test_any_flipped_bit_is_found_or_does_no_harm(recipe: Make, tmp_path: Path) -> None:
    """Also in the archive's headers, where Python's reader and torch's trip over different bits."""
    folder = run.pretrain(recipe("trainer.max_steps=3"))
    whole = checkpoints.newest(folder / "checkpoints")
    assert whole is not None
    expected, data = checkpoints.read_file(whole)["state_dict"], bytearray(whole.read_bytes())
    headers = data.find(b"PK\x01\x02")
    rng, found = random.Random(0), 0
    for _ in range(200):
        place, bit = rng.randrange(headers, len(data)), 1 << rng.randrange(8)
        data[place] ^= bit
        file = tmp_path / "flipped.ckpt"
        file.unlink(missing_ok=True)  # another file: the old one is mapped
        file.write_bytes(data)
        data[place] ^= bit
        if checkpoints.is_intact(file):
            state = checkpoints.read_file(file)["state_dict"]
            assert all(torch.equal(state[name], value) for name, value in expected.items())
        else:
            found += 1
    assert found > 100


def test_some_checkpoints_are_kept_for_ever_and_the_rest_roll(recipe: Make) -> None:
    folder = run.pretrain(
        recipe(
            "trainer.checkpoint_steps=1", "trainer.keep_checkpoints=2", "trainer.keep_every_steps=8"
        )
    )
    steps = [
        int(p.stem.removeprefix("step-"))
        for p in sorted((folder / "checkpoints").glob("step-*.ckpt"))
    ]
    assert steps == [8, 16, 19, 20]
