"""Which commit a run is said to come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lcm_scale import provenance


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module's file inside a repository that does not hold it, and whose tree has edits."""
    (tmp_path / "tracked").write_text("before")
    for words in (["init", "-q"], ["add", "tracked"], ["commit", "-qm", "theirs"]):
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
        subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "tracked").write_text("after")
    file = tmp_path / "provenance.py"
    file.touch()
    monkeypatch.setattr(provenance, "__file__", str(file))
    monkeypatch.delenv("LCM_COMMIT", raising=False)
    return file


def test_the_commit_of_another_repository_around_us_is_not_ours(module: Path) -> None:
    assert provenance.provenance(0)["commit"] == "unknown"
    subprocess.run(["git", "add", module.name], cwd=module.parent, check=True)
    assert len(provenance.provenance(0)["commit"]) == 40


def test_a_job_that_runs_a_copy_of_its_commit_is_clean_whatever_was_edited_since(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not provenance.provenance(0)["clean_tree"]
    monkeypatch.setenv("LCM_COMMIT", "of the submission")
    facts = provenance.provenance(0)
    assert (facts["commit"], facts["clean_tree"]) == ("of the submission", True)


def test_a_machine_without_git_knows_no_commit(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(module.parent))
    facts = provenance.provenance(0)
    assert (facts["commit"], facts["clean_tree"]) == ("unknown", False)
