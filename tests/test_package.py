"""Wheel and sdist, installed where there is no checkout: the recipes are there, and a set is made."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from lcm_scale import shipped
from lcm_scale.errors import InputError

ROOT = Path(__file__).parents[1]


def quiet(*words: str, cwd: Path, **more: str) -> str:
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **more}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both files, built from a copy of what git would take along, without its history."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in ("src", "recipes", "slurm", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        quiet("cp", "-r", str(ROOT / name), str(copy), cwd=ROOT)
    code = (
        "from setuptools import build_meta as b; import sys; out = sys.argv[1]; "
        "b.build_sdist(out); b.build_wheel(out)"
    )
    quiet(sys.executable, "-c", code, str(out), cwd=copy)
    return out


@pytest.mark.package
def test_the_sdist_holds_what_the_wheel_is_made_of(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"recipes/demo.yaml", "recipes/data/abide.yaml", "slurm/pretrain_1b.sh"} <= held
    assert not [name for name in held if name.endswith("site.env")]


@pytest.mark.package
def test_the_wheel_works_without_a_checkout(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
    shipped_in_it = {n.partition("share/lcm-scale/")[2] for n in held if "share/lcm-scale" in n}
    assert shipped_in_it == set(shipped.files()), "setup.cfg's data_files lack a folder"
    # Without --ignore-installed pip would take the environment's own copy away first.
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--ignore-installed", "--quiet")
    quiet(*pip, "--prefix", str(tmp_path / "there"), str(wheel), cwd=tmp_path)
    (packages,) = (tmp_path / "there").rglob("site-packages")
    work = tmp_path / "work"
    work.mkdir()

    def lcm(line: str) -> str:
        command = (sys.executable, "-m", "lcm_scale.cli", *line.split())
        return quiet(*command, cwd=work, PYTHONPATH=str(packages))

    where = quiet(
        *(sys.executable, "-c", "import lcm_scale; print(lcm_scale.__file__)"),
        cwd=work,
        PYTHONPATH=str(packages),
    )
    assert str(packages) in where
    assert "demo_finetune" in lcm("recipes list")
    lcm("recipes copy demo data/demo_pretrain slurm")
    assert os.access(work / "slurm" / "pretrain_1b.sh", os.X_OK)
    assert "raw files are made then" in lcm("shard recipes/data/demo_pretrain.yaml --dry-run")


def test_a_copy_brings_what_a_recipe_lies_on(tmp_path: Path) -> None:
    written = shipped.copy(["ablation", "data/taowu_lw"], tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in written} == {
        "recipes/ablation.yaml",
        "recipes/ablation_run.yaml",
        "recipes/optim/two_stage.yaml",
        "recipes/data/taowu_lw.yaml",
        "recipes/data/taowu.yaml",
    }


def test_what_stands_there_is_left_alone_and_nothing_else_is_written(tmp_path: Path) -> None:
    shipped.copy(["demo"], tmp_path)
    shipped.copy(["demo"], tmp_path)  # the same bytes: nothing to do
    mine = tmp_path / "recipes" / "demo_real.yaml"
    mine.write_text("name: mine\n")
    with pytest.raises(InputError, match="exists and is another file"):
        shipped.copy(["abide_small", "demo_real"], tmp_path)
    assert mine.read_text() == "name: mine\n"
    assert not (tmp_path / "recipes" / "abide_small.yaml").exists()


def test_every_recipe_says_what_it_is_for() -> None:
    for name in shipped.names():
        assert 10 < len(shipped.purpose(name)) < 180, name


def test_a_name_that_is_none_is_one_line() -> None:
    with pytest.raises(InputError, match="did you mean 'abide_small'"):
        shipped.wanted("abide_smal")
