"""Copies of the log in TensorBoard, Weights & Biases and MLflow: what they get, what they never get,
and that a run which was stopped or killed goes on there as one run.

TensorBoard is the real one. The other two are stood in for by modules that keep what they are given.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lightning.pytorch import loggers as lightning_loggers

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.training import fit as run
from lcm_scale.training import loggers
from lcm_scale.training.callbacks import loggers as copies
from lcm_scale.training.run_log import epochs_of, highest_step, read_log

Make = Callable[..., Recipe]
tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard"
)


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """As TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(each.step, each.value) for each in events.Scalars(tag)]


class FakeLogger:
    """What Lightning's loggers have in common, kept in lists."""

    made: ClassVar[list[FakeLogger]] = []

    def __init__(self, version: str | None, fails: str = "") -> None:
        self.version, self.fails = version or "abc123", fails
        self.told: dict[str, Any] = {}
        self.got: list[tuple[int, dict[str, float]]] = []
        self.ended = ""
        self.made.append(self)

    @property
    def experiment(self) -> FakeLogger:
        if self.fails == "at once":
            raise RuntimeError("No API key configured.\nUse `wandb login`")
        return self

    def log_hyperparams(self, told: dict[str, Any]) -> None:
        self.told = told

    def log_metrics(self, numbers: dict[str, float], step: int) -> None:
        if self.fails == "later":
            raise OSError("the server is away")
        self.got.append((step, numbers))

    def save(self) -> None:
        pass

    def finalize(self, status: str) -> None:
        self.ended = status

    def finish(self, code: int) -> None:
        self.ended += f", {code}"


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[FakeLogger]]:
    """`fakes("later")`: wandb and mlflow are installed, and fail when told to."""

    def make(fails: str = "") -> list[FakeLogger]:
        FakeLogger.made = []
        for module in (loggers, copies):
            monkeypatch.setattr(module, "NEEDS", {"wandb": ("json", ""), "mlflow": ("json", "")})
        settings = types.ModuleType("wandb")
        settings.Settings = dict  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "wandb", settings)
        monkeypatch.setattr(
            lightning_loggers, "WandbLogger", lambda version, **rest: FakeLogger(version, fails)
        )
        monkeypatch.setattr(
            lightning_loggers,
            "MLFlowLogger",
            lambda *words, run_id, **rest: FakeLogger(run_id, fails),
        )
        return FakeLogger.made

    return make


@tensorboard
def test_tensorboard_gets_every_epoch_of_the_log_and_a_loss_every_ten_steps(recipe: Make) -> None:
    folder = run.pretrain(recipe("trainer.loggers=[csv, tensorboard]"))
    rows = epochs_of(folder / "log.jsonl")
    assert len(rows) == 4 and (folder / "metrics.csv").is_file()
    for tag, key in (("train_loss", "train_loss"), ("target_val_loss/age", "val_loss: age")):
        expected = [(row["step"], pytest.approx(row[key], rel=1e-5)) for row in rows]
        assert scalars(folder, tag) == expected
    assert [step for step, _ in scalars(folder, "loss")] == [10, 20]


@tensorboard
def test_a_killed_run_goes_on_in_tensorboard_without_a_doubled_step(recipe: Make) -> None:
    """Killed after step 14 with its newest checkpoint at step 10: steps 11 to 14 come again."""
    names = "trainer.loggers=[tensorboard]"
    folder = run.pretrain(recipe(names, "trainer.max_steps=14"))
    (folder / "checkpoints" / "step-00000014.ckpt").unlink()
    copied = loggers.make_logger("tensorboard", recipe(names), folder, 14)
    copied.log_metrics(
        {"train_loss": 99.0, "loss": 99.0}, 15
    )  # what the checkpoint does not know of
    copied.finalize("failed")
    run.pretrain(recipe(names))
    rows = epochs_of(folder / "log.jsonl")
    assert [step for step, _ in scalars(folder, "train_loss")] == [row["step"] for row in rows]
    assert [step for step, _ in scalars(folder, "loss")] == [10, 20]


def test_a_run_goes_on_as_the_same_run_and_sends_no_step_twice(
    recipe: Make, fakes: Callable[..., list[FakeLogger]]
) -> None:
    made = fakes()
    names = "trainer.loggers=[wandb, mlflow]"
    folder = run.pretrain(recipe(names, "trainer.max_steps=16", "trainer.keep_checkpoints=9"))
    assert json.loads((folder / "loggers.json").read_text()) == dict.fromkeys(
        ("wandb", "mlflow"), "abc123"
    )
    for step in (15, 16):  # goes on from step 10, and epoch 3 ends a second time at step 15
        (folder / "checkpoints" / f"step-000000{step}.ckpt").unlink()
    run.pretrain(recipe(names))
    before, after = made[0], made[2]
    assert before.version == after.version
    steps = [step for each in (before, after) for step, _ in each.got]
    assert steps == [5, 10, 10, 15, 20, 20]  # epochs' ends, and every tenth step
    assert before.told and not after.told
    assert [each.ended for each in made] == ["success, 0", "success"] * 2


def test_what_leaves_says_neither_who_was_scanned_nor_where_data_lie(
    recipe: Make, world: Path, tmp_path: Path, fakes: Callable[..., list[FakeLogger]]
) -> None:
    made = fakes()
    run.pretrain(recipe("trainer.loggers=[mlflow]", "trainer.max_steps=1"))
    said = json.dumps([made[0].told, [numbers for _, numbers in made[0].got]])
    assert made[0].told["model.width"] == 16 and made[0].told["training scans"] == 33
    for private in (str(world), str(tmp_path), "shards", "first", "5000"):
        assert private not in said


def test_a_logger_that_cannot_begin_ends_the_run_in_one_line(
    recipe: Make, fakes: Callable[..., list[FakeLogger]]
) -> None:
    fakes("at once")
    with pytest.raises(InputError, match=r"trainer.loggers: wandb: No API key configured. Use"):
        run.pretrain(recipe("trainer.loggers=[wandb]"))


def test_a_logger_that_fails_later_is_left_out_and_the_run_goes_on(
    recipe: Make, fakes: Callable[..., list[FakeLogger]], capsys: pytest.CaptureFixture[str]
) -> None:
    fakes("later")
    folder = run.pretrain(recipe("trainer.loggers=[mlflow]"))
    said = "trainer.loggers: mlflow: the server is away; the run goes on without it"
    assert capsys.readouterr().err.count(said) == 1
    assert read_log(folder / "log.jsonl")[-1]["step"] == 20


def test_a_logger_that_is_not_installed_is_told_of_in_a_dry_run(
    lcm: Callable[[str], tuple[int, str, str]],
    recipe: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from lcm_scale import config

    monkeypatch.setitem(loggers.NEEDS, "mlflow", ("no_such_module", "pip install mlflow"))
    (tmp_path / "r.yaml").write_text(config.dump(recipe("trainer.loggers=[mlflow]")))
    code, _, error = lcm(f"pretrain {tmp_path}/r.yaml --dry-run")
    assert code == 2 and not (tmp_path / "runs").exists()
    assert error.strip() == ("error: trainer.loggers: mlflow is not installed; pip install mlflow")


def test_the_highest_step_counts_those_that_a_resume_took_back(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert highest_step(log) == 0
    lines = [("step", 1), ("step", 2), ("step", 3), ("resumed", 1), ("step", 2)]
    log.write_text(
        "".join(json.dumps({"event": e, "step": s, "loss": 1.0}) + "\n" for e, s in lines)
    )
    assert highest_step(log) == 3
