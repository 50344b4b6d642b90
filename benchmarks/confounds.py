"""What site, motion, scan length, age and sex tell of a set's labels without any matrix, and what is
left of the tangent baseline's score among people who are alike in them.

    python benchmarks/confounds.py shards/abide --targets diagnosis,sex,age --out FILE.json

Five folds by person, seed 142857, stratified by the first target; nothing of ours is trained.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lcm_scale import config
from lcm_scale.config import Recipe
from lcm_scale.evaluation.baselines import fit_predict
from lcm_scale.evaluation.confounds import covariates, told_by, within_strata
from lcm_scale.evaluation.held_out import Answers, measured, predictions_of
from lcm_scale.evaluation.permutation import permuted
from lcm_scale.evaluation.prepare import PreparedEvaluation, prepare_evaluation
from lcm_scale.evaluation.questions import Question

MODEL = "tangent"
PERMUTATIONS = 1000


def tangent(prepared: PreparedEvaluation, question: Question, edges: np.ndarray) -> list[Answers]:
    """Of every fold's held-out scans."""
    sets, scans = prepared.opened.sets, prepared.scans
    truth = question.truth(sets.labels[scans])
    found = []
    for fold in prepared.folds:
        train = fold.fitted[np.isfinite(truth[fold.fitted])]
        answer = fit_predict(
            MODEL,
            edges[train],
            truth[train],
            sets.together[scans[train]],
            edges[fold.test],
            question.kind,
            len(question.categories),
            prepared.recipe.evaluate.seed,
            log=question.target.log,
        )
        found.append({MODEL: answer})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--targets", default="diagnosis,sex,age")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    asked = [f"data.shards_dir={args.shards.parent}", f"data={args.shards.name}"]
    first = args.targets.split(",")[0]
    asked += [f"evaluate.targets=[{args.targets}]", f"evaluate.stratify={first}"]
    recipe = config.load(Recipe, None, ["name=confounds", "evaluate.bootstrap=1000", *asked])
    prepared = prepare_evaluation(recipe)
    sets = prepared.opened.sets
    edges = prepared.opened.source.gather(prepared.scans).astype(np.float32)
    results = []
    for question in prepared.questions:
        p = predictions_of(prepared, question, tangent(prepared, question, edges))[MODEL]
        own = [c for c in covariates(sets) if c.name != question.target.name]
        row = {
            "target": question.target.name,
            "tangent": [asdict(m) for m in measured(prepared, p).metrics()],
            "told": [asdict(told) for told in told_by(prepared, question, p, own)],
            "within": [asdict(within_strata(prepared, p, c)) for c in own],
        }
        if question.kind == "class":
            row["permuted"] = [
                asdict(permuted(p, "auroc", PERMUTATIONS, recipe.evaluate.seed, site))
                for site in (None, sets.site)
            ]
        results.append(row)
        print(json.dumps(row, indent=1), flush=True)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
