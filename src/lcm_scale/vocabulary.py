"""BEI: the vocabulary of what is recorded beside a scan, and its merging across data sets.

A *target* is something a scan may be labelled with: a label group (diagnosis, task, site ...), sex,
or a number (age). Each category of a class target is one token of the model; a scalar target is one
token. Token order: classes group by group (each group's N/A first), then M, F, then scalars (paper
section 3; docs/model.md, Architecture).

In arrays a class is its position in `Target.categories` (N/A is 0 where the group has it), a scalar
its value, and -1 / NaN a missing label that contributes to nothing. N/A is different: it *is* a
label, the one that scans of data sets outside the group carry by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lcm_scale import checked
from lcm_scale.errors import InputError

NOT_APPLICABLE = "N/A"
SEX = "sex"
AGE = "age"
# In files, of a scalar with a log scale. A kind of its own, not a flag: versions that know no log
# scale refuse it, where they would have passed over a flag and answered in logarithms.
LOG_SCALAR = "log-scalar"
MOST_TOKENS = 100_000  # of all targets: far more than a model could learn


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        name: its name, unique in a vocabulary.
        kind: ``group`` (classes), ``sex`` (M, F) or ``scalar``.
        categories: class names in token order; for a scalar just its name.
        default: what a scan from a data set outside the group carries, one of `categories` ('' for
            sex and scalars: missing).
        merge: whether `merge` may unite it with another set's group of another name by their labels
            alone.
        unit: of a scalar, in words ('' where nobody said).
        log: whether a scalar is learnt and predicted on its log scale. Its values are in its own
            unit everywhere, and above 0.
    """

    name: str
    kind: str
    categories: tuple[str, ...]
    default: str = ""
    merge: bool = True
    unit: str = ""
    log: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("group", "sex", "scalar"):
            raise InputError(f"target {self.name}: kind '{self.kind}' is not group, sex or scalar")
        if len(set(self.categories)) != len(self.categories):
            raise InputError(
                f"target {self.name}: a category occurs twice in {list(self.categories)}"
            )
        if self.kind == "group" and not self.labels:
            raise InputError(f"target {self.name}: no categories")
        if self.log and self.kind != "scalar":
            raise InputError(f"target {self.name}: only a scalar has a log scale")
        if self.default and self.default not in self.categories:
            raise InputError(
                f"target {self.name}: its default '{self.default}' is not one of its categories"
            )

    @property
    def n_tokens(self) -> int:
        return len(self.categories)

    @property
    def labels(self) -> tuple[str, ...]:
        """The categories without N/A."""
        return tuple(c for c in self.categories if c != NOT_APPLICABLE)

    @property
    def classes(self) -> tuple[str, ...]:
        """The categories, of a scalar none: its one category is the name of its token."""
        return self.categories if self.is_class else ()

    @property
    def measured_in(self) -> str:
        """The unit of a scalar in words, '' where nobody said."""
        return self.unit or ("years" if self.name == AGE else "")

    @property
    def is_class(self) -> bool:
        return self.kind != "scalar"

    def encode(self, value: str | float | None) -> float:
        """A label as stored in ``bei.npy``; NaN for a missing one.

        Raises: InputError for an unknown category.
        """
        if value is None:
            return float("nan")
        if not self.is_class:
            return float(value)
        if value not in self.categories:
            raise InputError(
                f"'{value}' is not a category of {self.name} ({', '.join(self.categories)})"
            )
        return float(self.categories.index(str(value)))


def group(
    name: str, labels: Sequence[str], default: str = NOT_APPLICABLE, merge: bool = True
) -> Target:
    """A label group with N/A in front."""
    return Target(name, "group", (NOT_APPLICABLE, *labels), default, merge)


def sex() -> Target:
    return Target(SEX, "sex", ("M", "F"))


def scalar(name: str = AGE, unit: str = "", log: bool = False) -> Target:
    return Target(name, "scalar", (name,), unit=unit, log=log)


@dataclass(frozen=True)
class Vocabulary:
    """All targets in token order."""

    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        names = [t.name for t in self.targets]
        if len(set(names)) != len(names):
            raise InputError(f"vocabulary: a target name occurs twice in {names}")
        ranks = [("group", "sex", "scalar").index(t.kind) for t in self.targets]
        if ranks != sorted(ranks):
            raise InputError("vocabulary: targets must stand as groups, then sex, then scalars")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.targets)

    @property
    def n_tokens(self) -> int:
        return sum(t.n_tokens for t in self.targets)

    def __getitem__(self, name: str) -> Target:
        for target in self.targets:
            if target.name == name:
                return target
        raise InputError(f"no target '{name}' in this vocabulary ({', '.join(self.names)})")

    def slices(self) -> dict[str, slice]:
        """Target name -> its tokens in the full table."""
        result, start = {}, 0
        for target in self.targets:
            result[target.name] = slice(start, start + target.n_tokens)
            start += target.n_tokens
        return result

    def select(self, names: Sequence[str]) -> Vocabulary:
        """The named targets only, in this vocabulary's order.  Raises: InputError for an unknown
        name."""
        for name in names:
            self[name]
        return Vocabulary(tuple(t for t in self.targets if t.name in set(names)))

    def without_not_applicable(self) -> Vocabulary:
        """Groups without their N/A, as the published single-set runs have them (class codes shift
        by one)."""
        return Vocabulary(
            tuple(
                replace(t, categories=t.labels, default="") if t.kind == "group" else t
                for t in self.targets
            )
        )

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "name": t.name,
                "kind": LOG_SCALAR if t.log else t.kind,
                "categories": list(t.categories),
                "default": t.default,
                "merge": t.merge,
                # Left out where there is none, so that the fingerprints of older sets stay.
                **({"unit": t.unit} if t.unit else {}),
            }
            for t in self.targets
        ]

    @classmethod
    def from_json(cls, data: object) -> Vocabulary:
        """Raises: InputError where the data are not what `to_json` gives."""
        targets = checked.entries(data, "vocabulary", _target)
        count = sum(target.n_tokens for target in targets)
        checked.whole(count, "vocabulary: its number of tokens", 1, MOST_TOKENS)
        return cls(targets)


def _target(value: object, name: str) -> Target:
    own = checked.members(value, name, ("name", "kind", "categories"))
    kind = checked.choice(own["kind"], f"{name}.kind", ("group", "sex", "scalar", LOG_SCALAR))
    log = kind == LOG_SCALAR
    kind = "scalar" if log else kind
    count = {"group": None, "sex": 2, "scalar": 1}[kind]
    return Target(
        checked.text(own["name"], f"{name}.name"),
        kind,
        checked.entries(own["categories"], f"{name}.categories", checked.text, count),
        checked.text(own.get("default", ""), f"{name}.default"),
        checked.flag(own.get("merge", True), f"{name}.merge"),
        checked.text(own.get("unit", ""), f"{name}.unit"),
        log,
    )


@dataclass(frozen=True)
class Merged:
    """A vocabulary of several data sets, and how each set's columns enter it.

    Attributes:
        vocabulary: the union.
        renames: per set, its target name -> the name in `vocabulary`.
    """

    vocabulary: Vocabulary
    renames: tuple[dict[str, str], ...]


def merge(sets: Sequence[tuple[str, Vocabulary]]) -> Merged:
    """Unite the vocabularies of several data sets.

    Two groups of *different* sets become one where the labels of one contain or equal those of the
    other (the published code misses the equal case and loses a group), and either their names are
    equal or both have `merge`. Groups of one set are never united. Groups that share a name but not
    their labels are told apart as ``name@set``. Sex is one, scalars unite by name.

    A further set changes nothing of what the sets before it gave: their targets keep their order
    among those of their kind, and every category its code. Its groups' tokens stand before sex, as
    published, so a token is always found by target and category, never by its row in the whole.

    Args: sets: (set name, its vocabulary) in order; the order decides the order of tokens.
    Raises: InputError where two sets give a scalar of one name in two units, or one on its log
        scale and one not.
    """
    groups: list[tuple[Target, set[int]]] = []
    renames: list[dict[str, str]] = [{} for _ in sets]
    members: list[list[tuple[int, str]]] = []
    scalars: list[Target] = []
    has_sex = False
    for number, (set_name, vocabulary) in enumerate(sets):
        for target in vocabulary.targets:
            if target.kind == "sex":
                has_sex = True
            elif target.kind == "scalar":
                _unite(scalars, target, set_name)
            else:
                place = _mergeable(target, number, groups)
                if place is None:
                    groups.append((target, {number}))
                    members.append([(number, target.name)])
                else:
                    old, seen = groups[place]
                    groups[place] = (_wider(old, target), seen | {number})
                    members[place].append((number, target.name))
            if target.kind != "group":
                renames[number][target.name] = target.name
    final: list[Target] = []
    for (target, _), used in zip(groups, members, strict=True):
        clash = sum(other.name == target.name for other, _ in groups) > 1
        # The set that calls its group so: a name is unique within a set, while one set may have
        # joined both groups.
        origin = next(number for number, old_name in used if old_name == target.name)
        name = f"{target.name}@{sets[origin][0]}" if clash else target.name
        final.append(replace(target, name=name))
        for number, old_name in used:
            renames[number][old_name] = name
    if has_sex:
        final.append(sex())
    return Merged(Vocabulary((*final, *scalars)), tuple(renames))


def _unite(scalars: list[Target], target: Target, set_name: str) -> None:
    """Add a scalar, unless it is there; a unit that only one set names holds for both."""
    for place, known in enumerate(scalars):
        if known.name == target.name:
            if known.unit and target.unit and known.unit != target.unit:
                raise InputError(
                    f"set {set_name}: {target.name} is in {target.unit}, in the sets before it in "
                    f"{known.unit}; give both in one unit (scalars in the shard recipe)"
                )
            if known.log != target.log:
                raise InputError(
                    f"set {set_name}: {target.name} is {'' if target.log else 'not '}on its log "
                    f"scale, in the sets before it it is{' not' if target.log else ''}; shard both "
                    "alike (scalars.log or age_log in the shard recipe)"
                )
            scalars[place] = replace(known, unit=known.unit or target.unit)
            return
    scalars.append(target)


def _mergeable(target: Target, number: int, groups: list[tuple[Target, set[int]]]) -> int | None:
    """The group of other sets only that `target` unites with: of its own name, else the first that
    merges by labels."""
    labels = set(target.labels)
    fitting = []
    for place, (other, seen) in enumerate(groups):
        theirs = set(other.labels)
        if number not in seen and (labels <= theirs or theirs <= labels):
            fitting.append(place)
    same_name = [place for place in fitting if groups[place][0].name == target.name]
    by_labels = [place for place in fitting if target.merge and groups[place][0].merge]
    return next(iter(same_name + by_labels), None)


def _wider(a: Target, b: Target) -> Target:
    """The first one's categories in their order, then the further labels of the second, so that no
    code of what was there changes; named as the one with more labels. N/A stands first: a
    checkpoint's group without it gets it from a wider one."""
    wide, narrow = (b, a) if set(a.labels) < set(b.labels) else (a, b)
    default = wide.default if wide.default != NOT_APPLICABLE else narrow.default
    front = [c for c in wide.categories if c == NOT_APPLICABLE and c not in a.categories]
    further = [label for label in b.labels if label not in a.categories]
    categories = (*front, *a.categories, *further)
    return replace(wide, categories=categories, default=default or wide.default)


def recode(
    bei: np.ndarray, source: Vocabulary, renames: Mapping[str, str], vocabulary: Vocabulary
) -> np.ndarray:
    """Labels of one data set in the codes of a merged vocabulary.

    Args:
        bei: (N, columns of `source`) float, NaN where missing.
        renames: source target -> target in `vocabulary`; targets that `vocabulary` lacks are left
            out.
    Returns: float32 (N, targets of `vocabulary`). A target that the set does not have at all gets
        its default, or NaN where it has none.
    """
    out = np.full((len(bei), len(vocabulary.targets)), np.nan, dtype=np.float32)
    for j, target in enumerate(vocabulary.targets):
        if target.default:
            out[:, j] = target.encode(target.default)
    for i, old in enumerate(source.targets):
        new_name = renames.get(old.name)
        if new_name not in vocabulary.names:
            continue
        j = vocabulary.names.index(new_name)
        column = bei[:, i].astype(np.float32)
        if not old.is_class:
            out[:, j] = column
            continue
        new = vocabulary.targets[j]
        table = np.array(
            [new.categories.index(c) if c in new.categories else np.nan for c in old.categories],
            np.float32,
        )
        known = np.isfinite(column)
        out[:, j] = np.nan
        out[known, j] = table[column[known].astype(np.int64)]
    return out
