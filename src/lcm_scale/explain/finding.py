"""Every model of a run is looked into; in come its models, out goes what their tokens use.

Models are taken one by one, because a fitted memory is large: what stays of one is its maps.
Shapes: P permutations, N scans, T tokens, E edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lcm_scale import progress
from lcm_scale.errors import InputError
from lcm_scale.evaluation.questions import Question
from lcm_scale.explain import memory, stability
from lcm_scale.explain.decoder import Decoder, Looked, drawn, mean_of
from lcm_scale.explain.exchange import Exchange, exchange
from lcm_scale.explain.found import Found, LooksAt, Options, Remembers, TokenMap
from lcm_scale.explain.levels import Levels
from lcm_scale.explain.models import Explained, Run
from lcm_scale.explain.noise import against_noise
from lcm_scale.explain.stability import Agreement, between_halves, between_models
from lcm_scale.vocabulary import NOT_APPLICABLE

COMPARED = 50  # permuted models whose agreement is looked at; their maps of all models are kept


@dataclass
class _Gathered:
    """A target's maps, model by model.

    Attributes:
        classes: codes of the T tokens that the memory shows.   total: (1 + P, T, E) over models.
        variance, people: of each model.   kept: (1 + up to COMPARED, T, E) of each.
        halves: (splits, 1 + up to COMPARED, T) of each.   looked: of each token, of each model.
    """

    question: Question
    exchange: Exchange
    classes: tuple[int, ...] = ()
    total: np.ndarray | None = None
    variance: list[np.ndarray] = field(default_factory=list)
    people: list[int] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)
    halves: list[np.ndarray] = field(default_factory=list)
    looked: dict[int, list[Looked]] = field(default_factory=dict)


def explain(run: Run, options: Options) -> Found:
    """Look into every model of a run.

    Raises: InputError where labels cannot be exchanged, or a memory cannot be fitted again.
    """
    check_exchange(run, options)
    levels = Levels.of(run.opened.sets.atlas)
    gathered = [
        _Gathered(question, _exchange(run, question, options)) for question in run.questions
    ]
    splits = -(-stability.SPLITS // len(run.models))
    with progress.stage("explain", 2 * len(run.models)) as advance:
        for number, one in enumerate(run.models):
            if one.model.model.people_memory:
                _remember(one, gathered, splits, run.recipe.seed + splits * number)
            advance(1, note=f"{one.prepared.label}: people memory")
            _look(one, gathered, options, run.recipe.seed)
            advance(1, note=f"{one.prepared.label}: decoder")
    tokens = [token for own in gathered for token in _tokens(run, own, levels)]
    return Found(run, options, levels, tuple(tokens))


def check_exchange(run: Run, options: Options) -> None:
    """See that labels may be exchanged.  Raises: InputError."""
    if options.permutations and run.recipe.evaluate.group:
        raise InputError(
            f"--permutations {options.permutations}: with evaluate.group="
            f"{run.recipe.evaluate.group} a label cannot be exchanged between people, since "
            "relatives share more than chance; use --permutations 0, which tests nothing"
        )


def _exchange(run: Run, question: Question, options: Options) -> Exchange:
    """N/A is no label, as where the memory is fitted."""
    target, sets = question.target, run.opened.sets
    truth = sets.labels[:, question.column].astype(np.float64)
    if NOT_APPLICABLE in target.categories:
        truth[truth == target.categories.index(NOT_APPLICABLE)] = np.nan
    seed, within = run.recipe.seed, options.within
    return exchange(target.name, truth, sets, options.permutations, seed, within, options.adjust)


def _remember(one: Explained, gathered: Sequence[_Gathered], splits: int, seed: int) -> None:
    """Add the maps of a model's memory.  Args: seed: of the halves.

    Raises: InputError where it cannot be fitted again, or knows other classes than the models
        before.
    """
    again = memory.refit(one)
    for own in gathered:
        name = own.question.target.name
        if name not in again.questions:
            continue
        classes = memory.shown_classes(again.questions[name])
        if own.kept and classes != own.classes:
            raise InputError(
                f"{name}: the folds' models know different categories of it, so that their maps "
                "have no mean; leave it out (--targets)"
            )
        wanted = own.exchange.wanted(classes, again.targets[name].choice.log)
        found = memory.maps(again, name, wanted)
        own.classes = classes
        own.total = found.covariance if own.total is None else own.total + found.covariance
        own.variance.append(found.variance)
        own.people.append(found.n_people)
        own.kept.append(found.covariance[: 1 + COMPARED])
        some = wanted[:, : 1 + COMPARED]
        own.halves.append(stability.split_halves(again, name, some, splits, seed))


def _look(one: Explained, gathered: Sequence[_Gathered], options: Options, seed: int) -> None:
    """Add what a model's decoder looks at.  Args: seed: of the scans that it is asked about."""
    decoder = Decoder(one, drawn(one.asked, options.scans, seed))
    for own in gathered:
        wanted = options.gradients or decoder.gate(own.question.target.name) > 0
        for token in _shown(own.question):
            found = decoder.looked(own.question, token, wanted)
            own.looked.setdefault(token, []).append(found)


def _shown(question: Question) -> Sequence[int]:
    """Positions of the categories whose tokens are shown: of two the second alone."""
    if not question.codes:
        return [0]
    return range(1, 2) if len(question.codes) == 2 else range(len(question.codes))


def _tokens(run: Run, own: _Gathered, levels: Levels) -> list[TokenMap]:
    question = own.question
    fold = [one.fold for one in run.models]
    remembered = _remembered(own, levels, fold, run.recipe.seed)
    found = []
    for token in _shown(question):
        code = question.codes[token] if question.codes else 0
        name = question.categories[token] if question.codes else question.target.name
        others = tuple(c for c in question.categories if c != name) if question.codes else ()
        found.append(
            TokenMap(
                target=question.target.name,
                token=name,
                against=others,
                unit=question.target.measured_in,
                within=own.exchange.within,
                beyond=own.exchange.beyond,
                memory=remembered.get(code),
                decoder=_looks_at(own.looked[token], levels, fold, run.recipe.seed),
            )
        )
    return found


def _remembered(
    own: _Gathered, levels: Levels, fold: Sequence[int], seed: int
) -> dict[int, Remembers]:
    """Of each code that the memory shows, 0 of a scalar."""
    if own.total is None:
        return {}
    variance = np.mean(own.variance, axis=0)
    on_levels = {
        name: against_noise(part, variance)
        for name, part in levels.of_map(own.total / len(own.kept)).items()
    }
    halves = np.concatenate(own.halves)
    found = {}
    for place, code in enumerate(own.classes or (0,)):
        agreements: list[Agreement] = []
        over = between_models(np.stack([kept[:, place] for kept in own.kept]), fold, seed)
        agreements += [over] if over else []
        agreements.append(between_halves(halves[:, :, place]))
        found[code] = Remembers(
            {name: each[place] for name, each in on_levels.items()},
            float(np.sqrt(variance[place])),
            round(float(np.mean(own.people))),
            tuple(agreements),
        )
    return found


def _looks_at(looked: Sequence[Looked], levels: Levels, fold: Sequence[int], seed: int) -> LooksAt:
    mean = mean_of(looked)
    attention = np.stack([one.attention for one in looked])[:, None]
    shares = [one.shares for one in looked if one.shares is not None]
    alike = None
    if len(shares) == len(fold):
        alike = between_models(np.stack(shares)[:, None], fold, seed)
    return LooksAt(
        tuple(one.gate for one in looked),
        mean,
        {} if mean.shares is None else levels.of_shares(mean.shares),
        between_models(attention, fold, seed),
        alike,
    )
