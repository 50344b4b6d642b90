"""Fixtures for all tests: the data folder beside the repository, and golden numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write tests/golden/*.txt anew instead of comparing")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository (LCM_SHARED overrides); skips where it is absent."""
    folder = Path(os.environ.get("LCM_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared/ data folder beside the repository (LCM_SHARED names another)")
    return folder


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Sequence[float]], None]:
    """`golden(name, losses)` compares with tests/golden/<name>.txt, or writes it under `make golden`.

    A line a step; the head names the torch that wrote it. Other builds round differently, so equal means 1e-4.
    """
    import torch

    def check(name: str, losses: Sequence[float]) -> None:
        file = GOLDEN / f"{name}.txt"
        if request.config.getoption("--write-golden"):
            file.parent.mkdir(exist_ok=True)
            lines = [f"# torch {torch.__version__}", *(f"{step} {loss:.7g}" for step, loss in enumerate(losses))]
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
            return
        stored = [float(line.split()[1]) for line in file.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
        assert list(losses) == pytest.approx(stored, rel=1e-4), f"{file.name}: losses moved; make golden, and say why"

    return check
