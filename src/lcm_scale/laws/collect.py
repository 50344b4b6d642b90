"""What a sweep's run folders hold, one `Configuration` a model or baseline, its folds averaged.

Named and left out: points that are missing, that diverged, or that lack a fold which others have.
Refused: points over different data or vocabularies, whose losses do not compare.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lcm_scale.errors import InputError
from lcm_scale.laws.laws import Runs
from lcm_scale.sweep.finished import (
    AGAIN,
    ALL,
    RESULT,
    is_finished,
    read_predictions,
    read_result,
)
from lcm_scale.sweep.measure import total_loss
from lcm_scale.sweep.plan import Plan
from lcm_scale.sweep.points import SHORT, Point, Sweep, shape_of
from lcm_scale.sweep.run import diverged


@dataclass(frozen=True)
class Configuration:
    """One model or baseline on one number of people, its folds averaged.

    Attributes:
        size: or a baseline's name.   name: of its first run, the fold aside.
        parameters, body: 0 for a baseline.   losses: target -> loss.   metrics: (target, metric) ->
            value.
        settings: the overrides beyond size, epochs and seed, which tell configurations of the same
            size and data apart.
        learning_rate: where the sweep varied it, else None.
        start: what it was started from, `init_from` of its recipe; '' for nothing.
    """

    size: str
    name: str
    is_baseline: bool
    parameters: int
    body: int
    people: int
    scans: int
    epochs: int
    seed: int
    draw: int
    label_share: float
    settings: tuple[str, ...]
    learning_rate: float | None
    start: str
    loss: float
    last_loss: float
    chance: float
    losses: Mapping[str, float]
    metrics: Mapping[tuple[str, str], float]
    flops: float
    seconds: float
    hours: float
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Collected:
    """All rows of a sweep, and what is not among them.

    Attributes:
        missing, diverged, incomplete: names.   extra: points of the folder that the recipe does not
            name any more.
    """

    sweep: Sweep
    rows: tuple[Configuration, ...]
    baselines: tuple[Configuration, ...]
    missing: tuple[str, ...]
    diverged: tuple[str, ...]
    incomplete: tuple[str, ...]
    extra: int
    simulated: bool
    people_held_out: int
    weights: Mapping[str, float]


def collect(made: Plan) -> Collected:
    """Read the finished points of a plan.  Raises: InputError where none is finished, or they do
    not compare."""
    sweep = made.sweep
    hours = {p.point.name: p.hours for p in made.points}
    points = made.runnable
    finished = [p for p in points if is_finished(sweep.folder_of(p))]
    if not finished:
        raise InputError(
            f"{sweep.folder}: none of its {len(points)} points is finished; lcm-scale sweep run "
            "first"
        )
    facts = {p.name: read_result(sweep.folder_of(p), ALL) for p in finished}
    _same_data(sweep, facts)
    bad = tuple(name for name, f in facts.items() if diverged(f))
    groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for p in finished:
        if p.name not in bad:
            shape = () if p.is_baseline else shape_of(p.size)
            settings = tuple(
                o
                for o in p.overrides
                if o not in shape and not o.startswith(("trainer.max_epochs=", "seed="))
            )
            groups[
                (
                    p.size,
                    p.is_baseline,
                    p.subjects,
                    p.epochs,
                    p.seed,
                    p.draw,
                    p.label_share,
                    settings,
                )
            ].append(p.name)
    folds = max((len(names) for names in groups.values()), default=0)
    incomplete = tuple(n for names in groups.values() if len(names) < folds for n in names)
    points_of = {p.name: p for p in finished}
    rows = [
        _configuration(key, names, facts, hours, sweep, points_of[names[0]])
        for key, names in groups.items()
        if len(names) == folds
    ]
    with_results = {f.parent.name for f in (sweep.folder / "points").glob(f"*/{RESULT}")}
    first = next(iter(facts.values()))
    return Collected(
        sweep,
        tuple(r for r in rows if not r.is_baseline),
        tuple(r for r in rows if r.is_baseline),
        tuple(p.name for p in points if p not in finished),
        bad,
        incomplete,
        len(with_results - {p.name for p in points}),
        any(f["simulated"] for f in facts.values()),
        first["people_held_out"],
        first["weights"] if "weights" in first else _weights(sweep, first),
    )


def runs_of(rows: Sequence[Configuration], parameters: str, data: str, epoch: str) -> Runs:
    """Rows as a law sees them: see `FitConfig` for the choices. Seeds of one size on the same
    people are one cluster."""
    n = [float(r.body if parameters == "body" else r.parameters) for r in rows]
    unique = [float(r.people if data == "subjects" else r.scans) for r in rows]
    seen = [
        float(r.scans * r.epochs) if data == "seen" else u
        for r, u in zip(rows, unique, strict=True)
    ]
    keys = [(r.size, r.people, r.epochs, r.draw) for r in rows]
    places = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return Runs(
        np.array([r.loss if epoch == "chosen" else r.last_loss for r in rows]),
        np.array(n),
        np.array(seen),
        np.array(unique),
        np.array([float(r.epochs) for r in rows]),
        np.array([places[key] for key in keys]),
    )


def best_rates(rows: Sequence[Configuration]) -> tuple[list[Configuration], int]:
    """Of rows that differ only in rate or decay, the one with the lowest loss; fully labelled rows
    of one start only, from nothing where some are.

    Returns: the rows and how many were passed over.
    """
    best: dict[tuple[Any, ...], Configuration] = {}
    # A law has no term for what was learnt before: runs that know more than their people show
    # would bend it.
    first = min((row.start for row in rows), default="")
    for row in rows:
        key = (row.size, row.people, row.epochs, row.seed, row.draw)
        usable = row.label_share == 1 and row.start == first
        if usable and (key not in best or row.loss < best[key].loss):
            best[key] = row
    return list(best.values()), len(rows) - len(best)


@dataclass(frozen=True)
class BestRate:
    """At one size: the rate of the lowest mean loss; and the loss at the smallest size's best rate,
    where that was run."""

    size: str
    rate: float
    loss: float
    transferred: float | None


def losses_by_rate(rows: Sequence[Configuration]) -> dict[str, dict[float, float]]:
    """Size, smallest first -> rate -> mean loss, of sizes that ran at several."""
    found: dict[str, dict[float, list[float]]] = {}
    for row in sorted(rows, key=lambda r: r.parameters):
        if row.learning_rate is not None:
            by_rate = found.setdefault(row.size, {})
            by_rate.setdefault(row.learning_rate, []).append(row.loss)
    return {
        size: {rate: float(np.mean(losses[rate])) for rate in sorted(losses)}
        for size, losses in found.items()
        if len(losses) > 1
    }


def best_rate_by_size(rows: Sequence[Configuration]) -> list[BestRate]:
    by_rate = losses_by_rate(rows)
    best = {size: min(losses, key=losses.__getitem__) for size, losses in by_rate.items()}
    return [
        BestRate(size, best[size], losses[best[size]], losses.get(next(iter(best.values()))))
        for size, losses in by_rate.items()
    ]


@dataclass(frozen=True)
class Ensemble:
    """K seeds of one size, their answers averaged, beside the single model whose FLOPs come nearest
    to the K together."""

    size: str
    parameters: int
    people: int
    seeds: int
    flops: float
    single: float
    together: float
    larger: str
    larger_parameters: int
    larger_flops: float
    larger_loss: float


def ensembles(collected: Collected) -> list[Ensemble]:
    """Every set of at least two seeds on the same people for the same epochs, with the nearest
    larger model on these people."""
    groups: dict[tuple[Any, ...], list[Configuration]] = defaultdict(list)
    for row in collected.rows:
        groups[(row.size, row.people, row.epochs, row.draw, row.label_share, row.settings)].append(
            row
        )
    out = []
    for members in groups.values():
        row = members[0]
        if len(members) < 2:
            continue
        larger = [
            r
            for r in collected.rows
            if (r.people, r.draw, r.start) == (row.people, row.draw, row.start)
            and r.parameters > row.parameters
        ]
        for count in sorted({c for c in (2, 4, 8, 16, len(members)) if c <= len(members)}):
            chosen = members[:count]
            flops = sum(r.flops for r in chosen)
            near = min(larger, key=_distance(flops), default=None)
            if near is not None:
                out.append(
                    Ensemble(
                        row.size,
                        row.parameters,
                        row.people,
                        count,
                        flops,
                        float(np.mean([r.loss for r in chosen])),
                        _together(collected, chosen),
                        near.size,
                        near.parameters,
                        near.flops,
                        near.loss,
                    )
                )
    return out


def _distance(flops: float) -> Callable[[Configuration], float]:
    return lambda row: abs(float(np.log(row.flops / flops)))


def _together(collected: Collected, members: Sequence[Configuration]) -> float:
    """Held-out loss of the averaged answers, the mean over folds."""
    folds = []
    for same_fold in zip(*(m.folders for m in members), strict=True):
        read = [
            read_predictions(collected.sweep.folder / "points" / name, members[0].losses)
            for name in same_fold
        ]
        answers = {}
        for target, (first, truth) in read[0].items():
            scores = [each[target][0] for each in read]
            if {one.shape for one in scores} != {first.shape}:
                raise InputError(
                    f"{', '.join(same_fold)}: their predictions are not of the same scans; {AGAIN}"
                )
            answers[target] = (np.mean(scores, axis=0), truth)
        folds.append(total_loss(answers, collected.weights)[0])
    return float(np.mean(folds))


# -- reading ---------------------------------------------------------------------------------------


def _same_data(sweep: Sweep, facts: Mapping[str, dict[str, Any]]) -> None:
    marks = Counter(f["vocabulary"] for f in facts.values())
    if len(marks) > 1:
        common, _ = marks.most_common(1)[0]
        others = [name for name, f in facts.items() if f["vocabulary"] != common]
        raise InputError(
            f"{sweep.folder}: its points were run on {len(marks)} different data sets or "
            "vocabularies, whose losses do not "
            f"compare: {', '.join(others[:3])}{' ...' if len(others) > 3 else ''} ({len(others)} "
            f"of {len(facts)}) differ from "
            "the rest; remove those folders or give the sweep another name"
        )
    targets = Counter(tuple(sorted(f["losses"])) for f in facts.values() if not diverged(f))
    if len(targets) > 1:
        raise InputError(f"{sweep.folder}: its points were measured on different targets; {AGAIN}")


def _weights(sweep: Sweep, facts: Mapping[str, Any]) -> dict[str, float]:
    objective = sweep.base.objective
    scalar = {m["target"] for m in facts["metrics"] if m["metric"] == "r2"}
    return {name: objective.weight(name, name not in scalar) for name in facts["losses"]}


def _varied_learning_rate(sweep: Sweep, point: Point) -> float | None:
    """The point's learning rate as its recipe has it, None where no axis sets it."""
    key = SHORT["lr"]
    if not any(override.startswith(f"{key}=") for override in point.overrides):
        return None
    return float(sweep.recipe_of(point).optim.adaptive.lr)


def _configuration(
    key: tuple[Any, ...],
    names: list[str],
    facts: Mapping[str, dict[str, Any]],
    hours: Mapping[str, float],
    sweep: Sweep,
    point: Point,
) -> Configuration:
    size, is_baseline, _, _, seed, draw, label_share, settings = key
    each = [facts[name] for name in names]
    first = each[0]

    def mean(value: Callable[[dict[str, Any]], float]) -> float:
        return float(np.mean([value(f) for f in each]))

    losses = {
        target: float(np.mean([f["losses"][target] for f in each])) for target in first["losses"]
    }

    metrics: dict[tuple[str, str], list[float]] = defaultdict(list)
    for f in each:
        for m in f["metrics"]:
            metrics[(m["target"], m["metric"])].append(m["value"])
    return Configuration(
        size=size,
        name=names[0].rpartition("-f")[0] if len(names) > 1 else names[0],
        is_baseline=is_baseline,
        parameters=first.get("parameters", 0),
        body=first.get("parameters_body", 0),
        people=round(mean(lambda f: f["people"])),
        scans=round(mean(lambda f: f["scans"])),
        epochs=first.get("epochs", 0),
        seed=seed,
        draw=draw,
        label_share=label_share,
        settings=settings,
        learning_rate=_varied_learning_rate(sweep, point),
        start="" if is_baseline else sweep.recipe_of(point).init_from or "",
        loss=mean(lambda f: f["loss"]),
        last_loss=mean(lambda f: f.get("last_loss", f["loss"])),
        chance=mean(lambda f: f["chance"]),
        losses=losses,
        metrics={k: float(np.nanmean(v)) for k, v in metrics.items() if np.isfinite(v).any()},
        flops=sum(f.get("flops", 0.0) for f in each),
        seconds=sum(f["seconds"] for f in each),
        hours=sum(hours.get(name, 0.0) for name in names),
        folders=tuple(names),
    )
