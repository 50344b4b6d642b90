"""The paper's own table, run: how much of each published number is the protocol.

    python benchmarks/reproduce.py AUCKLAND_DIR TAOWU_DIR [key=value ...]    (make reproduce)

AUCKLAND_DIR holds `abide/` and `ppmi/` of the Auckland collection, TAOWU_DIR is its Taowu folder. The
three sets are sharded, one model is trained on all of them a fold (recipes/reproduce.yaml), and each set
is asked for its diagnosis twice: under `paper`, which is optimistic, and under `nested`. Both stand beside the
published accuracy and the tuned linear models on the same folds. `--sets` asks for some of them. What is
finished is not run again. Table and JSON: runs/reproduce/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lcm_scale.config import DataConfig
from lcm_scale.data.sets import open_sets

ROOT = Path(__file__).parents[1]
# set -> recipe of its shards, its folder under the collection ('' : its own), published accuracy in per cent
SETS = {
    "auckland-abide": ("auckland_abide", "abide", 71.46),
    "ppmi": ("ppmi", "ppmi", 61.90),
    "taowu-lw": ("taowu_lw", "", 95.0),
}
PROTOCOLS = ("paper", "nested")
# The published folds are not stratified; ten are made and five of them reported.
KEYS = {"paper": ["evaluate.folds=10"], "nested": ["evaluate.folds=5"]}
ADVICE = (
    "the Auckland collection is at doi 10.17608/k6.auckland.21397377 (CC BY 4.0): unpack its "
    "ABIDE, PPMI and Taowu"
)


def folders(collection: Path, taowu: Path) -> dict[str, Path]:
    """Of each set.  Raises: SystemExit where one is missing, naming it and where to get it."""
    found = {name: collection / part if part else taowu for name, (_, part, _) in SETS.items()}
    for name, folder in found.items():
        if not folder.is_dir():
            print(f"error: {folder}: no such folder for {name}; {ADVICE}", file=sys.stderr)
            raise SystemExit(2)
    return found


def lcm(*words: str) -> None:
    """A verb; ends with its exit code where that is not 0."""
    done = subprocess.run([sys.executable, "-m", "lcm_scale.cli", *words], cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def diagnoses() -> dict[str, str]:
    """Set -> what its diagnosis is called among all."""
    sets = open_sets(DataConfig(sets=list(SETS), shards_dir=str(ROOT / "shards")))
    return {n: own["diagnosis"] for n, own in zip(sets.names, sets.renames, strict=True)}


def measured(folder: Path) -> dict[str, dict[str, Any]]:
    """Model -> its accuracy, of the headline."""
    data = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    target = next(t for t in data["targets"] if t["target"] == data["headline"])
    return {
        model: next(m for m in metrics if m["name"] == "accuracy")
        for model, metrics in target["results"].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("auckland", type=Path)
    parser.add_argument("taowu", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    args = parser.parse_args()
    places = folders(args.auckland, args.taowu)
    for name, (recipe, _, _) in SETS.items():
        if not (ROOT / "shards" / name / "manifest.json").is_file():
            lcm("shard", f"recipes/data/{recipe}.yaml", f"source.dir={places[name].resolve()}")
    rows, named = [], diagnoses()
    for name in args.sets:
        for protocol in PROTOCOLS:
            run = f"reproduce/{name}-{protocol}"
            target = named[name]
            words = [f"name={run}", f"evaluate.set={name}", f"evaluate.target={target}"]
            words += [f"evaluate.targets=[{target}]", f"evaluate.protocol={protocol}"]
            lcm("evaluate", "recipes/reproduce.yaml", *words, *KEYS[protocol], *args.overrides)
            rows.append(
                {
                    "set": name,
                    "protocol": protocol,
                    "published": SETS[name][2],
                    "accuracy": measured(ROOT / "runs" / run),
                }
            )
    text = table(rows)
    print(text)
    out = ROOT / "runs" / "reproduce"
    (out / "table.md").write_text(text + "\n", encoding="utf-8")
    (out / "table.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown, per cent; brackets are 95 % intervals over people."""
    lines = [
        "| set | protocol | n | published | LCM | linear, edges | linear, tangent | majority |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = row["accuracy"]

        def cell(model: str, found: dict[str, dict[str, Any]] = found) -> str:
            own = found[model]
            low, high = 100 * own["low"], 100 * own["high"]
            return f"{100 * own['value']:.1f} [{low:.1f}, {high:.1f}]"

        cells = [cell(model) for model in ("LCM", "linear", "tangent", "majority")]
        mark = f"**{row['protocol']}, optimistic**" if row["protocol"] == "paper" else "nested"
        published = f"{row['published']:.2f}" if row["protocol"] == "paper" else ""
        lines.append(
            f"| {row['set']} | {mark} | {found['LCM']['n_subjects']} | {published} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
