"""Methods, ready to paste: every number is the run's own, and only what was used is cited."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.config import Recipe
from lcm_scale.evaluation.described import described
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.evaluation.results import Report
from lcm_scale.linear.ridge import RIDGE_ALPHAS
from lcm_scale.linear.svm import SVM_COSTS
from lcm_scale.report.citations import Citation, citations
from lcm_scale.report.methods import markdown, paragraphs
from lcm_scale.training.fit import finetune, pretrain

ASKED = (
    "name=methods",
    "data.sets=[second,first]",
    "data.validation=0.2",
    "evaluate.folds=3",
    "evaluate.bootstrap=1234",
    "evaluate.targets=[diagnosis,age]",
    "model.people_memory=linear",
)


@pytest.fixture(scope="module")
def facts(
    recipe_into: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("methods")
    found: dict[str, Any] = described(prepare_evaluation(recipe_into(folder, *ASKED)))
    assert json.loads(json.dumps(found)) == found, "plain values"
    return found


def report_of(facts: dict[str, Any], **changes: Any) -> Report:
    empty = Report(
        title="A study",
        simulated=True,
        headline="diagnosis",
        targets=(),
        notes=(),
        protocol="Nested cross-validation: 3 folds.",
        data={},
        stages=(),
        curves=(),
        pseudo_labels=(),
        quality={},
        provenance={"commit": "abcdef0123456789"},
        methods=facts,
    )
    return replace(empty, **changes)


def text_of(facts: dict[str, Any]) -> str:
    return " ".join(text for _, text in paragraphs(report_of(facts)))


def test_people_and_answers_are_those_of_the_manifest_and_the_index(
    facts: dict[str, Any], world: Path
) -> None:
    second, first = facts["sets"]
    manifest = json.loads((world / "shards" / "first" / "manifest.json").read_text())
    with np.load(world / "shards" / "first" / "index.npz") as index:
        labels, subject = index["bei"], index["subject"]
    assert (first["scans"], first["people"]) == (manifest["scans"], len(manifest["subjects"]))
    assert first["tested"] and not second["tested"] and first["simulated"]
    assert first["left_out"] == manifest["quality"]["skipped"]
    for column, target in enumerate(manifest["vocabulary"]):
        own, known = labels[:, column], first["answers"][target["name"]]
        if target["kind"] == "scalar":
            ages = own[np.isfinite(own)]
            assert known["people"] == len(ages) and known["mean"] == pytest.approx(ages.mean())
            assert known["sd"] == pytest.approx(ages.std(ddof=1), rel=1e-6)
            assert (known["low"], known["high"]) == (ages.min(), ages.max())
        else:
            for code, name in enumerate(target["categories"]):
                people = len(np.unique(subject[own == code]))
                assert known["of"].get(name, 0) == (0 if name == "N/A" else people), name
    said = paragraphs(report_of(facts))[0][1]
    assert "set first (evaluated) holds 37 scans of 37 people" in said
    assert "set second (trained on, not evaluated) holds 26 scans of 26 people" in said
    ill = first["answers"]["diagnosis"]
    assert f"Diagnosis: CN {ill['of']['CN']}, Autism {ill['of']['Autism']}." in said
    sex = first["answers"]["sex"]
    assert sex["people"] == sum(sex["of"].values()) < 37
    assert f"Sex: M {sex['of']['M']}, F {sex['of']['F']}, known of {sex['people']} people." in said


def test_people_are_counted_once_however_many_windows_they_have(
    make_set: Callable[..., None], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    make_set(
        tmp_path,
        "windows",
        [
            "simulation.subjects=16",
            "simulation.missing_labels=0",
            "connectivity.window=20",
            "connectivity.min_volumes=10",
        ],
    )
    asked = recipe("data.sets=[windows]", f"data.shards_dir={tmp_path}/shards", "evaluate.folds=2")
    facts = described(prepare_evaluation(asked))
    (one,) = facts["sets"]
    assert (one["scans"], one["people"], one["answers"]["age"]["people"]) == (32, 16, 16)
    assert sum(one["answers"]["sex"]["of"].values()) == one["answers"]["sex"]["people"] == 16
    said = text_of(facts)
    assert "32 scans of 16 people" in said and "from windows of 20 volumes" in said
    assert "what has fewer than 10 volumes is left out" in said


def numbers_in(value: Any) -> Iterator[str]:
    """Every number of plain values, as the text may spell it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers_in(key)
            yield from numbers_in(inner)
    elif isinstance(value, list):
        yield str(len(value))
        for inner in value:
            yield from numbers_in(inner)
    elif isinstance(value, str):
        yield from re.findall(NUMBER, value)
    elif isinstance(value, (int, float)):
        forms = (f"{value}", f"{value:,}", f"{value:g}", f"{value:.4g}", f"{value:.1f}")
        yield from (*forms, f"{value:.2f}", f"{100 * value:.0f}")


NUMBER = r"\d(?:[\d,]*\d)?(?:\.\d+)?(?:e-?\d+)?"


def test_every_number_of_the_text_is_one_of_the_facts(facts: dict[str, Any]) -> None:
    ranges = (*SVM_COSTS[[0, -1]], *RIDGE_ALPHAS[[0, -1]])
    of_the_program = (
        {f"{value:.2g}" for value in ranges}
        | {
            *(
                "2025",
                "95",
                "0",
                "8",
                "0.1",
            ),  # Wei et al., the intervals, a shut gate, the baselines'
            *(str(len(SVM_COSTS)), str(len(RIDGE_ALPHAS))),
            "0123456789"[:6],
        }
    )
    allowed = {*numbers_in(facts), *of_the_program}
    said = text_of(facts).replace("abcdef012345", "")
    unknown = [number for number in re.findall(NUMBER, said) if number not in allowed]
    assert not unknown and "1,234 bootstrap resamples" in said
    assert f"{facts['model']['parameters']:,} parameters" in said
    assert "pretrained" not in said and "[Ethics and consent.]" in said


def changed(facts: dict[str, Any], part: str, **values: Any) -> dict[str, Any]:
    return {**facts, part: {**facts[part], **values}}


@pytest.fixture(scope="module")
def adapted(
    recipe_into: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recipe, dict[str, Any]]:
    """A recipe whose folds finetune a pretrained model by adapters, and the facts of it."""
    folder = tmp_path_factory.mktemp("adapted")
    start = pretrain(recipe_into(folder, "name=start", "data=second", "trainer.max_steps=1"))
    lora = ("optim.trainable=lora", "optim.lora={rank: 3, targets: [attention]}")
    asked = recipe_into(folder, f"init_from={start}", "evaluate.targets=[sex]", *lora)
    return asked, described(prepare_evaluation(asked))


def test_what_of_a_pretrained_model_was_trained_is_said_with_its_numbers(
    adapted: tuple[Recipe, dict[str, Any]], facts: dict[str, Any]
) -> None:
    said, trains = text_of(adapted[1]), adapted[1]["model"]["trains"]
    assert "adapters (LoRA, Hu et al. 2022) of rank 3 and alpha 16 on attention, the tokens" in said
    assert f"{trains['weights']:,} weights in all; the others stood still" in said
    assert "hu2022lora" in {work.key for work in citations(adapted[1], False)}
    assert "stood still" not in text_of(facts)
    tokens = changed(facts, "model", trains={"part": "tokens", "weights": 1234})
    assert "the readout alone, 1,234 weights in all" in text_of(tokens)


def test_of_a_model_that_is_asked_as_it_is_too(
    adapted: tuple[Recipe, dict[str, Any]], recipe: Callable[..., Recipe]
) -> None:
    tuned = finetune(
        replace(adapted[0], name="tuned", data=replace(adapted[0].data, sets=["second"]))
    )
    facts = described(prepare_evaluation(recipe(f"evaluate.checkpoint={tuned}")))
    assert facts["model"]["fixed"]
    own = {"part": "lora", "rank": 3, "alpha": 16.0, "targets": ["attention"]}
    assert facts["model"]["trains"] == own | {"weights": facts["model"]["trains"]["weights"]}


def test_only_what_was_used_is_cited(facts: dict[str, Any]) -> None:
    def keys(facts: dict[str, Any], explained: bool = False) -> set[str]:
        return {work.key for work in citations(facts, explained)}

    plain = keys(facts)
    assert {"wei2025lcm", "holm1979", "efron1993bootstrap", "varoquaux2010tangent"} <= plain
    added = {
        "johnson2007combat": changed(facts, "evaluation", harmonise="combat"),
        "guo2017calibration": changed(
            facts, "evaluation", calibrated={"diagnosis": {"none": 2, "temperature": 1}}
        ),
        "vovk2005": changed(facts, "evaluation", conformal=0.1),
        "nadeau2003": changed(facts, "evaluation", protocol="repeated"),
        "tzourio2002aal": {**facts, "sets": [{**facts["sets"][0], "atlas": "aal116"}]},
    }
    for key, asked in added.items():
        assert key not in plain and key in keys(asked), key
    none = changed(facts, "evaluation", calibrated={"diagnosis": {"none": 3}})
    assert "guo2017calibration" not in keys(none), "asked for, but with too few people"
    assert "haufe2014" not in plain and "haufe2014" in keys(facts, explained=True)
    assert "holm1979" not in keys(changed(facts, "evaluation", targets=["age"]))
    bare = changed(facts, "evaluation", baselines=["majority"])
    assert "varoquaux2010tangent" not in keys(changed(bare, "model", people_memory="none"))


def test_a_set_is_cited_by_what_its_manifest_says_of_its_source(facts: dict[str, Any]) -> None:
    note = "Toy & co. {x} (doi 10.17608/k6.auckland.21397377, CC BY 4.0)."
    one = {**facts["sets"][0], "name": "my-set", "notes": [note]}
    work = citations({**facts, "sets": [one]}, False)[0]
    assert work.key == "myset1" and work.more["doi"] == "10.17608/k6.auckland.21397377"
    assert work.line.count("10.17608") == 1 and r"\&" in work.bibtex and "{x}" not in work.bibtex
    assert note in text_of({**facts, "sets": [one]})


def test_bibtex_is_whole_and_holds_no_link(facts: dict[str, Any]) -> None:
    works: list[Citation] = citations(facts, True)
    assert len({work.key for work in works}) == len(works)
    for work in works:
        assert work.bibtex.count("{") == work.bibtex.count("}") and "http" not in work.bibtex
        assert re.match(r"@(article|inproceedings|book|misc)\{\w+,\n  ", work.bibtex)
        assert "others" not in work.line and "--" not in work.line
    said = markdown(report_of(facts), works)
    assert "SIMULATED" in said and said.count("\n- ") == len(works)
