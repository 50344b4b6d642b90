"""Harmonisation inside the folds: no held-out scan changes what is fitted, model and baselines see
the same, and what cannot be harmonised is told before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.config import Recipe
from lcm_scale.data import harmonise as effects
from lcm_scale.data.harmonise import SiteEffects
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation import harmonise as inside
from lcm_scale.evaluation.baselines import fit_predict
from lcm_scale.evaluation.features import fisher_features, products_without_sites
from lcm_scale.evaluation.harmonise import (
    harmonised,
    harmonised_edges,
    preserved,
    site_effects,
)
from lcm_scale.evaluation.prepare import PreparedEvaluation, prepare_evaluation
from lcm_scale.report.write import write_report
from lcm_scale.training import fit as run
from lcm_scale.weights import checkpoints
from lcm_scale.weights.plain import export_plain

Make = Callable[..., Recipe]
QUICK = (
    "name=eval",
    "evaluate.folds=3",
    "evaluate.bootstrap=50",
    "evaluate.stratify=diagnosis",
    "evaluate.targets=[diagnosis, eye_status]",
    "data.validation=0.2",
    "phases=[{name: one, epochs: 1}]",
)


# -- no leak ---------------------------------------------------------------------------------------


def changed(prepared: PreparedEvaluation, held: np.ndarray) -> PreparedEvaluation:
    """The same evaluation, had the held-out scans other matrices and other labels."""
    opened = prepared.opened
    edges, labels = opened.source.edges.copy(), opened.sets.labels.copy()  # type: ignore[union-attr]
    edges[held] = -edges[held] / 2
    labels[held] = np.where(np.isfinite(labels[held]), 1 - labels[held], 1)
    sets = replace(opened.sets, labels=labels)
    source = opened.source.holding(edges)  # type: ignore[union-attr]
    return replace(prepared, opened=replace(opened, sets=sets, source=source))


@pytest.mark.parametrize("method", ["site-centre", "combat"])
@pytest.mark.parametrize("baseline", ["linear", "tangent"])
def test_no_held_out_scan_changes_the_fit_the_training_features_or_a_baselines_weights(
    method: str, baseline: str, recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = prepare_evaluation(recipe(*QUICK, f"evaluate.harmonise={method}"))
    fold, train = usual.folds[0], usual.training[0]
    held = usual.scans[np.concatenate([fold.test, fold.validation])]
    other = changed(usual, held)
    facts = effects.covariates_of
    asked = [question.target.name for question in usual.questions]
    found = []
    for one in (usual, other):
        if one is other:  # ages and sexes of the held-out people, which the index holds

            def upside_down(*args: object) -> np.ndarray:
                values = facts(*args)  # type: ignore[arg-type]
                values[held] = 50 - values[held]
                return values

            monkeypatch.setattr(inside, "covariates_of", upside_down)
        fitted: list[object] = []
        monkeypatch.setattr(
            inside,
            "fit_harmoniser",
            lambda *a, fitted=fitted, **k: (
                fitted.append(effects.fit_harmoniser(*a, **k)) or fitted[-1]
            ),
        )
        source, sets = harmonised(one.opened, train, asked).source, one.opened.sets
        own = one.opened.source.gather(one.scans[fold.train])
        truth = one.questions[0].truth(sets.labels[one.scans])[fold.train]
        every = site_effects(method, sets, one.scans, asked)
        sites = every and every.of(np.concatenate([fold.train, fold.train]))
        # A model's answers to its own training scans are a function of its weights.
        subject = sets.subject[one.scans[fold.train]]
        answer = fit_predict(baseline, own, truth, subject, own, "class", 2, 0, sites=sites)
        found.append((vars(fitted[0]), source.gather(train), answer, source.gather(held)))
    for key, value in found[0][0].items():
        assert np.asarray(value).tobytes() == np.asarray(found[1][0][key]).tobytes(), key
    assert found[0][1].tobytes() == found[1][1].tobytes()
    assert found[0][2].tobytes() == found[1][2].tobytes()
    assert found[0][3].tobytes() != found[1][3].tobytes()


def test_an_evaluated_target_is_never_preserved() -> None:
    """ComBat puts a scan's own covariates back: a held-out age would come back as its feature."""
    assert preserved("combat", ["diagnosis"]) == ("age", "sex")
    assert preserved("combat", ["diagnosis", "age"]) == ("sex",)
    assert preserved("combat", ["age", "sex"]) == ()
    assert preserved("site-centre", ["diagnosis"]) == ()


def test_the_tangent_space_does_not_tell_the_site_of_harmonised_scans() -> None:
    """Of harmonised matrices it would: they are far from positive definite (docs/log.md)."""
    rng = np.random.default_rng(0)
    n, R, S = 150, 12, 3
    site = np.arange(n) % S
    patterns = rng.normal(size=(S, R))
    rows, columns = np.triu_indices(R, 1)
    series = rng.normal(size=(n, 14, R)) + rng.normal(size=(n, 14, 1)) * patterns[site][:, None]
    edges = np.stack([np.corrcoef(s.T)[rows, columns] for s in series]).astype(np.float32)
    people = np.arange(n)

    def told(of: np.ndarray, sites: SiteEffects | None) -> float:
        arguments = ("tangent", of[:100], site[:100], people[:100], of[100:], "class", S, 0)
        return float((fit_predict(*arguments, sites=sites).argmax(1) == site[100:]).mean())

    fitted = effects.fit_harmoniser(
        "site-centre", edges[:100], site[:100], people[:100], np.zeros((100, 0)), True
    )
    moved = fitted.apply(edges, site, np.zeros((n, 0)))
    sites = SiteEffects("site-centre", site, people, np.zeros((n, 0)))
    assert told(edges, None) > 0.8
    assert told(edges, sites) < 0.5
    assert told(moved, None) > 0.5


def test_the_inner_cross_validation_is_harmonised_anew() -> None:
    """A scan that took part in its site's mean is the negative of the others of its site: tuned and
    calibrated on such, ABIDE's sex was told the wrong way round in some folds (AUROC .51 for .68)."""
    rng = np.random.default_rng(3)
    edges = rng.uniform(-0.6, 0.6, (40, 15)).astype(np.float32)
    sites = SiteEffects("combat", np.arange(40) % 4, np.arange(40), rng.normal(size=(40, 1)))
    train, test, inner = products_without_sites(fisher_features, edges[:30], edges[30:], sites)
    fit, held = np.arange(0, 30, 2), np.arange(1, 30, 2)
    part = sites.of(np.concatenate([fit, held]))
    alone = products_without_sites(fisher_features, edges[fit], edges[held], part)
    own, others = inner(fit, held)
    scale = np.trace(own) / np.trace(alone[0])
    np.testing.assert_allclose(own, scale * alone[0], atol=1e-5)
    np.testing.assert_allclose(others, scale * alone[1], atol=1e-5)
    assert np.abs(own - train[np.ix_(fit, fit)]).max() > 0.05
    assert train.shape == (30, 30) and test.shape == (10, 30)


# -- the whole way ---------------------------------------------------------------------------------


def test_a_harmonised_evaluation_says_what_was_done_and_its_models_answer_nowhere_else(
    recipe: Make, tmp_path: Path
) -> None:
    asked = (*QUICK, "evaluate.harmonise=combat", "evaluate.baselines=[linear, tangent]")
    prepared = prepare_evaluation(recipe(*asked))
    report = write_report(crossvalidate.evaluate(prepared), prepared.folder)
    notes = " ".join(json.loads((report.parent / "results.json").read_text())["notes"])
    assert "Harmonised (combat) inside each fold" in notes and "4 sites (SIM1, SIM2" in notes
    assert "Preserved: age, sex" in notes
    assert "of 37 held-out scans" in notes

    model = report.parent / "folds" / "fold-1"
    assert checkpoints.load(model, harmonised=True).harmonised == "combat"
    for use in (
        lambda: checkpoints.load(model),
        lambda: export_plain(model, tmp_path / "it.safetensors"),
        lambda: run.finetune(recipe("name=tuned", f"init_from={model}")),
        lambda: prepare_evaluation(
            recipe("name=fixed", "data=second", f"evaluate.checkpoint={model}")
        ),
    ):
        with pytest.raises(InputError, match=r"fold's model, .*evaluate\.harmonise=combat"):
            use()

    with pytest.raises(InputError, match=r"holds another evaluation .*evaluate\.harmonise"):
        prepare_evaluation(recipe(*asked, "evaluate.harmonise=site-centre"))
    before = checkpoints.find(model).stat().st_mtime_ns
    crossvalidate.evaluate(prepare_evaluation(recipe(*asked)))  # goes on with the folds it has
    assert checkpoints.find(model).stat().st_mtime_ns == before


def test_scans_of_sites_that_no_fold_knows_are_counted_and_named(recipe: Make) -> None:
    prepared = prepare_evaluation(recipe(*QUICK, "evaluate.harmonise=combat"))
    sets = prepared.opened.sets
    site = sets.site.copy()
    site[:3], site[3] = len(sets.sites), -1
    subject = sets.subject.copy()
    subject[:3] = subject[0]
    strange = replace(sets, site=site, subject=subject, sites=(*sets.sites, "Lone"))
    words = inside.sentence(
        replace(prepared.opened, sets=strange),
        prepared.scans,
        prepared.folds,
        prepared.training,
        ["diagnosis"],
    )
    # Three of the lone person, one of no site, and those that meet a fold with one of SIM4.
    assert "7 of 37 held-out scans (Lone, SIM4, no site)" in words


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("data.resident_gb=0", r"above data\.resident_gb=0 and streamed"),
        ("evaluate.harmonise=Combat", "one of none, site-centre, combat|did you mean 'combat'"),
    ],
)
def test_what_cannot_be_harmonised_is_told_before_anything_is_trained(
    change: str, expected: str, recipe: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=expected):
        prepare_evaluation(recipe(*QUICK, "evaluate.harmonise=combat", change))
    assert not (tmp_path / "runs").exists()


def test_one_site_is_refused(recipe: Make, make_set, tmp_path: Path) -> None:
    make_set(tmp_path, "one", ["simulation.subjects=20", "simulation.sites=1"])
    lone = recipe(
        *QUICK, f"data.shards_dir={tmp_path}/shards", "data=one", "evaluate.harmonise=site-centre"
    )
    with pytest.raises(InputError, match=r"fold 1: 1 sites have at least 2 training people"):
        prepare_evaluation(lone)


def test_a_fixed_model_is_not_harmonised(recipe: Make) -> None:
    start = run.pretrain(recipe("name=pre", "data.targets=[sex, age]", "trainer.max_steps=1"))
    with pytest.raises(InputError, match=r"evaluate\.checkpoint and evaluate\.harmonise exclude"):
        prepare_evaluation(
            recipe(
                "name=eval",
                "data=second",
                f"evaluate.checkpoint={start}",
                "evaluate.targets=[sex, age]",
                "evaluate.harmonise=combat",
            )
        )


def test_harmonising_all_scans_by_some_is_what_a_fold_sees(recipe: Make) -> None:
    prepared = prepare_evaluation(recipe(*QUICK, "evaluate.harmonise=combat"))
    opened, train = prepared.opened, prepared.training[1]
    asked = [question.target.name for question in prepared.questions]
    whole = harmonised_edges("combat", opened.source.edges, opened.sets, train, asked)  # type: ignore[union-attr]
    assert np.array_equal(harmonised(opened, train, asked).source.gather(train), whole[train])
    assert np.abs(whole - opened.source.edges).max() > 0.05  # type: ignore[union-attr]
