"""What was left out, for the person at the terminal: by reason, three examples each, and the whole
list where it is longer.

The list holds raw ids and file names, so it does not go into the shards' folder, which may be given
away: it lies beside the project's salt, readable by its owner alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lcm_scale.csv_text import csv_text
from lcm_scale.data.recordings import Skipped
from lcm_scale.files import write_atomic
from lcm_scale.identity import salt_path
from lcm_scale.terminal import print

FOLDER = ".lcm-private"
SHOWN = 3


def report_skipped(name: str, skipped: Sequence[Skipped]) -> None:
    """Args: name: of the set.  A list that cannot be written is said, and stops nothing."""
    by_reason: dict[str, list[str]] = {}
    for skip in skipped:
        by_reason.setdefault(skip.why, []).append(skip.what)
    for why, names in by_reason.items():
        print(f"skipped {len(names)}, {why}: {examples(names)}", file=sys.stderr)
    path = salt_path().parent / FOLDER / f"{name}-skipped.csv"
    try:
        path.unlink(missing_ok=True)  # of an earlier run
        if max(map(len, by_reason.values()), default=0) <= SHOWN:
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path.parent / ".gitignore").write_text("*\n", encoding="ascii")
        rows = [{"why": skip.why, "what": skip.what} for skip in skipped]
        write_atomic(path, csv_text(rows).encode())
    except OSError as error:
        print(f"{path}: the list cannot be written ({error.strerror})", file=sys.stderr)
        return
    print(f"skipped: all of them in {path} (raw names: not to be shared)", file=sys.stderr)


def examples(names: Sequence[str]) -> str:
    """The first few, and the number of the others."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
