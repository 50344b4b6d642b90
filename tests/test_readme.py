"""README.md can be followed from top to bottom: its commands are run in a small copy of the
project, its links exist.

How each command is shortened stands in SHORTER and in `carried_out`; `make test` alone is left out,
being what runs this.
The pages of docs/ are held to less: their recipes, keys and values compose, and their links exist.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcm_scale import config
from lcm_scale.atlas import load_atlas
from lcm_scale.cli import app as cli
from lcm_scale.config import AblationRecipe, Recipe, ShardRecipe, SimulationConfig
from lcm_scale.data.readers.simulated import write_cohort
from lcm_scale.fetch import ds000140

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / d / "README.md" for d in ("recipes", "shards")),
]
LEFT_OUT = ["make test"]
# What is added to a verb's line, so that it takes a second; verbs that are not named here run as
# they stand.
TINY = [
    "model.preset=tiny",
    "model.width=16",
    "model.heads=2",
    "model.ffn=16",
    "trainer.max_epochs=2",
    "trainer.threads=1",
]
SHORTER = {
    "shard": ["simulation.subjects=40", "simulation.volumes=40"],
    "pretrain": TINY,
    "finetune": TINY,
    "evaluate": [*TINY, "evaluate.folds=2", "evaluate.repeats=1", "evaluate.bootstrap=20"],
}
COMPOSED = {"shard": ShardRecipe, "ablate": AblationRecipe} | dict.fromkeys(
    ("pretrain", "finetune", "evaluate"), Recipe
)


def commands(markdown: str) -> list[list[str]]:
    """The words of each line of fenced ```bash blocks: continued lines joined, comments dropped."""
    blocks = re.findall(r"^```bash\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE)
    return [words for block in blocks for words in lines(block)]


def lines(text: str) -> list[list[str]]:
    """A quoted argument may hold line ends, as in a shell."""
    found: list[list[str]] = []
    held = ""
    for line in text.replace("\\\n", " ").splitlines():
        held = f"{held}\n{line}" if held else line
        with contextlib.suppress(ValueError):  # an open quotation: the next line goes on
            words, held = shlex.split(held, comments=True), ""
            found += [words] if words else []
    return found


def program(words: list[str]) -> str:
    return words[0].removeprefix(".venv/bin/")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader's clone is, with small raw data where README expects them: simulated
    people in the layout of ABIDE, and six people of the task data, so that nothing is
    downloaded."""
    for name in ("Makefile", "recipes", "slurm"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    write_cohort(
        tmp_path / "raw" / "abide",
        SimulationConfig(subjects=40, sites=2, volumes=40),
        load_atlas("aal116"),
    )
    task = tmp_path / "raw" / "ds000140"
    task.mkdir()
    names = [f"R{i}" for i in range(1, 7)]
    ds000140.write_csv(
        task / "mist122.csv", ["index", "name"], [[i, name] for i, name in enumerate(names, 1)]
    )
    rows: list[list[object]] = []
    for subject in range(1, 9):
        for run, state in (("01", "passive"), ("03", "up"), ("07", "down")):
            file = f"{subject}_{run}.tsv"
            values = np.random.default_rng(len(rows)).standard_normal((195, 7))
            np.savetxt(
                task / file,
                values,
                delimiter="\t",
                header="\t".join(["GlobSig", *names]),
                comments="",
            )
            rows.append(
                [file, subject, run, 2.0, 0.1, state, "n/a" if state == "passive" else state]
            )
    ds000140.write_csv(
        task / "table.csv", ["file", "subject", "run", "tr", "mean_fd", "state", "regulation"], rows
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LCM_SALT_FILE", str(tmp_path / "salt"))
    return tmp_path


@pytest.fixture
def verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str]], str]:
    """`verb(["cost", "model=1b"])` -> stdout, in this process; an error fails the test."""

    def call(words: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", ["lcm-scale", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert not caught.value.code, f"lcm-scale {shlex.join(words)}: {err}"
        return out

    return call


def carried_out(words: list[str], verb: Callable[[list[str]], str]) -> None:
    """Run a command: verbs with SHORTER; a make target line by line as `make -n` prints them, the
    making of the environment left out; of a batch script its syntax, and the recipe with the line's
    overrides."""
    if program(words) == "lcm-scale":
        verb([*words[1:], *SHORTER.get(words[1], [])])
    elif words[0] == "make":
        # An environment newer than everything it is made from, so that only the target's own lines
        # are printed.
        Path(".venv").mkdir(exist_ok=True)
        for name in ("constraints.txt", "setup.cfg", "pyproject.toml", ".venv/.installed"):
            Path(name).touch()
        printed = subprocess.run(
            ["make", "--no-print-directory", "-n", *words[1:]],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for line in lines(printed):
            carried_out(line, verb)
    elif words[0] == "sbatch":
        subprocess.run(["bash", "-n", words[1]], check=True)
        named = re.search(
            r"run \w+ (recipes/\S+\.yaml)", Path(words[1]).read_text(encoding="utf-8")
        )
        assert named, f"{words[1]} names no recipe"
        config.load(Recipe, named[1], words[2:])
    elif program(words) == "python":
        subprocess.run([sys.executable, *words[1:]], check=True, stdout=subprocess.DEVNULL)
    else:
        assert words[0] == "echo", f"no way known to test '{shlex.join(words)}'"
        assert Path(words[1]).is_file(), f"make names {words[1]}, which is not there"


def test_commands_are_found_joined_and_stripped() -> None:
    text = (
        "a\n```bash\n# first\nmake demo  # ten minutes\nlcm-scale cost \\\n  model=1b\npython "
        "-c '\n1'\n```\n```\nnot this\n```\n"
    )
    assert commands(text) == [
        ["make", "demo"],
        ["lcm-scale", "cost", "model=1b"],
        ["python", "-c", "\n1"],
    ]


def test_readme_can_be_followed_from_top_to_bottom(copy: Path, verb) -> None:
    found = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert ["make", "demo"] in found
    for words in found:
        if shlex.join(words) not in LEFT_OUT:
            carried_out(words, verb)
    assert (copy / "runs" / "demo" / "report.html").is_file()


def test_the_first_screen_holds_the_two_commands_and_the_picture() -> None:
    first = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:15])
    assert commands(first) == [["make", "demo"], ["make", "test"]]
    assert "![" in first


def test_readme_names_every_verb_and_no_other(verb) -> None:
    commands = re.findall(r"^  (\w+)  ", verb(["--help"]).partition("Commands:")[2], re.MULTILINE)
    table = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .partition("## Verbs")[2]
        .partition("\n## ")[0]
    )
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_linked_file_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s#]+)", text) if not re.match(r"https?:", link)]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_of_a_page_name_recipes_and_keys_that_exist(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipes that a page asks its reader to write (its own YAML blocks follow the name in
    backticks) are left out."""
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(ROOT)
    for words in commands(text):
        if program(words) == "lcm-scale" and words[1] in COMPOSED and f"`{words[2]}`" not in text:
            config.load(
                COMPOSED[words[1]],
                words[2],
                [word for word in words[3:] if not word.startswith("-")],
            )


def test_a_recipe_that_a_page_asks_for_is_one(tmp_path: Path) -> None:
    """The two YAML blocks of the quickstart, in order: the shard recipe and the run."""
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    shutil.copytree(ROOT / "recipes" / "optim", tmp_path / "optim")
    for schema, block in zip((ShardRecipe, Recipe), blocks, strict=True):
        (tmp_path / "mylab.yaml").write_text(block, encoding="utf-8")
        assert config.load(schema, tmp_path / "mylab.yaml").name == "mylab"


def test_every_shipped_run_recipe_stands_in_the_table() -> None:
    table = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    missing = [
        path.stem
        for path in sorted((ROOT / "recipes").rglob("*.yaml"))
        if path.stem not in table and not path.stem.startswith(("sweep_", "scaling_"))
    ]
    assert not missing
