"""`lcm-scale explain`: a planted effect is found where it was planted, noise gives no finding, and
what cannot be explained is refused in one line."""

from __future__ import annotations

import csv
import importlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.atlas import load_atlas
from lcm_scale.config import Recipe
from lcm_scale.data.given import given
from lcm_scale.data.readers.simulated import planted
from lcm_scale.errors import InputError
from lcm_scale.explain import brains, memory, page, wording
from lcm_scale.explain.decoder import Decoder
from lcm_scale.explain.exchange import exchange
from lcm_scale.explain.finding import check_exchange, explain
from lcm_scale.explain.found import Found, Options
from lcm_scale.explain.models import Run, open_run
from lcm_scale.explain.wording import first_sentences
from lcm_scale.report.explained import explained
from lcm_scale.training.fit import fit
from lcm_scale.training.prepare import prepare

Lcm = Callable[[str], tuple[int, str, str]]
ATLAS = load_atlas("toy:12")
EFFECT = planted(ATLAS)["group"]  # positions of three regions


@pytest.fixture(scope="module")
def run(evaluated: Path) -> Run:
    return open_run(evaluated)


@pytest.fixture(scope="module")
def found(run: Run) -> Found:
    return explain(run, Options(permutations=99, scans=8, gradients=True))


@pytest.fixture(scope="module")
def written(found: Found) -> Path:
    return page.write(found, None).parent


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_planted_edges_differ_from_noise_and_are_the_furthest(written: Path) -> None:
    own = [row for row in rows(written / "edges.csv") if row["target"] == "diagnosis"]
    furthest = sorted(own, key=lambda row: -float(row["z"]))[:3]
    names = {(row["index_a"], row["index_b"]) for row in furthest}
    there = {(str(a + 1), str(b + 1)) for a, b in combinations(EFFECT, 2)}
    assert names == there
    assert all(row["differs"] == "yes" for row in furthest)
    assert all(float(row["change"]) > 0.05 for row in furthest)  # stronger in patients


def test_a_label_of_pure_noise_gives_no_finding(found: Found, written: Path) -> None:
    (diagnosis, sex) = first_sentences(found)
    assert diagnosis.startswith("diagnosis, Autism against CN: ") and "differ from 99" in diagnosis
    assert sex == (
        "sex, F against M: no edge or region differs from 99 label-permuted models: nothing on "
        "this map is a finding."
    )
    own = [row for row in rows(written / "edges.csv") if row["target"] == "sex"]
    assert {row["differs"] for row in own} == {"no"}


def test_maps_of_an_effect_agree_between_people_and_those_of_noise_do_not(found: Found) -> None:
    diagnosis, sex = found.tokens
    for token, low, high in ((diagnosis, 0.0, 0.05), (sex, 0.05, 1.0)):
        folds, halves = token.memory.agreements
        assert (folds.of, halves.of) == ("folds", "halves")
        assert low < halves.p <= high
        assert folds.low <= folds.mean <= folds.high
        assert abs(halves.noise) < 0.1 < folds.noise  # folds share people, halves do not
    assert diagnosis.memory.agreements[1].mean > 0.3


def test_the_refitted_memory_is_the_checkpoint_s_and_another_is_refused(run: Run) -> None:
    one = run.models[0]
    memory.refit(one)
    state = dict(one.model.state)
    state["people.weight"] = state["people.weight"].flip(1)
    changed = type(one.model)(**{**vars(one.model), "state": state})
    with pytest.raises(InputError, match="cannot be fitted again for diagnosis"):
        memory.refit(type(one)(one.prepared, changed, one.asked, one.fold, one.seed))


def test_attention_and_gradients_are_shares_of_a_whole(run: Run, found: Found) -> None:
    for token in found.tokens:
        assert token.decoder.mean.attention.sum() == pytest.approx(1, abs=1e-4)
        assert token.decoder.mean.missing < 0.05
        assert token.decoder.mean.shares is not None
        assert token.decoder.mean.shares.sum() == pytest.approx(1, abs=0.05)
    decoder = Decoder(run.models[0], run.models[0].asked[:3])
    seen = decoder.looked(run.questions[0], 1, gradients=False)
    assert seen.shares is None and seen.gate == float(run.models[0].model.state["people.gate"][0])


def test_the_page_says_first_what_differs_and_that_an_unused_decoder_explains_nothing(
    found: Found, written: Path
) -> None:
    text = (written / "explain.html").read_text(encoding="utf-8")
    plain = re.sub(r"<[^>]+>", " ", text[text.index("<main>") :])
    assert plain.index("nothing on this map is a finding") < plain.index("A map shows")
    assert all(gate == 0 for token in found.tokens for gate in token.decoder.gates)
    assert "its maps explain nothing of the prediction" in plain
    assert "SIMULATED" in text
    assert not re.search(r"(src|href)=\"https?:", text)
    facts = json.loads((written / "explain.json").read_text(encoding="utf-8"))
    assert facts["sentences"] == first_sentences(found)
    for figure in facts["figures"]:
        for ending in ("png", "svg", "csv"):
            assert (written / "figures" / f"{figure['file']}.{ending}").is_file()
    offered = explained(written.parent)
    assert offered is not None and offered.page.is_file()
    assert [each.caption for each in offered.figures] == [f["caption"] for f in facts["figures"]]
    assert all(each.svg.is_file() and each.csv.is_file() for each in offered.figures)
    assert explained(written) is None


def test_labels_are_exchanged_within_a_site_and_all_scans_of_a_person_together(run: Run) -> None:
    sets = run.opened.sets
    truth = sets.labels[:, run.questions[0].column].astype(np.float64)
    truth[3] = np.nan
    drawn = exchange("diagnosis", truth, sets, 20, 0, "site", ())
    labels = drawn.wanted((), False)[:, 1:, 0]  # as of a scalar
    assert (labels[3] == 0).all()
    known = np.isfinite(truth)
    for site in np.unique(sets.site):
        own = known & (sets.site == site)
        assert (labels[own].sum(0) == truth[own].sum()).all()
    assert (labels[known] != truth[known, None]).any()
    signs = drawn.wanted((1,), False)[known, :, 0]
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert (signs[:, 0] > 0).tolist() == (truth[known] == 1).tolist()


def test_what_covariates_say_of_a_label_stays_with_its_person(run: Run) -> None:
    sets = run.opened.sets
    age = given(["age"], sets, np.arange(sets.n_scans)).values[:, 0]
    truth = np.where(np.isfinite(age), age, np.nan)
    drawn = exchange("other", truth, sets, 20, 0, "site", ("age",))
    assert drawn.beyond == ("age",)
    labels = drawn.wanted((), False)[np.isfinite(truth), :, 0]
    # A label that is age itself: nothing but the sites' means is left to be exchanged.
    means = np.array([truth[(sets.site == s) & np.isfinite(truth)].mean() for s in sets.site])
    rest = labels - means[np.isfinite(truth), None]
    assert rest[:, 1:] == pytest.approx(np.repeat(rest[:, :1], 20, axis=1))
    assert exchange("age", truth, sets, 1, 0, "site", ("age",)).beyond == ()


def test_a_finetuned_run_is_explained_by_halves_alone(
    evaluated: Path, recipe: Callable[..., Recipe]
) -> None:
    usual = ["model.people_memory=linear", "phases=[{name: only, epochs: 1}]"]
    other = recipe("name=other", "data=second", "data.targets=[sex]", *usual)
    fit(prepare(other))
    start = Path(other.runs_dir) / "other"
    own = recipe("data=first", "data.targets=[sex]", f"init_from={start}", *usual)
    fit(prepare(own))
    run = open_run(Path(own.runs_dir) / own.name)
    again = memory.refit(run.models[0])  # which fits what the pretrained memory leaves over
    assert again.questions["sex"].start is not None and again.targets["sex"].choice.share > 0
    (token,) = explain(run, Options(permutations=0, scans=4)).tokens
    assert [agreed.of for agreed in token.memory.agreements] == ["halves"]
    assert "not held against label-permuted models" in wording.verdict(token, 0)
    with pytest.raises(InputError, match="a part of an evaluated run"):
        open_run(evaluated / "folds" / "fold-1")


def test_regional_values_are_written_on_the_atlas_image(found: Found, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    codes = np.zeros((4, 4, 3), np.int16)
    codes.flat[: 12 * 3] = np.repeat(np.arange(1, 13), 3)
    image = tmp_path / "atlas.nii.gz"
    nibabel.Nifti1Image(codes, np.diag([4.0, 4, 4, 1])).to_filename(image)
    places = brains.centres(ATLAS, image)
    assert places is not None and places.shape == (12, 3)
    values = brains.image_values(found.tokens[0])
    brains.write_image(values["regions"], ATLAS, image, tmp_path / "out.nii.gz")
    back = np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj)
    assert back[codes == 5] == pytest.approx([values["regions"][4]] * 3)
    assert (back[codes == 0] == 0).all()
    assert np.count_nonzero(values["regions-differ"]) < 12
    turned = brains.turnable(found, found.tokens[0], places)
    assert "<script" in turned and 'rel="icon"' not in turned
    assert brains.turnable(found, found.tokens[1], places) == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--targets diagnoses", "--targets: the run was not asked 'diagnoses', did you"),
        ("--adjust site", "--adjust site: expected some of motion, length, age, sex, or none"),
        ("--within scanner", "--within scanner: expected site or set"),
        ("--atlas-image nowhere.nii.gz", "nowhere.nii.gz"),
        ("data.shards_dir=gone", "data.sets: no shards"),
        ("seed=9", "differ"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    evaluated: Path, tmp_path: Path, lcm: Lcm, options: str, said: str
) -> None:
    there = (evaluated / "explain").exists()
    code, _, err = lcm(f"explain {evaluated} {options}")
    assert code == 2 and err.count("\n") == 1 and said in err
    assert (evaluated / "explain").exists() == there


def test_a_folder_without_a_run_is_refused(tmp_path: Path, lcm: Lcm) -> None:
    for folder in (tmp_path, "/nowhere"):  # which has no folder two above it
        code, _, err = lcm(f"explain {folder}")
        assert code == 2 and "no run there" in err
    (tmp_path / "config.json").write_text("{}")
    code, _, err = lcm(f"explain {tmp_path}")
    assert code == 2 and "an exported model" in err and "the run that it was exported from" in err


def test_labels_of_relatives_are_not_exchanged(run: Run) -> None:
    related = replace(run.recipe, evaluate=replace(run.recipe.evaluate, group="family"))
    of_families = replace(run, opened=replace(run.opened, recipe=related))
    with pytest.raises(InputError, match=r"with evaluate\.group=family a label"):
        check_exchange(of_families, Options(permutations=9))
    check_exchange(of_families, Options(permutations=0))


@pytest.mark.parametrize("package", ["captum", "nilearn"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    evaluated: Path, lcm: Lcm, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    importlib.invalidate_caches()
    code, _, err = lcm(f"explain {evaluated}")
    assert code == 2
    assert f"needs {package}" in err and "pip install 'lcm-scale[explain]'" in err


def test_a_dry_run_says_what_would_happen(evaluated: Path, lcm: Lcm) -> None:
    code, out, _ = lcm(f"explain {evaluated} --dry-run --targets sex")
    assert code == 0 and "3 models, sex; would write" in out
