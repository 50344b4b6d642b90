"""Where a run comes from: versions, commit, seed and hardware. No host, user or path of a
machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lcm_scale
from lcm_scale import plugins


def versions() -> dict[str, str]:
    """Of what numbers depend on: the package, its libraries, and the plug-ins that are in use."""
    return {
        "lcm_scale": lcm_scale.__version__,
        "torch": str(torch.__version__),
        "lightning": metadata.version("lightning"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        **plugins.used(),
    }


def provenance(seed: int) -> dict[str, Any]:
    """Versions, commit, seeds and hardware; no host or user name."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:  # a container's image may hold no git
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    # A Slurm job runs a clean copy of this commit, whatever stands in the tree by now.
    submitted = os.environ.get("LCM_COMMIT", "")
    # An installed package, or a project in somebody's other repository, has no commit there.
    ours = git("ls-files", Path(__file__).name)
    commit = submitted or (ours and git("rev-parse", "HEAD"))
    edited = commit and not submitted and git("status", "--porcelain", "--untracked-files=no")
    return {
        "versions": versions(),
        "commit": commit or "unknown",
        "clean_tree": bool(commit) and not edited,
        "seed": seed,
        "hardware": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.machine()} CPU",
    }
