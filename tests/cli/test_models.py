"""`import` and `export` from outside: kinds by sub-command, options of one kind each, and the
spellings of release 0.1.0, which go on working."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lcm_scale.weights import checkpoints, hub

Call = Callable[[str], tuple[int, str, str]]
RELEASE = Path(__file__).parents[1] / "formats" / "0.1.0"
KINDS = (
    *("import hub", "import adapters", "import official"),
    *("export hub", "export adapters", "export plain", "export official"),
)


@pytest.fixture
def lcm(lcm: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """`lcm("export plain run w.safetensors")`, in a folder with a run and a hub folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RELEASE / "runs" / "run", "run")
    shutil.copytree(RELEASE / "hub", "given")
    return lcm


@pytest.fixture
def pair(lcm: Call) -> str:
    """A published pair of files as `BACKBONE HEAD GROUPS`: a run's without its linear branch."""
    data = checkpoints.read_file(Path("run/checkpoints/step-00000005.ckpt"))
    head = {**data["lcm"], "scalars": {"age": [0.0, 1.0]}}
    head["model"] = {**head["model"], "edge_branch": False}
    state = {k: v for k, v in data["state_dict"].items() if "edge_branch" not in k}
    checkpoints.write_file({"state_dict": state, "lcm": head}, Path("own.ckpt"))
    Path("groups.yml").write_text("diagnosis: [N/A, CN, Autism]\neye_status: [N/A, closed, open]\n")
    assert lcm("export official own.ckpt pair")[::2] == (0, "")
    return "pair/backbone.pth pair/head.pth groups.yml"


@pytest.mark.parametrize("line", KINDS)
def test_help_of_each_kind_shows_an_example_of_its_own(line: str, lcm: Call) -> None:
    code, out, _ = lcm(f"{line} --help")
    assert code == 0
    example = re.search(rf"Example: lcm-scale {line} (.*)", out)
    assert example
    assert len(example[1].split()) == len(
        re.findall(r"^  [A-Z]+ .*\[required\]", out, re.MULTILINE)
    )


def test_help_of_the_verbs_lists_the_kinds_and_no_old_spelling(lcm: Call) -> None:
    for verb in ("import", "export"):
        code, out, _ = lcm(f"{verb} --help")
        kinds = re.findall(r"^  (\S+)  ", out.partition("Commands:")[2], re.MULTILINE)
        assert code == 0
        assert [f"{verb} {kind}" for kind in kinds] == [k for k in KINDS if k.startswith(verb)]


def test_a_hub_folder_goes_out_and_in(lcm: Call) -> None:
    code, out, err = lcm("export hub run made --dtype bf16 --licence CC-BY-4.0 --shard-gb 1")
    assert (code, out, err) == (0, "model: made\nnext: hf upload OWNER/NAME made\n", "")
    assert hub.read_folder("made").config["dtype"] == "bf16"
    code, out, err = lcm("import hub made taken")
    assert (code, err) == (0, "")
    assert out.endswith("next: lcm-scale finetune RECIPE init_from=taken\n")
    assert checkpoints.load(Path("taken")).unknown_subjects


def test_weights_alone_go_out(lcm: Call) -> None:
    code, out, err = lcm("export plain run w.safetensors")
    assert (code, out, err) == (0, "weights: w.safetensors\nnext: lcm-scale inspect run\n", "")
    assert set(load_file("w.safetensors")) == set(checkpoints.load(Path("run")).state)


def test_the_published_pair_goes_in_as_the_line_that_export_names(lcm: Call, pair: str) -> None:
    _, out, _ = lcm("export official own.ckpt pair")
    line = re.search(r"next: lcm-scale (.*)", out)
    assert line
    words = (
        line[1].replace("GROUPS RUN", "groups.yml taken").replace("--atlas toy", "--atlas toy:12")
    )
    assert lcm(words)[::2] == (0, "")
    taken, own = checkpoints.load(Path("taken")), checkpoints.load(Path("own.ckpt"))
    assert (taken.model, taken.readout) == (own.model, own.readout)
    assert taken.run == "taken" and taken.recipe.startswith("name: taken")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import given taken", "import hub given taken"),
        (
            "import {pair} taken --atlas toy:12 --heads=2",
            "import official {pair} taken --atlas=toy:12 --heads=2",
        ),
        (
            "import --heads 2 --atlas toy:12 {pair} taken",
            "import official {pair} taken --atlas=toy:12 --heads=2",
        ),
        ("export run made", "export hub run made"),
        ("export run made --format hub --dtype fp16", "export hub run made --dtype=fp16"),
        ("export --shard-gb 1 run made", "export hub run made --shard-gb=1.0"),
        ("export run w.safetensors", "export plain run w.safetensors"),
        ("export run w.safetensors --format plain", "export plain run w.safetensors"),
        ("export own.ckpt made --format official", "export official own.ckpt made"),
    ],
)
def test_an_old_spelling_does_what_the_new_one_does_and_names_it(
    old: str, new: str, lcm: Call, pair: str
) -> None:
    old, new = old.format(pair=pair), new.format(pair=pair)
    code, out, err = lcm(old)
    assert (code, err) == (0, f"note: this is now spelt `lcm-scale {new}`\n")
    for made in ("taken", "made"):
        shutil.rmtree(made, ignore_errors=True)
    assert lcm(new) == (0, out, "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "import hub given taken --heads 4",
            "import hub: --heads belongs to `lcm-scale import official`",
        ),
        (
            "import official b h g taken --revision=x",
            "import official: --revision belongs to `lcm-scale import hub`",
        ),
        (
            "export plain run w.safetensors --dtype bf16",
            "export plain: --dtype belongs to `lcm-scale export hub`",
        ),
        (
            "export official run made --licence x",
            "export official: --licence belongs to `lcm-scale export hub`",
        ),
        (
            "import given taken --atlas x",
            "import hub: --atlas belongs to `lcm-scale import official`",
        ),
        (
            "import b h g taken --revision x",
            "import official: --revision belongs to `lcm-scale import hub`",
        ),
        (
            "export run w.safetensors --shard-gb 1",
            "export plain: --shard-gb belongs to `lcm-scale export hub`",
        ),
        ("export run made --format official --results x", "export official: --results belongs to"),
        ("export run made --format hubb", "--format hubb: one of hub, plain, official"),
        (
            "import a b c",
            "expected `import hub SOURCE RUN` or `import official BACKBONE HEAD GROUPS RUN`",
        ),
        ("import offical b h g taken", "did you mean 'official'?"),
        ("import b h g taken --readout adaptiv", "found 'adaptiv', did you mean 'adaptive'?"),
        (
            "import official b h g taken --readout adaptiv",
            "found 'adaptiv', did you mean 'adaptive'?",
        ),
        (
            "import official {pair} taken --heads 0 --atlas toy:12",
            "heads: expected a whole number from 1",
        ),
        (
            "import official {pair} taken --heads 3 --atlas toy:12",
            "is not a multiple of model.heads=3",
        ),
        ("export plain run made", "ends in .safetensors"),
        ("export hub run given", "given: exists; name a new folder"),
        ("import hub nowhere/at-all:x taken", "neither a folder nor a repository"),
    ],
)
def test_a_users_mistake_is_one_line_exit_2_and_nothing_written(
    line: str, expected: str, lcm: Call, pair: str, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = lcm(line.format(pair=pair))
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert expected in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "line", ["import", "export", "import hub", "export hub run made --nonsense", "export plain run"]
)
def test_wrong_usage_is_exit_2(line: str, lcm: Call) -> None:
    assert lcm(line)[0] == 2
