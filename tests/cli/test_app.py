"""The command line from outside: exit codes, one-line errors, help that works, and an answer in
well under a second."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lcm_scale import config
from lcm_scale.cli import app as cli
from lcm_scale.config import AblationRecipe, SweepRecipe

ROOT = Path(__file__).parents[2]
VERBS = [
    "new",
    "fetch",
    "shard",
    "verify",
    "repair",
    "inspect",
    "pretrain",
    "finetune",
    "evaluate",
    "watch",
    "predict",
    "explain",
    "compare",
    "ablate",
    "cost",
    "doctor",
    "tune",
    "import",
    "export",
    "sweep",
    "recipes",
]


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from lcm_scale import cli\n"
        "try: cli.main()\n"
        "finally: print('heavy:', sorted({'torch', 'lightning', 'numpy', 'omegaconf'} & "
        "set(sys.modules)))"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "src", check=True
    )
    assert "heavy: []" in done.stdout
    assert time.perf_counter() - start < 5  # 0.2 s alone; other tests may run beside it


def test_help_lists_exactly_the_verbs_that_exist(lcm) -> None:
    code, out, _ = lcm("--help")
    assert code == 0
    assert re.findall(r"^  (\w+)  ", out.partition("Commands:")[2], re.MULTILINE) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_shows_an_example_that_parses(verb: str, lcm) -> None:
    code, out, _ = lcm(f"{verb} --help")
    example = re.search(rf"Example: lcm-scale {verb} (.*)", out)
    assert code == 0
    assert example, out
    words = example[1].split()
    overrides = [word for word in words if "=" in word]
    for recipe in (word for word in words if word.endswith(".yaml")):
        assert (ROOT / recipe).is_file(), f"the example names {recipe}, which does not exist"
        schemas = {"shard": config.ShardRecipe, "sweep": SweepRecipe, "ablate": AblationRecipe}
        schema = schemas.get(verb, config.Recipe)
        config.load(schema, ROOT / recipe, overrides)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cost model=1bb", "did you mean '1b'"),
        ("cost model.widht=64", "unknown key 'model.widht', did you mean 'width'?"),
        ("cost a.yaml b.yaml", "one recipe"),
        ("cost data=nowhere", "no shards"),
        ("cost model=tiny nodes=x", "nodes, gpus_per_node, price and mfu are numbers"),
        ("cost model=tiny nodes=2", "data.scans=10000"),
        ("cost model=tiny data.scans=9 gpu=H10", "did you mean 'H100'"),
        ("pretrain missing.yaml", "missing.yaml: no such recipe"),
        ("finetune missing.yaml", "missing.yaml: no such recipe"),
        ("evaluate missing.yaml", "missing.yaml: no such recipe"),
        ("shard missing.yaml", "missing.yaml: no such recipe"),
        ("verify missing", "missing"),
        ("inspect missing", "missing: no such file or folder"),
        ("inspect .", "no manifest.json"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_2(
    line: str, expected: str, lcm, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = lcm(line)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line", ["nonsense", "pretrain", "verify", "cost --nonsense", "verify a b"]
)
def test_wrong_usage_is_exit_2(line: str, lcm) -> None:
    code, _, err = lcm(line)
    assert code == 2
    assert "Usage: lcm-scale" in err


def test_a_stopped_run_keeps_its_exit_code(lcm, monkeypatch) -> None:
    monkeypatch.setattr("lcm_scale.cost.count.cost", lambda recipe: sys.exit(75))
    assert lcm("cost model=tiny")[0] == 75


def test_a_bug_keeps_its_traceback(monkeypatch) -> None:
    def broken(recipe: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("lcm_scale.cost.count.cost", broken)
    monkeypatch.setattr(sys, "argv", ["lcm-scale", "cost", "model=tiny"])
    with pytest.raises(ZeroDivisionError):  # the interpreter prints it and exits 1
        cli.main()


def test_cost_prints_the_published_count_and_ends_with_the_next_command(lcm) -> None:
    code, out, _ = lcm("cost model=1b")
    assert code == 0
    assert "1,028,750,337 parameters" in out
    assert "7 tokens" in out
    assert re.search(r"absorbed .* runs", out)
    assert out.splitlines()[-1] == "next: lcm-scale pretrain RECIPE model=1b"


def test_cost_reads_a_recipe_and_its_overrides(lcm, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("model: {preset: 147m}\ndata: {scans: 1000}\n")
    code, out, _ = lcm(f"cost {tmp_path}/mine.yaml model=tiny trainer.max_epochs=2")
    assert code == 0
    assert "model tiny" in out
    assert "1,000 scans, 16 steps" in out


def test_an_input_error_never_escapes_as_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lcm_scale.cli", "cost", "model=1bb"],
        capture_output=True,
        text=True,
        cwd=ROOT / "src",
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_cost_recommends_a_placement_last_and_writes_its_recipe(lcm, tmp_path: Path) -> None:
    words = "cost nodes=8 gpus_per_node=8 model=1.2b data.scans=10000 --write"
    code, out, _ = lcm(f"{words} {tmp_path}/planned.yaml")
    assert code == 0
    assert out.splitlines()[-1].startswith("Recommended: one GPU (H100)")
    code, out, _ = lcm(f"cost {tmp_path}/planned.yaml")
    assert code == 0 and "1.2b: 1,175,676,929 parameters" in out
    code, _, err = lcm(f"{words} {tmp_path}/none.yaml gpu=H10")
    assert code == 2 and "did you mean 'H100'" in err and not (tmp_path / "none.yaml").exists()
