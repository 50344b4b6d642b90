"""The rules of the house, read from the source: imports go one way, files stay short, nothing is
pickled or local."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "lcm_scale"

# DESIGN's list: data flows down it, and a file imports only from above. A folder stands for its
# files that are not named, in any order among themselves.
ORDER = [
    "errors",
    "ranks",
    "files",
    "progress",
    "identity",
    "provenance",
    "atlas",
    "config",
    "vocabulary",
    "data/recordings",
    "data/readers",
    "data/connectivity",
    "data/manifest",
    "data/store",
    "data/verify",
    "data/shards",
    "data/order",
    "data/sets",
    "data/stream",
    "data/module",
    "fetch",
    "model/presets",
    "model/products",
    "model/dispatch",
    "model/attention",
    "model/batchnorm",
    "model/lcm",
    "model/flops",
    "objectives",
    "hardware",
    "weights",
    "inference",
    "hub",
    "cost",
    "training",
    "evaluation",
    "report",
    "sweep",
    "laws",
    "cli",
]
SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")
TEXTS = sorted(
    p
    for folder in ("src", "tests", "recipes", "slurm", "docs", "benchmarks", ".ci")
    for p in (ROOT / folder).rglob("*")
    if p.is_file() and p.suffix in {".py", ".yaml", ".sh", ".env", ".md", ".j2", ".tsv", ""}
) + [
    ROOT / name
    for name in ("Makefile", "setup.cfg", "constraints.txt", "README.md")
    if (ROOT / name).is_file()
]


def place(module: str) -> int:
    """The position of `data/readers/abide` in ORDER: its own, else its folder's."""
    while module not in ORDER:
        assert "/" in module, (
            f"{module} has no place in the design's order; give it one in ORDER, deliberately"
        )
        module = module.rpartition("/")[0]
    return ORDER.index(module)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def imported(path: Path) -> set[str]:
    """The package's own modules that a file imports, at the head or inside functions, not for type
    checking alone."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checking = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)
    ]
    skipped = {inner for node in checking for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lcm_scale":
            base = (node.module or "").replace(".", "/").removeprefix("lcm_scale").lstrip("/")
            for alias in node.names:
                inner = f"{base}/{alias.name}".lstrip("/")
                is_module = (PACKAGE / f"{inner}.py").is_file() or (PACKAGE / inner).is_dir()
                found.add(inner if is_module else base)
        elif isinstance(node, ast.Import):
            found |= {
                a.name.replace(".", "/").removeprefix("lcm_scale/")
                for a in node.names
                if "lcm_scale." in a.name
            }
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return found - {""}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_imports_only_from_above(path: Path) -> None:
    own = place(name_of(path))
    below = [m for m in imported(path) if place(m) > own]
    assert not below, f"{name_of(path)} imports {below}, which stand below it"


def test_model_and_objectives_know_neither_lightning_nor_disk() -> None:
    for path in [*(PACKAGE / "model").glob("*.py"), PACKAGE / "objectives.py"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"^\s*(import|from) (lightning|pathlib|os)\b|\bopen\(", text, re.MULTILINE
        ), path


def test_readers_know_nothing_of_tensors() -> None:
    for path in (PACKAGE / "data" / "readers").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (torch|lightning)\b", text, re.MULTILINE), path


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450, (
        "split it: a reader holds about 400 lines in mind"
    )


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_opens_with_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), (
        "no docstring at the head of the file"
    )


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_pickled(path: Path) -> None:
    """One exception: torch.load raises pickle's UnpicklingError, so its name may be imported."""
    text = path.read_text(encoding="utf-8").replace("from pickle import UnpicklingError", "")
    banned = r"\b(import|from) (pickle|cPickle|dill|joblib|shelve)\b|allow_pickle=True|weights_only=False"
    assert not re.search(banned, text)


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_path_of_one_machine(path: Path) -> None:
    if path == Path(__file__):
        return
    text = path.read_text(encoding="utf-8")
    found = re.search(
        r"(?<![\w.$}{/~*-])/(home|Users|root|work|scratch|data|mnt|opt|private)/[\w.-]+", text
    )
    assert not found, f"'{found and found.group()}' is a path of one machine"
