"""The batch scripts with a scheduler that is only said to be there: which code a job runs, and what
it says of requeues. Real jobs are in test_jobs.py."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("pretrain_147m", "pretrain_1b", "finetune", "sweep", "shard")
SCONTROL = """#!/usr/bin/env bash
if [ "$1" = requeue ]; then echo "requeued $2" >> "$FAKE/calls"; else cat "$FAKE/job"; fi
"""
SRUN = """#!/usr/bin/env bash
while [ "${1#-}" != "$1" ]; do shift; done
"$@"
"""
# lcm-scale, as far as the scripts see it: which code and which recipe it was given.
LCM = """#!/usr/bin/env bash
[ "$1" != doctor ] || exit 0
echo "code ${PYTHONPATH:-tree} commit ${LCM_COMMIT:-none}"
echo "recipe $2: $(cat "$2")"
exit "${FAKE_CODE:-0}"
"""


@dataclass
class Project:
    """A checkout with the shipped scripts, and jobs that are started by hand."""

    root: Path
    fake: Path

    def git(self, *words: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def submit(self) -> Path:
        """What sbatch does: keeps the script, and the time."""
        script = self.fake / "spooled"
        script.write_bytes((self.root / "slurm" / "finetune.sh").read_bytes())
        self.job("RUNNING", restarts=0)
        time.sleep(1.1)  # Slurm's clock counts seconds
        return script

    def job(self, state: str, restarts: int) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%S")
        (self.fake / "job").write_text(
            f"   JobState={state} Reason=None\n   Requeue=1 Restarts={restarts} BatchFlag=1\n"
            f"   SubmitTime={now} EligibleTime={now}\n"
        )

    def start(
        self, script: Path, folder: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return subprocess.run(
            ["bash", str(script)],
            capture_output=True,
            text=True,
            env={
                **own,
                "PATH": f"{self.fake}:{os.environ['PATH']}",
                "FAKE": str(self.fake),
                "LCM_SITE": str(self.fake / "site.env"),
                "SLURM_JOB_ID": "7",
                "SLURM_CLUSTER_NAME": "c",
                "SLURM_SUBMIT_DIR": str(folder or self.root),
                "PYTHONPATH": "",
                **environment,
            },
        )


def make_project(tmp_path: Path, root: Path) -> Project:
    fake = tmp_path / "fake"
    fake.mkdir()
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN), ("lcm-scale", LCM)):
        (fake / name).write_text(text)
        (fake / name).chmod(0o755)
    (fake / "bin").symlink_to(fake)
    (fake / "site.env").write_text(
        f"LCM_VENV={fake}\nLCM_RUNS={tmp_path}/runs\nLCM_MIN_SECONDS=0\n"
    )
    (root / "src").mkdir(parents=True)
    (root / "src" / "code.py").write_text("as submitted\n")
    (root / "recipes" / "optim").mkdir(parents=True)
    (root / "recipes" / "demo_finetune.yaml").write_text("as submitted")
    (root / "slurm").mkdir()
    for file in ROOT.glob("slurm/*.sh"):
        (root / "slurm" / file.name).write_bytes(file.read_bytes())
    return Project(root, fake)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = make_project(tmp_path, tmp_path / "project")
    made.git("init", "-q")
    made.git("add", "-A")
    made.git("commit", "-qm", "as submitted")
    return made


def edit_the_code(project: Project) -> None:
    (project.root / "src" / "code.py").write_text("tomorrow\n")


def edit_the_recipe_and_the_scripts(project: Project) -> None:
    (project.root / "recipes" / "demo_finetune.yaml").write_text("tomorrow")
    for name in ("job.sh", "finetune.sh"):
        (project.root / "slurm" / name).write_text("exit 9\n")


def commit_everything(project: Project) -> None:
    edit_the_recipe_and_the_scripts(project)
    project.git("commit", "-qam", "tomorrow")


def amend_and_collect(project: Project) -> None:
    edit_the_code(project)
    project.git("commit", "-qa", "--amend", "-m", "another")
    project.git("gc", "-q")


def go_to_another_branch(project: Project) -> None:
    project.git("checkout", "-q", "-b", "other")
    project.git("rm", "-q", "-r", "slurm", "recipes")
    project.git("commit", "-qm", "without")


def delete_files(project: Project) -> None:
    (project.root / "recipes" / "demo_finetune.yaml").unlink()
    (project.root / "slurm" / "job.sh").unlink()


@pytest.mark.parametrize(
    "edit",
    [
        edit_the_code,
        edit_the_recipe_and_the_scripts,
        commit_everything,
        amend_and_collect,
        go_to_another_branch,
        delete_files,
    ],
)
def test_no_edit_after_submission_changes_or_ends_a_job(
    edit: Callable[[Project], None], project: Project
) -> None:
    commit = project.git("rev-parse", "HEAD")
    script = project.submit()
    edit(project)
    done = project.start(script)
    assert done.returncode == 0, done.stderr
    assert f"code-{commit}/src commit {commit}" in done.stdout
    assert "demo_finetune.yaml: as submitted" in done.stdout
    copy = done.stdout.partition("code ")[2].partition(" ")[0]
    assert (Path(copy) / "code.py").read_text() == "as submitted\n"
    # And after a requeue, which moves SubmitTime behind the edit.
    project.git("add", "-A")
    project.git("commit", "-q", "--allow-empty", "-m", "later")
    project.job("RUNNING", restarts=1)
    again = project.start(script, SLURM_RESTART_COUNT="1")
    assert again.stdout == done.stdout and again.returncode == 0, again.stderr


@pytest.mark.parametrize("edit", [edit_the_code, delete_files])
def test_what_was_edited_before_is_refused_or_run_where_that_is_asked_for(
    edit: Callable[[Project], None], project: Project
) -> None:
    edit(project)
    script = project.submit()
    done = project.start(script)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "edits that are not committed (" in done.stderr
    if edit is edit_the_code:
        asked = project.start(script, LCM_DIRTY_OK="1")
        assert asked.returncode == 0 and "code tree commit" in asked.stdout, asked.stderr


def test_a_job_number_that_comes_again_runs_its_own_commit(project: Project) -> None:
    project.git(
        "update-ref", "refs/lcm-jobs/c/7", "HEAD"
    )  # of a cluster that was set up anew since
    edit_the_code(project)
    project.git("commit", "-qam", "newer")
    commit = project.git("rev-parse", "HEAD")
    done = project.start(project.submit())
    assert f"commit {commit}" in done.stdout, done.stderr


def test_without_a_reflog_the_commit_is_the_newest_not_younger(project: Project) -> None:
    (project.root / ".git" / "logs" / "HEAD").unlink()
    project.git("config", "core.logAllRefUpdates", "false")
    commit = project.git("rev-parse", "HEAD")
    script = project.submit()
    commit_everything(project)
    done = project.start(script)
    assert f"commit {commit}" in done.stdout, done.stderr
    assert f"no reflog here: running {commit}" in done.stderr


@pytest.mark.parametrize("around", [False, True])
def test_a_project_that_git_does_not_track_runs_as_it_stands(around: bool, tmp_path: Path) -> None:
    project = make_project(tmp_path, tmp_path / "home" / "project")
    if around:
        subprocess.run(["git", "init", "-q"], cwd=tmp_path / "home", check=True)
        (tmp_path / "home" / ".bashrc").write_text("")
        home = Project(tmp_path / "home", project.fake)
        home.git("add", ".bashrc")
        home.git("commit", "-qm", "dotfiles")
    done = project.start(project.submit())
    assert done.returncode == 0 and "code tree" in done.stdout, done.stderr
    assert not (tmp_path / "runs" / ".jobs").exists()


def test_a_project_inside_a_larger_repository_runs_its_commit(tmp_path: Path) -> None:
    project = make_project(tmp_path, tmp_path / "mono" / "project")
    mono = Project(tmp_path / "mono", project.fake)
    mono.git("init", "-q")
    mono.git("add", "-A")
    mono.git("commit", "-qm", "all")
    commit = mono.git("rev-parse", "HEAD")
    script = project.submit()
    edit_the_recipe_and_the_scripts(project)
    done = project.start(script)
    assert f"commit {commit}" in done.stdout and ": as submitted" in done.stdout, done.stderr


def test_a_recipe_of_ones_own_that_is_not_committed_is_read_where_it_lies(project: Project) -> None:
    (project.root / "recipes" / "mylab.yaml").write_text("mine")
    script = project.submit()
    for name in ("recipes/mylab.yaml", str(project.root / "recipes" / "mylab.yaml")):
        done = project.start(script, LCM_RECIPE=name)
        assert done.returncode == 0 and f"recipe {name}: mine" in done.stdout, done.stderr
        assert f"{name} is not among the recipes of the submission's commit" in done.stderr


def test_submitted_from_the_folder_of_the_scripts(project: Project, tmp_path: Path) -> None:
    script = project.submit()
    done = project.start(script, folder=project.root / "slurm")
    assert done.returncode == 0 and ": as submitted" in done.stdout, done.stderr
    (tmp_path / "elsewhere").mkdir()
    done = project.start(script, folder=tmp_path / "elsewhere")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "submit from the project's folder" in done.stderr


@pytest.mark.parametrize(
    ("state", "restarts", "said", "requeued"),
    [
        ("RUNNING", 0, "", True),
        ("COMPLETING", 0, "cancelled: submit it again", False),
        ("COMPLETING", 1, "Slurm has requeued the job", False),
        ("RUNNING", 1, "Slurm has requeued the job", False),
    ],
)
def test_a_run_that_was_stopped_is_requeued_unless_slurm_has_done_it(
    state: str, restarts: int, said: str, requeued: bool, project: Project
) -> None:
    script = project.submit()
    project.job(state, restarts)
    done = project.start(script, FAKE_CODE="75")
    assert done.returncode == 75
    assert said in done.stderr
    assert ("submit it again" in done.stderr) == ("submit it again" in said)
    assert (project.fake / "calls").exists() == requeued


def test_all_scripts_begin_alike() -> None:
    def beginning(name: str) -> str:
        text = (ROOT / "slurm" / f"{name}.sh").read_text()
        return text.partition("# All else is")[2].partition("snapshot")[0]

    assert len({beginning(name) for name in SCRIPTS}) == 1
    assert "git show" in beginning("shard")
