"""The vocabulary of what is recorded beside a scan, and how those of several data sets become
one."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcm_scale.errors import InputError
from lcm_scale.vocabulary import Target, Vocabulary, group, merge, recode, scalar, sex

PPMI = Vocabulary((group("stage", ["CN", "PD", "prodromal", "SWEDD"]), sex(), scalar()))
TAOWU = Vocabulary((group("diagnosis", ["PD", "CN"]), scalar()))
TASKS = Vocabulary((group("task", ["task-REST", "task-FACE"], default="task-REST"), sex()))
NAN = float("nan")


def vocabulary(**groups: list[str]) -> Vocabulary:
    return Vocabulary(tuple(group(name, labels) for name, labels in groups.items()))


@pytest.mark.parametrize("order", [[0, 1], [1, 0]], ids=["wide first", "narrow first"])
def test_a_group_whose_labels_another_contains_joins_it(order: list[int]) -> None:
    sets = [("ppmi", PPMI), ("taowu", TAOWU)]
    merged = merge([sets[i] for i in order])
    assert merged.vocabulary.names == ("stage", "sex", "age")
    first = ("CN", "PD") if order == [0, 1] else ("PD", "CN")
    assert merged.vocabulary["stage"].categories == ("N/A", *first, "prodromal", "SWEDD")
    assert merged.renames[order.index(1)] == {"diagnosis": "stage", "age": "age"}


def test_groups_of_equal_labels_are_one_in_the_first_ones_words() -> None:
    """The published code needs strict subsets and loses the group."""
    adni, oasis = vocabulary(dx=["CN", "AD"]), vocabulary(state=["AD", "CN"])
    merged = merge([("adni", adni), ("oasis", oasis)])
    assert merged.vocabulary == adni
    codes = recode(
        np.array([[0.0], [1.0], [2.0], [NAN]]), oasis, merged.renames[1], merged.vocabulary
    )
    assert np.array_equal(codes[:, 0], [0, 2, 1, NAN], equal_nan=True)


def test_groups_that_only_overlap_stay_apart() -> None:
    assert merge(
        [("a", vocabulary(x=["CN", "AD"])), ("b", vocabulary(y=["CN", "PD"]))]
    ).vocabulary.names == ("x", "y")


def test_a_group_may_refuse_to_be_merged() -> None:
    alone = Vocabulary((group("site", ["NYU"], merge=False),))
    assert merge([("a", vocabulary(place=["NYU", "PITT"])), ("b", alone)]).vocabulary.names == (
        "place",
        "site",
    )


def test_groups_of_one_name_unite_without_being_asked() -> None:
    """Two sets of sites, or a checkpoint's task and its data's own, are one group: `merge` is about
    other names."""
    many, few = (
        Vocabulary((group("site", labels, merge=False),)) for labels in (["NYU", "PITT"], ["PITT"])
    )
    merged = merge([("a", many), ("b", few)])
    assert merged.vocabulary == many
    assert merged.renames == ({"site": "site"}, {"site": "site"})


def test_groups_of_one_set_are_never_united() -> None:
    one = vocabulary(state=["up", "down", "passive"], regulation=["up", "down"])
    assert merge([("a", one)]).vocabulary == one
    assert merge([("a", one), ("b", one)]).vocabulary == one


def test_groups_of_one_name_and_other_labels_are_told_apart_by_their_sets() -> None:
    merged = merge(
        [
            ("abide", vocabulary(diagnosis=["CN", "Autism"])),
            ("adni", vocabulary(diagnosis=["CN", "AD"])),
        ]
    )
    assert merged.vocabulary.names == ("diagnosis@abide", "diagnosis@adni")
    assert merged.renames == ({"diagnosis": "diagnosis@abide"}, {"diagnosis": "diagnosis@adni"})


def test_two_widened_groups_that_share_a_name_are_told_apart_too() -> None:
    narrow = vocabulary(p=["a", "b"], q=["c", "d"])
    sets = [
        ("x", narrow),
        ("y", vocabulary(d=["a", "b", "e"])),
        ("z", vocabulary(d=["c", "d", "f"])),
    ]
    merged = merge(sets)
    assert merged.vocabulary.names == ("d@y", "d@z")
    assert merged.renames[0] == {"p": "d@y", "q": "d@z"}


def test_targets_of_a_checkpoint_stand_first_and_all_stay() -> None:
    merged = merge([("checkpoint", PPMI), ("new", TASKS)])
    assert merged.vocabulary.names == ("stage", "task", "sex", "age")
    assert merge([("new", TASKS), ("checkpoint", PPMI)]).vocabulary.names == (
        "task",
        "stage",
        "sex",
        "age",
    )


def test_tokens_stand_as_published() -> None:
    """Classes group by group, N/A first, then M, F, then age (docs/model.md,
    Architecture)."""
    merged = merge([("ppmi", PPMI), ("hcp", TASKS)]).vocabulary
    assert [c for t in merged.targets for c in t.categories] == [
        "N/A",
        "CN",
        "PD",
        "prodromal",
        "SWEDD",
        "N/A",
        "task-REST",
        "task-FACE",
        "M",
        "F",
        "age",
    ]
    assert merged.slices() == {
        "stage": slice(0, 5),
        "task": slice(5, 8),
        "sex": slice(8, 10),
        "age": slice(10, 11),
    }
    assert merged.n_tokens == 11


def test_scans_outside_a_group_carry_its_default() -> None:
    merged = merge([("ppmi", PPMI), ("hcp", TASKS)])
    codes = recode(np.array([[2.0, 1.0, 61.5]]), PPMI, merged.renames[0], merged.vocabulary)
    assert codes.tolist() == [[2.0, 1.0, 1.0, 61.5]]  # PD, task-REST, F, age
    (codes,) = recode(np.array([[2.0, NAN]]), TASKS, merged.renames[1], merged.vocabulary)
    assert np.array_equal(
        codes, [0, 2, NAN, NAN], equal_nan=True
    )  # N/A, task-FACE, sex and age missing


def test_a_missing_label_is_not_the_default() -> None:
    (codes,) = recode(np.array([[NAN, NAN]]), TASKS, {"task": "task", "sex": "sex"}, TASKS)
    assert np.isnan(codes).all()


def test_a_default_survives_the_merging_with_a_wider_group() -> None:
    wide = vocabulary(state=["task-REST", "task-FACE", "task-VISION"])
    assert merge([("a", TASKS), ("b", wide)]).vocabulary["state"].default == "task-REST"


def test_without_not_applicable_codes_shift_by_one_and_na_is_missing() -> None:
    short = PPMI.without_not_applicable()
    assert short["stage"].categories == ("CN", "PD", "prodromal", "SWEDD")
    codes = recode(np.array([[0, 0, 50.0], [1, 1, NAN]]), PPMI, {n: n for n in PPMI.names}, short)
    assert np.array_equal(codes, [[NAN, 0, 50], [0, 1, NAN]], equal_nan=True)


WORDS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=4, unique=True)
GROUPS = st.dictionaries(st.sampled_from(["dx", "task", "site"]), WORDS, min_size=1)


@settings(max_examples=300)
@given(st.lists(st.tuples(GROUPS, st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_every_label_says_the_same_after_merging(
    drawn: list[tuple[dict[str, list[str]], bool, bool]],
) -> None:
    """Whatever sets are mixed: each label of each set is still the same word, and the groups of a
    set stay apart."""
    sets = [
        (
            f"set{i}",
            Vocabulary(
                (*vocabulary(**groups).targets, *([sex()] if s else []), *([scalar()] if a else []))
            ),
        )
        for i, (groups, s, a) in enumerate(drawn)
    ]
    merged = merge(sets)
    for (_, own), renames in zip(sets, merged.renames, strict=True):
        assert set(renames) == set(own.names)
        assert len(set(renames.values())) == len(renames)
        for i, target in enumerate(own.targets):
            new = merged.vocabulary[renames[target.name]]
            rows = np.zeros((len(target.categories), len(own.targets)))
            rows[:, i] = np.arange(len(rows))
            column = recode(rows, own, renames, merged.vocabulary)[
                :, merged.vocabulary.names.index(new.name)
            ]
            if target.is_class:
                assert [new.categories[int(c)] for c in column] == list(target.categories)
            else:
                assert column.tolist() == rows[:, i].tolist()


def test_a_unit_travels_with_a_scalar_and_leaves_older_targets_as_they_were() -> None:
    old = Vocabulary((group("dx", ["A"]), sex(), scalar()))
    assert all("unit" not in target for target in old.to_json())
    new = Vocabulary((*old.targets, scalar("fiq", "IQ points")))
    assert new.to_json()[:3] == old.to_json()
    assert Vocabulary.from_json(new.to_json()) == new
    assert (new["fiq"].measured_in, new["age"].measured_in) == ("IQ points", "years")


def test_a_set_with_a_further_scalar_changes_no_token_of_what_was_there() -> None:
    old = Vocabulary((group("dx", ["A"]), sex(), scalar()))
    other = Vocabulary((group("dx", ["A"]), sex(), scalar(), scalar("fiq", "IQ points")))
    merged = merge([("a", old), ("b", other)]).vocabulary
    assert merged.names == ("dx", "sex", "age", "fiq")
    assert {name: merged.slices()[name] for name in old.names} == old.slices()


def drawn(rng: random.Random) -> Vocabulary:
    """A set's: groups of one to four of seven labels in any order, sex, age and a score or not."""
    names = rng.sample(["dx", "task", "site"], rng.randint(1, 3))
    groups = [
        group(name, rng.sample("abcdefg", rng.randint(1, 4)), merge=rng.random() < 0.7)
        for name in names
    ]
    others = [sex(), scalar(), scalar("score", log=True)]
    return Vocabulary((*groups, *(each for each in others if rng.random() < 0.7)))


@pytest.mark.parametrize("not_applicable", [True, False])
def test_a_further_set_changes_no_code_and_no_order_of_what_was_there(not_applicable: bool) -> None:
    """Merging [A], [A, B], [A, B, C]: each target of the shorter mix has all its categories at
    their codes in the longer one, and the targets of a kind keep their order."""
    rng = random.Random(16)
    for _ in range(400):
        own = [drawn(rng) for _ in range(3)]
        if not not_applicable:
            own = [each.without_not_applicable() for each in own]
        sets = list(zip("ABC", own, strict=True))
        for count in (1, 2):
            shorter, longer = merge(sets[:count]), merge(sets[: count + 1])
            for number in range(count):
                for name, before in shorter.renames[number].items():
                    old = shorter.vocabulary[before]
                    new = longer.vocabulary[longer.renames[number][name]]
                    assert new.categories[: old.n_tokens] == old.categories
                    assert (new.kind, new.log) == (old.kind, old.log)
            of_old = {
                before: longer.renames[number][name]
                for number in range(count)
                for name, before in shorter.renames[number].items()
            }
            places = [longer.vocabulary.names.index(of_old[n]) for n in shorter.vocabulary.names]
            assert places == sorted(places)
            codes = np.array([[0.0] * len(own[0].targets)])
            first, second = (
                recode(codes, own[0], merged.renames[0], merged.vocabulary)
                for merged in (shorter, longer)
            )
            assert np.array_equal(first[0], second[0][places], equal_nan=True)


def test_a_log_scale_travels_and_older_versions_refuse_it() -> None:
    """They know three kinds; a flag beside the kind they would have passed over."""
    new = Vocabulary((sex(), scalar(), scalar("rt", "ms", log=True)))
    assert [target["kind"] for target in new.to_json()] == ["sex", "scalar", "log-scalar"]
    assert Vocabulary.from_json(json.loads(json.dumps(new.to_json()))) == new
    assert new.without_not_applicable()["rt"].log and not new["age"].log
    assert merge([("a", new), ("b", new)]).vocabulary == new
    plain = Vocabulary((scalar("rt", "ms"),))
    with pytest.raises(InputError, match=r"set b: rt is not on its log scale, .* it is; shard"):
        merge([("a", new), ("b", plain)])
    with pytest.raises(InputError, match=r"set b: rt is on its log scale, .* it is not; shard"):
        merge([("a", plain), ("b", new)])


def test_scalars_of_one_name_share_a_unit_or_are_refused() -> None:
    points, years = (Vocabulary((scalar("score", unit),)) for unit in ("points", "years"))
    plain = Vocabulary((scalar("score"),))
    assert merge([("a", plain), ("b", points)]).vocabulary["score"].unit == "points"
    with pytest.raises(InputError, match=r"set b: score is in years, .* in points"):
        merge([("a", points), ("b", years)])


def test_json_and_back_is_the_same_vocabulary() -> None:
    assert Vocabulary.from_json(json.loads(json.dumps(TASKS.to_json()))) == TASKS


def test_selecting_keeps_the_order_of_the_vocabulary() -> None:
    assert PPMI.select(["age", "stage"]).names == ("stage", "age")
    with pytest.raises(InputError, match=r"no target 'task' .*stage, sex, age"):
        PPMI.select(["task"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: group("dx", ["CN", "CN"]), "occurs twice"),
        (lambda: group("dx", []), "no categories"),
        (lambda: group("dx", ["CN"], default="PD"), "default 'PD' is not one of"),
        (lambda: Target("dx", "class", ("CN",)), "kind 'class'"),
        (lambda: Target("sex", "sex", ("M", "F"), log=True), "only a scalar has a log scale"),
        (lambda: Vocabulary((sex(), sex())), "name occurs twice"),
        (lambda: Vocabulary((sex(), group("dx", ["CN"]))), "groups, then sex, then scalars"),
    ],
)
def test_a_target_that_contradicts_itself_is_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_labels_are_encoded_as_positions_and_an_unknown_one_is_named() -> None:
    stage, _, age = PPMI.targets
    assert (stage.encode("CN"), age.encode(61.5)) == (1.0, 61.5)
    assert np.isnan(stage.encode(None))
    with pytest.raises(InputError, match="'MCI' is not a category of stage"):
        stage.encode("MCI")
