"""What an explanation comes to, and how it is found: every model's maps, their mean, and what of it
is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lcm_scale import progress
from lcm_scale.errors import InputError
from lcm_scale.evaluation.questions import Question
from lcm_scale.explain import memory, stability
from lcm_scale.explain.decoder import Decoder, Looked, drawn, integrated_gradients, mean_of
from lcm_scale.explain.levels import Levels
from lcm_scale.explain.memory import TargetMaps
from lcm_scale.explain.models import Run
from lcm_scale.explain.noise import SITE, Tested, against_noise, permuted_labels, strata_of
from lcm_scale.explain.stability import Agreement, between_halves, between_models
from lcm_scale.vocabulary import NOT_APPLICABLE

COMPARED = 50  # permuted models whose agreement is looked at; the maps of all models are kept


@dataclass(frozen=True)
class Options:
    """What is asked.

    Attributes:
        permutations: label-permuted models; 0: nothing is tested.
        within: in which labels are exchanged, `noise.SITE` or `noise.SET`.
        scans: that each decoder is asked about, at most.
        gradients: also of decoders that no answer uses.
    """

    permutations: int = 200
    within: str = SITE
    scans: int = 64
    gradients: bool = False


@dataclass(frozen=True)
class TokenMap:
    """What one token uses.

    Attributes:
        target: its name.   token: category, or the target's name of a scalar.
        against: the other categories.   unit: of a scalar's score, '' of a class.
        within: in which its labels were exchanged.
        levels: of people memory, level -> map; empty where there is none.
        spread: of the score over the training scans, by which a pattern becomes a change a
            standard deviation.
        agreements: of the memory's maps over the edges.
        gates: of the decoder in each model's answers.
        looked: into the decoder, a mean over models.   looked_levels: its shares on every level.
        attention_agreement, shares_agreement: over models, None of one.
    """

    target: str
    token: str
    against: tuple[str, ...]
    unit: str
    within: str
    levels: Mapping[str, Tested]
    spread: float
    n_people: int
    agreements: tuple[Agreement, ...]
    gates: tuple[float, ...]
    looked: Looked
    looked_levels: Mapping[str, np.ndarray] = field(default_factory=dict)
    attention_agreement: Agreement | None = None
    shares_agreement: Agreement | None = None


@dataclass(frozen=True)
class Found:
    """A run, explained.  Attributes: tokens: target by target, the headline first."""

    run: Run
    options: Options
    levels: Levels
    tokens: tuple[TokenMap, ...]


def explain(run: Run, options: Options) -> Found:
    """Look into every model of a run.

    Raises: InputError where something is missing that it takes (captum), labels cannot be
        exchanged, or a memory cannot be fitted again.
    """
    integrated_gradients()
    check_exchange(run, options)
    levels = Levels.of(run.opened.sets.atlas)
    gathered = {question.target.name: _Gathered() for question in run.questions}
    labels = {q.target.name: _labels(_truth(run, q), run, options) for q in run.questions}
    seed = run.recipe.seed
    with progress.stage("explain", 2 * len(run.models)) as advance:
        for one in run.models:
            label = f"fold {one.fold}, seed {one.seed}"
            if one.model.model.people_memory:
                again = memory.refit(one)
                splits = -(-stability.SPLITS // len(run.models))
                for name, own in gathered.items():
                    found = memory.maps(again, name, labels[name])
                    if found is None:
                        continue
                    some = labels[name][: 1 + COMPARED]
                    first = seed + splits * len(own.halves)
                    own.add(found, stability.split_halves(again, name, some, splits, first))
            advance(1, note=f"{label}: people memory")
            decoder = Decoder(one, drawn(one.asked, options.scans, seed))
            for question in run.questions:
                own = gathered[question.target.name]
                wanted = options.gradients or decoder.gate(question.target.name) > 0
                for token in _shown(question):
                    own.looked.setdefault(token, []).append(decoder.looked(question, token, wanted))
            advance(1, note=f"{label}: decoder")
    tokens = [
        token
        for question in run.questions
        for token in _tokens(run, question, gathered[question.target.name], levels, options)
    ]
    return Found(run, options, levels, tuple(tokens))


def check_exchange(run: Run, options: Options) -> None:
    """See that labels may be exchanged.  Raises: InputError."""
    if options.permutations and run.recipe.evaluate.group:
        raise InputError(
            f"--permutations {options.permutations}: with evaluate.group="
            f"{run.recipe.evaluate.group} a label cannot be exchanged between people, since "
            "relatives share more than chance; use --permutations 0, which tests nothing"
        )


class _Gathered:
    """Of one target, over models."""

    def __init__(self) -> None:
        self.classes: tuple[int, ...] = ()
        self.total: np.ndarray | None = None  # (1 + P, T, E)
        self.variance: list[np.ndarray] = []
        self.people: list[int] = []
        self.kept: list[np.ndarray] = []  # (1 + up to COMPARED, T, E) of each model
        self.halves: list[np.ndarray] = []
        self.looked: dict[int, list[Looked]] = {}

    def add(self, found: TargetMaps, halves: np.ndarray) -> None:
        """Raises: InputError where models know different classes."""
        if self.total is not None and found.classes != self.classes:
            raise InputError(
                "the models of the folds were trained on different categories of a target, so "
                "their maps have no mean; leave that target out (--targets)"
            )
        self.classes = found.classes
        self.total = found.covariance if self.total is None else self.total + found.covariance
        self.variance.append(found.variance)
        self.people.append(found.n_people)
        self.kept.append(found.covariance[: 1 + COMPARED])
        self.halves.append(halves)


def _truth(run: Run, question: Question) -> np.ndarray:
    """(N,) labels of all scans; N/A is none, as where the memory is fitted."""
    truth = run.opened.sets.labels[:, question.column].astype(np.float64)
    if NOT_APPLICABLE in question.target.categories:
        truth[truth == question.target.categories.index(NOT_APPLICABLE)] = np.nan
    return truth


def _labels(truth: np.ndarray, run: Run, options: Options) -> np.ndarray:
    """(1 + P, N) the real labels (N,) first."""
    sets, seed = run.opened.sets, run.recipe.seed
    within = strata_of(truth, sets, options.within)
    permuted = permuted_labels(truth, sets, options.permutations, seed, within)
    return np.concatenate([truth[None], permuted])


def _shown(question: Question) -> Sequence[int]:
    """Positions of the categories whose tokens are shown: of two the second alone."""
    if not question.codes:
        return [0]
    return range(1, 2) if len(question.codes) == 2 else range(len(question.codes))


def _tokens(
    run: Run, question: Question, own: _Gathered, levels: Levels, options: Options
) -> list[TokenMap]:
    within = strata_of(_truth(run, question), run.opened.sets, options.within)
    fold = [one.fold for one in run.models]
    seed = run.recipe.seed
    by_code: dict[int, tuple[dict[str, Tested], float, tuple[Agreement, ...]]] = {}
    if own.total is not None:
        variance = np.mean(own.variance, axis=0)
        covariance = own.total / len(own.kept)
        on_levels = {
            name: against_noise(part, part[0] / np.maximum(variance, 1e-300)[:, None])
            for name, part in levels.of_map(covariance).items()
        }
        halves = np.concatenate(own.halves)
        for place, code in enumerate(own.classes or (0,)):
            over = between_models(np.stack([kept[:, place] for kept in own.kept]), fold, seed)
            agreements = [over] if over else []
            agreements.append(between_halves(halves[:, :, place]))
            of_token = {name: each[place] for name, each in on_levels.items()}
            by_code[code] = (of_token, float(np.sqrt(variance[place])), tuple(agreements))
    found = []
    for token in _shown(question):
        code = question.codes[token] if question.codes else 0
        name = question.categories[token] if question.codes else question.target.name
        memory_levels, spread, agreements = by_code.get(code, ({}, float("nan"), ()))
        each = own.looked[token]
        mean = mean_of(each)
        shares = [one.shares for one in each if one.shares is not None]
        alike = len(shares) == len(fold)
        found.append(
            TokenMap(
                target=question.target.name,
                token=name,
                against=tuple(c for c in question.categories if c != name)
                if question.codes
                else (),
                unit=question.target.measured_in,
                within=within,
                levels=memory_levels,
                spread=spread,
                n_people=round(float(np.mean(own.people))) if own.people else 0,
                agreements=agreements,
                gates=tuple(one.gate for one in each),
                looked=mean,
                looked_levels={} if mean.shares is None else levels.of_shares(mean.shares),
                attention_agreement=between_models(
                    np.stack([one.attention for one in each])[:, None], fold, seed
                ),
                shares_agreement=between_models(np.stack(shares)[:, None], fold, seed)
                if alike
                else None,
            )
        )
    return found
