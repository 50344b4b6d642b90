"""A model's people memory as maps: fitted again on its own scans, with its labels and with
exchanged ones.

Fitting again gives what the checkpoint does not keep, the tuning and the inner products; that it
gives the checkpoint's own answers is checked, so that no other model is explained. The map of a
token is that of its score by the scan's matrix: what is added of the context (site, eye status) is
no part of it, deviations that a category shares are. Of two classes one token is shown, since the
other's map is the same with the opposite sign.
Shapes: n labelled scans, P permutations, T tokens, E edges, F tangent features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from lcm_scale.data.given import given_to
from lcm_scale.errors import InputError
from lcm_scale.explain.models import Explained
from lcm_scale.explain.patterns import covariances, on_connectome
from lcm_scale.linear.context import Context
from lcm_scale.linear.landmarks import blocks
from lcm_scale.linear.meeting import Met, Question, meet, questions_of
from lcm_scale.linear.memory import Remembered, fit_all
from lcm_scale.linear.tangent import positive_definite
from lcm_scale.model.people import PeopleMemory as MemoryPart
from lcm_scale.training.prior import prior_of
from lcm_scale.training.remember import material

SAME = 0.999  # correlation of the refitted scores with the checkpoint's


@dataclass(frozen=True)
class TargetMaps:
    """A target's maps from one model.

    Attributes:
        covariance: float32 (1 + P, T, E) of each correlation with the token's score, the real
            labels' first.
        variance: (T,) of the real scores.   n_people: who have the label.
    """

    covariance: np.ndarray
    variance: np.ndarray
    n_people: int


@dataclass(frozen=True)
class Refitted:
    """A model's memory, fitted again.

    Attributes:
        scans: n numbers of its training scans.   subject: (n,) people.   edges: (n, E).
        told: what is known of them, fitted.
    """

    scans: np.ndarray
    subject: np.ndarray
    edges: np.ndarray
    met: Met
    questions: Mapping[str, Question]
    targets: Mapping[str, Remembered]
    told: Context

    def vectors(self, labelled: np.ndarray) -> Iterator[np.ndarray]:
        """Tangent vectors of some of the scans, in blocks.  Args: labelled: positions."""
        everybody = len(self.met.vectors) == len(self.scans)
        for part in blocks(labelled):
            if everybody:
                yield self.met.vectors[part]
            else:  # landmarks alone are in memory
                yield self.met.space.vectors_of(positive_definite(self.edges[part]))


def refit(one: Explained) -> Refitted:
    """Fit a model's memory again.  Raises: InputError where that gives another memory."""
    prepared, scans = one.prepared, one.scans
    of = material(prepared, one.model.active, scans)
    seed, prior = prepared.recipe.seed, prior_of(prepared)
    told = of.known.fitted(of.subject)
    questions = questions_of(of.asked, of.subject, prior)
    met = meet(of.edges, of.subject, told, questions, prior, of.most, seed)
    people = None
    if prepared.recipe.model.people_memory == "rbf":
        people = met.people(of.subject, told)
        met = replace(met, bank=replace(met.bank, radial=True))
    targets = fit_all(met.bank, met.vectors, questions, seed, told, met.before, people)
    again = Refitted(scans, of.subject, of.edges, met, questions, targets, told)
    _check_same(one, again)
    return again


def shown_classes(question: Question) -> tuple[int, ...]:
    """Codes of the T tokens whose maps are shown: of two classes the second alone; none of a
    scalar."""
    return question.classes if len(question.classes) > 2 else question.classes[1:]


def maps(
    again: Refitted, target: str, wanted: np.ndarray, labelled: np.ndarray | None = None
) -> TargetMaps:
    """Those of a target that the memory knows.

    Args:
        wanted: (N, 1 + P, T) of all scans of the sets, the real labels first, as
            `exchange.Exchange.wanted` gives them for `shown_classes`.
        labelled: positions of the scans that are fitted; None: all that have the label.
    """
    question = again.questions[target]
    labelled = question.labelled if labelled is None else labelled
    wanted = wanted[again.scans[labelled]]
    scores = _scores(again, target, wanted, labelled)
    n_sets, n_tokens = wanted.shape[1:]
    tangent = covariances(again.vectors(labelled), scores)
    edges = on_connectome(tangent, again.met.space.whitening)
    return TargetMaps(
        edges.astype(np.float32).reshape(n_sets, n_tokens, -1),
        scores[:, :n_tokens].var(0),
        len(np.unique(again.subject[labelled])),
    )


def _scores(again: Refitted, target: str, wanted: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(n, (1 + P) T) what the memory says of its own scans by their matrices.

    Args: wanted: (n, 1 + P, T) of the labelled, on the ridge's scale.   labelled: n positions.
    """
    choice, question = again.targets[target].choice, again.questions[target]
    start = np.zeros((len(wanted), 1, wanted.shape[2]))
    if question.start is not None:
        place = np.searchsorted(question.labelled, labelled)
        start = choice.share * again.met.before[target][place, None, -wanted.shape[2] :]
    bank = replace(again.met.bank, context=again.told.without(target))
    rest = (wanted - start).reshape(len(wanted), -1)
    own = bank.own_answers(labelled, rest, choice.beta, choice.form, choice.alpha)
    return np.asarray((own.reshape(wanted.shape) + start).reshape(len(wanted), -1))


def _check_same(one: Explained, again: Refitted) -> None:
    """Raises: InputError where the checkpoint's memory answers otherwise than the refitted one."""
    names = one.model.vocabulary.names
    stored = _stored_scores(one, again.edges, again.scans)
    starts = np.cumsum([0, *one.model.model.target_tokens])
    for name, question in again.questions.items():
        row = int(starts[names.index(name)]) + (question.classes or (0,))[-1]
        wanted = question.wanted[:, None, -1:]
        wanted = np.log(wanted) if again.targets[name].choice.log else wanted
        fresh = _scores(again, name, wanted, question.labelled)[:, 0]
        alike = np.corrcoef(stored[question.labelled, row], fresh)[0, 1]
        if not alike > SAME and fresh.std() > 0:
            raise InputError(
                f"{one.model.path}: its people memory cannot be fitted again for {name} "
                f"(correlation {alike:.3f} with its own answers): it was written by another "
                "version, or its data changed; evaluate anew with this version"
            )


@torch.no_grad()
def _stored_scores(one: Explained, edges: np.ndarray, scans: np.ndarray) -> np.ndarray:
    """(n, tokens) raw scores of the checkpoint's memory, without what is added of the context."""
    part = MemoryPart.of(one.model.model)
    prefix = "people."
    part.load_state_dict(
        {
            k.removeprefix(prefix): v.float()
            for k, v in one.model.state.items()
            if k.startswith(prefix)
        }
    )
    part.slope.fill_(1)
    part.offset.zero_()
    part.log.zero_()
    if part.context:
        part.added.zero_()
    told = torch.from_numpy(given_to(one.model.context, one.prepared.opened.sets, scans)).float()
    found = [
        part(torch.from_numpy(edges[at]), told[at] if part.context else None).numpy()
        for at in blocks(np.arange(len(scans)))
    ]
    return np.concatenate(found)
