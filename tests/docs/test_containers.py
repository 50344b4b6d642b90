"""The container files name what is there: what they copy, the extras, and each other's arguments.

The images themselves are built by hand (docs/containers.md says how, and what was tried).
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "containers" / "Dockerfile").read_text(encoding="utf-8")
DEFINITION = (ROOT / "containers" / "lcm-scale.def").read_text(encoding="utf-8")
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def copied() -> list[str]:
    """What the Dockerfile takes from the repository."""
    lines = re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
    return [name for line in lines for name in line.split()[:-1]]


def section(name: str) -> str:
    """A section of the Apptainer definition."""
    return re.split(r"^%", DEFINITION.partition(f"%{name}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def defaults(lines: str) -> dict[str, str]:
    return {
        key: value.strip('"') for key, value in re.findall(r"^([A-Z_]+)=(.*)$", lines, re.MULTILINE)
    }


def test_what_is_copied_is_there_and_the_same_in_both() -> None:
    assert not [name for name in copied() if not (ROOT / name).exists()]
    assert [line.split()[0] for line in section("files").strip().splitlines()] == copied()


def test_docker_is_shown_what_is_copied_and_no_settings_of_a_site() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert [rule[1:] for rule in rules if rule.startswith("!")] == copied()
    after = [rule for rule in rules[1:] if not rule.startswith("!")]
    assert any(fnmatch("slurm/site.env", rule) for rule in after)


def test_a_wheel_can_be_built_from_what_is_copied() -> None:
    folders = {line.split("=")[1].strip().split("/")[0] for line in data_files()}
    assert folders <= set(copied())
    assert SETUP["metadata"]["long_description"].removeprefix("file: ") in copied()
    assert SETUP["metadata"]["license_files"] in copied()


def data_files() -> list[str]:
    """Lines `where = from`, those with several files among them."""
    text = SETUP["options.data_files"]
    return [f"{where} = {files.split()[0]}" for where, files in text.items()]


def test_arguments_and_extras_are_the_same_in_both_and_exist() -> None:
    ours = defaults("\n".join(re.findall(r"^ARG (.+)$", DOCKERFILE, re.MULTILINE)))
    theirs = defaults(re.sub(r"^ +", "", section("arguments"), flags=re.MULTILINE))
    assert ours == {**theirs, "TORCH_INDEX": ""}
    assert set(ours["EXTRAS"].split(",")) <= set(SETUP["options.extras_require"])
    assert set(re.findall(r"{{ (\w+) }}", DEFINITION)) == set(theirs)


def test_what_apptainer_runs_is_clean_shell(tmp_path: Path) -> None:
    for name in ("post", "environment", "runscript", "test"):
        script = tmp_path / f"{name}.sh"
        script.write_text(re.sub(r"{{ (\w+) }}", r"\1", section(name)), encoding="utf-8")
        checked = subprocess.run(
            [Path(sys.executable).with_name("shellcheck"), "--shell=sh", script],
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, checked.stdout
