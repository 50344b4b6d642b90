"""The rules of the house, read from the source: imports go one way, files stay short, nothing is
pickled or local."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "lcm_scale"

# Data flow down this list: a room imports only rooms above it. Within a room any order will do, as
# long as there is no circle.
ROOMS = [
    "errors",
    "limits",
    "delimited",
    "terminal",
    "checked",
    "plugins",
    "ranks",
    "files",
    "shipped",
    "csv_text",
    "lock",
    "progress",
    "identity",
    "provenance",
    "atlas",
    "config",
    "vocabulary",
    "linear",
    "data",
    "layouts",
    "fetch",
    "model",
    "objectives",
    "hardware",
    "weights",
    "inference",
    "cost",
    "training",
    "watch",
    "evaluation",
    "report",
    "explain",
    "sweep",
    "laws",
    "estimators",
    "cli",
]
# Old addresses that keep working, and what they stand for.
OLD_ADDRESSES = {"data/ds000140": "fetch", "hub": "inference"}
SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")
MODULES = sorted(PACKAGE.rglob("*.py"))
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
    """The position of a module's room in ROOMS."""
    room = OLD_ADDRESSES.get(module, module.partition("/")[0])
    assert room in ROOMS, f"{module} has no place in the order of rooms; give it one, deliberately"
    return ROOMS.index(room)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def imported(path: Path) -> set[str]:
    """The package's own modules that a file imports: at its head, inside functions, and for type
    checking. A package counts as its `__init__`."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lcm_scale":
            base = (node.module or "").replace(".", "/").removeprefix("lcm_scale").lstrip("/")
            for alias in node.names:
                inner = f"{base}/{alias.name}".lstrip("/")
                is_module = (PACKAGE / f"{inner}.py").is_file() or (PACKAGE / inner).is_dir()
                found.add(inner if is_module else base)
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.replace(".", "/").removeprefix("lcm_scale/")
                for alias in node.names
                if "lcm_scale." in alias.name
            }
    return {f"{name}/__init__" if (PACKAGE / name).is_dir() else name for name in found - {""}}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_imports_only_from_rooms_above(path: Path) -> None:
    room = place(name_of(path))
    below = [m for m in imported(path) if place(m) > room]
    assert not below, f"{name_of(path)} imports {below}, which stand below it"


def circles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Groups of modules that import each other, by any way round."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for module in graph.get(waiting.pop(), set()) - seen:
                seen.add(module)
                waiting.append(module)
        return seen

    ways = {module: reachable(module) for module in graph}
    return sorted(
        {
            tuple(sorted(m for m in ways if m in ways[n] and n in ways[m]))
            for n in ways
            if n in ways[n]
        }
    )


def test_no_module_imports_itself_by_any_way_round() -> None:
    """Also not for type checking, and not inside functions."""
    assert circles({name_of(path): imported(path) for path in MODULES}) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [("a", "b", "c")]


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
    banned = (
        r"\b(import|from) "
        r"(pickle|cPickle|dill|joblib|shelve)\b|allow_pickle=True|weights_only=False"
    )
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


def test_rooms_that_know_neither_lightning_nor_webdataset() -> None:
    for room in ("model", "weights", "inference"):
        for path in (PACKAGE / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"^\s*(import|from) (lightning|webdataset)\b", text, re.M), path


# Raw files that our own readers read back, from contents of ours.
WRITE_RAW_CSV = {"fetch/ds000140", "data/readers/simulated"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_csv_is_written_in_one_place(path: Path) -> None:
    """Which keeps spreadsheets from running a cell."""
    writes = re.search(r"\bcsv\.(Dict)?[wW]riter\(", path.read_text(encoding="utf-8"))
    assert not writes or name_of(path) in {"csv_text", *WRITE_RAW_CSV}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_whoever_prints_prints_through_the_terminal_module(path: Path) -> None:
    """So that what stands in strangers' files cannot control a terminal."""
    text = path.read_text(encoding="utf-8")
    if re.search(r"(?<![\w.])print\(", text) and name_of(path) != "terminal":
        assert re.search(r"^from lcm_scale.terminal import .*\bprint\b", text, re.MULTILINE)
    assert not re.search(r"\bConsole\((?!.*markup=False)", text), (
        "markup=False: [brackets] are text"
    )
