"""The runs of an ablation with their models and baselines made in several processes, each as one
process makes it.

A run is begun when a process is free for it, and its report is written as soon as its last model is
there. What is finished is not made again; a run that another process is at is left to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

from lcm_scale import progress
from lcm_scale.config import Recipe, dump, from_stored
from lcm_scale.config.yaml_text import parse
from lcm_scale.data.pool import as_done, start
from lcm_scale.errors import InputError
from lcm_scale.evaluation import MAKERS
from lcm_scale.evaluation.held_out import Answers
from lcm_scale.evaluation.plain import Beside
from lcm_scale.evaluation.prepare import LOCK, prepare_evaluation
from lcm_scale.evaluation.side_by_side import (
    Found,
    Part,
    alone,
    beside,
    check_alone,
    make,
    parts_of,
    said,
    stopping,
)
from lcm_scale.lock import InUse, holding
from lcm_scale.sweep.ablate import Outcome, begin, run_one
from lcm_scale.sweep.variants import Ablation
from lcm_scale.terminal import print, quiet

# A run's recipe, and a part of it, or what was found where its report is all that is left.
Job = tuple[str, str, Part | Beside]


@dataclass(frozen=True)
class _Failed:
    """Attributes: busy: another process is at it."""

    reason: str
    busy: bool


Made = list[Answers] | _Failed


class _Runs:
    """Where the runs of an ablation stand.

    Attributes:
        left: run -> how many of its parts are not made.   found: run -> what the others came to.
        held: run -> its lock.   over: runs of which nothing more is to be made.
        done, busy, failed: as in `ablate.Outcome`.
    """

    def __init__(self, recipes: dict[str, Recipe]) -> None:
        self.recipes = recipes
        self.left: dict[str, int] = {}
        self.found: dict[str, Found] = {}
        self.held: dict[str, ExitStack] = {}
        self.over: set[str] = set()
        self.done: list[str] = []
        self.busy: list[str] = []
        self.failed: list[tuple[str, str]] = []

    def jobs(self) -> Iterator[Job]:
        """Parts of every run, in their order. It is prepared, and taken, when its first part is
        asked for."""
        for name, recipe in self.recipes.items():
            try:
                parts = self._taken(name, recipe)
            except InputError as error:
                self.end(name, _failed(error))
                continue
            text = dump(recipe)
            yield from ((name, text, part) for part in parts if name not in self.over)

    def _taken(self, name: str, recipe: Recipe) -> list[Part]:
        prepared = prepare_evaluation(recipe)
        held = ExitStack()
        held.enter_context(holding(prepared.folder / LOCK))
        self.held[name], self.found[name] = held, {}
        parts = parts_of(prepared)
        self.left[name] = len(parts)
        print(f"{name}: {len(parts)} models and baselines", flush=True)
        return parts

    def after(self, job: Job, made: Made) -> list[Job]:
        """What is to be done once a part is made: a run's report, when all of it is there."""
        name, text, part = job
        if isinstance(made, _Failed):
            self.end(name, made)
        elif isinstance(part, Beside):
            self.end(name)
        else:
            self.found[name][part] = made
            self.left[name] -= 1
            if not self.left[name] and name not in self.over:
                self.held.pop(name).close()  # who writes the report takes it
                return [(name, text, beside(self.found.pop(name)))]
        return []

    def end(self, name: str, failed: _Failed | None = None) -> None:
        """A run is finished, or will not be: the first reason is kept."""
        if name in self.over:
            return
        self.over.add(name)
        if failed is None:
            self.done.append(name)
        elif failed.busy:
            self.busy.append(name)
        else:
            self.failed.append((name, failed.reason))
        if name in self.held:
            self.held.pop(name).close()

    def close(self) -> None:
        for held in self.held.values():
            held.close()


def run(ablation: Ablation, jobs: int) -> Outcome:
    """As `ablate.run`, with `jobs` processes that make models, baselines and reports.

    Raises: as `ablate.run`; InputError where several ranks train one model.
    """
    for variant in ablation.variants:
        check_alone(variant.recipe)
    start(*MAKERS, __name__)
    before, left = begin(ablation)
    runs = _Runs({name: alone(recipe) for name, recipe in left.items()})
    label = f"ablation {ablation.recipe.name}, {jobs} at a time"
    with (
        closing(runs),
        stopping(ablation.folder),
        progress.stage(label, len(ablation.runs), len(before)) as advance,
        closing(as_done(_made, runs.jobs(), jobs, runs.after)) as results,
    ):
        over = 0
        for (name, _, part), _ in results:
            what = "report" if isinstance(part, Beside) else said(part)
            advance(len(runs.over) - over, note=f"{name}: {what}")
            over = len(runs.over)
    return Outcome(tuple(runs.done), before, tuple(runs.busy), tuple(runs.failed))


# -- in another process ----------------------------------------------------------------------------


def _made(job: Job) -> Made:
    _, text, part = job
    try:
        if not isinstance(part, Beside):
            return make(text, part)
        with quiet():
            run_one(from_stored(Recipe, parse(text, "recipe")), part)
        return []
    except InputError as error:  # such as a loss that became no number: the others go on
        return _failed(error)


def _failed(error: InputError) -> _Failed:
    return _Failed(str(error), isinstance(error, InUse))
