"""Fixtures for all tests: the data folder beside the repository, golden numbers, and small
simulated shard sets on which real runs take a second."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lcm_scale import cli, config
from lcm_scale.config import Recipe, ShardRecipe
from lcm_scale.sweep import run as sweeps
from lcm_scale.sweep.plan import Plan, plan
from lcm_scale.sweep.points import open_sweep

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
REGIONS = 12  # of the small sets


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-golden",
        action="store_true",
        help="write tests/golden/*.txt anew instead of comparing",
    )


def pytest_configure() -> None:
    """What `lcm-scale tune` found on a developer's machine must not decide about results here."""
    os.environ["XDG_CACHE_HOME"] = str(ROOT / ".pytest_cache" / "xdg")


@pytest.fixture
def lcm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str, str]]:
    """`lcm("cost model=1b")` -> (exit code, stdout, stderr), in this process and the test's
    folder."""

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lcm-scale", *shlex.split(line)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        code = caught.value.code
        return (code if isinstance(code, int) else 0), out, err

    return call


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository (LCM_SHARED overrides); skips where it is
    absent."""
    folder = Path(os.environ.get("LCM_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared/ data folder beside the repository (LCM_SHARED names another)")
    return folder


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Sequence[float]], None]:
    """`golden(name, losses)` compares with tests/golden/<name>.txt, or writes it under `make
    golden`.

    A line a step; the head names the torch that wrote it. Other builds round differently, so equal
    means 1e-4.
    """
    import torch

    def check(name: str, losses: Sequence[float]) -> None:
        file = GOLDEN / f"{name}.txt"
        if request.config.getoption("--write-golden"):
            file.parent.mkdir(exist_ok=True)
            lines = [
                f"# torch {torch.__version__}",
                *(f"{step} {loss:.7g}" for step, loss in enumerate(losses)),
            ]
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
            return
        stored = [
            float(line.split()[1])
            for line in file.read_text(encoding="utf-8").splitlines()
            if line[0] != "#"
        ]
        assert list(losses) == pytest.approx(stored, rel=1e-4), (
            f"{file.name}: losses moved; make golden, and say why"
        )

    return check


def shard_set(folder: Path, name: str, overrides: list[str]) -> None:
    """A simulated set of 12 regions under folder/shards."""
    from lcm_scale.data.shards import write_shards

    groups = "groups=[{name: diagnosis, labels: [CN, Autism]}, {name: eye_status, merge: false}]"
    common = [
        f"name={name}",
        "reader=simulated",
        f"atlas=toy:{REGIONS}",
        "simulation.volumes=40",
        groups,
        f"source.dir={folder}/raw/{name}",
        f"shards_dir={folder}/shards",
        "block=8",
        "cohort=toy",
    ]
    write_shards(config.load(ShardRecipe, None, [*common, *overrides]))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shard sets `first` (37 people, 30 % of facts missing) and `second` (26
    other people)."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "salt").write_text("5a" * 32)
    os.environ["LCM_SALT_FILE"] = str(folder / "salt")
    shard_set(
        folder,
        "first",
        ["simulation.subjects=37", "simulation.missing_labels=0.3", "simulation.seed=3"],
    )
    shard_set(
        folder,
        "second",
        [
            "simulation.subjects=26",
            "simulation.first_subject=70001",
            "simulation.seed=4",
            "groups=[{name: outcome, column: diagnosis, merge: false}]",
        ],
    )
    return folder


@pytest.fixture(scope="session")
def make_set(world: Path) -> Callable[[Path, str, list[str]], None]:
    return shard_set


@pytest.fixture
def recipe(recipe_into: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Recipe]:
    """`recipe("seed=2", ...)`: a tiny run on `first` with a momentum and an adaptive phase, into a
    folder of its own."""
    return functools.partial(recipe_into, tmp_path)


@pytest.fixture(scope="session")
def recipe_into(world: Path) -> Callable[..., Recipe]:
    """`recipe_into(folder, "seed=2", ...)`: the same, for what several tests read."""

    def make(folder: Path, *overrides: str) -> Recipe:
        return config.load(
            Recipe,
            None,
            [
                "name=run",
                f"runs_dir={folder}/runs",
                f"data.shards_dir={world}/shards",
                "data=first",
                "model.width=16",
                "model.heads=2",
                "model.ffn=16",
                "trainer.global_batch=8",
                "trainer.threads=1",
                "evaluate.confounds=[]",
                "objective.scalar_scale=standardised",
                "objective.scalar_weight=1.0",
                "phases=[{name: momentum, epochs: 2, stage: momentum}, {name: adaptive, epochs: 2, "
                "readout: adaptive}]",
                *overrides,
            ],
        )

    return make


# -- sweeps: a real one of tiny models on `first`, run once for all tests that read it --

RUN = """
name: run
data: {{sets: [first], targets: [diagnosis, age], shards_dir: {world}/shards, validation: 0.2}}
model: {{preset: tiny}}
objective: {{scalar_scale: standardised, scalar_weight: 1.0}}
phases: [{{name: adaptive, epochs: 2}}]
trainer: {{global_batch: 8, threads: 1, accelerator: cpu}}
evaluate: {{target: diagnosis, folds: 4, stratify: diagnosis, baselines: [linear]}}
"""
SWEEP = """
name: sizes
runs_dir: {folder}/runs
recipe: run
axes: {{size: [8x1, 16x1, 16x2, 32x2], subjects: [12, 16, 20], epochs: [2]}}
also: [{{size: [8x1], subjects: [20], epochs: [2], seed: [1], draw: [0]}}]
baselines: [linear]
fit: {{bootstrap: 20}}
"""


def write_sweep(folder: Path, world: Path, text: str = SWEEP) -> Path:
    (folder / "run.yaml").write_text(RUN.format(world=world))
    (folder / "sweep_sizes.yaml").write_text(text.format(folder=folder))
    return folder / "sweep_sizes.yaml"


@pytest.fixture
def make_sweep(world: Path, tmp_path: Path) -> Callable[..., Plan]:
    """`make_sweep("axes.seed=[0,1]", ...)`: the tiny sweep in a folder of its own, nothing run."""

    def make(*overrides: str, text: str = SWEEP) -> Plan:
        return plan(open_sweep(write_sweep(tmp_path, world, text), overrides))

    return make


@pytest.fixture(scope="session")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny sweep's recipe, all its points finished; tests read it and leave it as it is."""
    recipe = write_sweep(tmp_path_factory.mktemp("sweep"), world)
    made = plan(open_sweep(recipe))
    for point in made.runnable:
        sweeps.run_one(made.sweep, point)
    return recipe


# -- another process at a folder --

HOLD = """
import sys
from pathlib import Path
from lcm_scale.lock import holding
with holding(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_process_holds(file: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=30)


@pytest.fixture
def held_elsewhere() -> Callable[[Path], AbstractContextManager[subprocess.Popen[str]]]:
    """`with held_elsewhere(lock_file) as process:` while another process holds that lock."""
    return another_process_holds
