"""Plug-ins of other packages through the real verbs: the template's five, and packages that are
wrong in every way that a line can tell.

Packages are put on the path as pip leaves them: the files, and a dist-info beside them.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lcm_scale import config, plugins
from lcm_scale.config import Recipe, ShardRecipe
from lcm_scale.data.manifest import read_manifest
from lcm_scale.errors import InputError
from lcm_scale.evaluation import metrics

TEMPLATE = Path(__file__).parents[2] / "examples" / "plugin_template"
Lcm = Callable[[str], tuple[int, str, str]]
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install("pkg", {"readers": {"x": "pkg:read"}}, "source")` -> where it lies."""
    place = tmp_path / "site"
    before = set(sys.modules)

    def forget() -> None:
        plugins.offered.cache_clear()
        importlib.invalidate_caches()

    def put(name: str, offers: dict[str, dict[str, str]], source: str = "") -> Path:
        module = name.replace("-", "_")
        info = place / f"{module}-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        lines = [
            line
            for kind, named in offers.items()
            for line in (
                f"[lcm_scale.{kind}]",
                *(f"{key} = {value}" for key, value in named.items()),
            )
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        if source:
            (place / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(place))
        forget()
        return place

    monkeypatch.setattr(plugins, "_used", {})
    yield put
    forget()
    for of_kind in metrics.METRICS.values():
        for name in set(of_kind) - set(config.run.METRICS):
            del of_kind[name]
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(place)):
            del sys.modules[name]


@pytest.fixture
def template(install: Install) -> Path:
    """The template, installed; where it lies."""
    told = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    offers = {key.removeprefix("lcm_scale."): value for key, value in told["entry-points"].items()}
    place = install(told["name"], offers)
    shutil.copytree(TEMPLATE / "lcm_scale_example", place / "lcm_scale_example")
    return place


def test_the_templates_own_tests_pass(template: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("of_template", TEMPLATE / "test_plugins.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ran = 0
    for name, test in vars(module).items():
        if name.startswith("test_"):
            test(**({"tmp_path": tmp_path} if "reader" in name else {}))
            ran += 1
    assert ran == 5


def folders(raw: Path, people: int = 12) -> None:
    rng = np.random.default_rng(0)
    for diagnosis in ("Autism", "CN"):
        (raw / diagnosis).mkdir(parents=True)
        for number in range(people):
            series = rng.standard_normal((40, 6))
            series[:, 1] += 2 * series[:, 0] * (diagnosis == "CN")
            np.savetxt(raw / diagnosis / f"{diagnosis}{number:02d}.csv", series, delimiter=",")


def test_all_five_work_through_the_verbs_and_are_named_where_numbers_come_from(
    template: Path, lcm: Lcm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "salt").write_text("5a" * 32)
    monkeypatch.setenv("LCM_SALT_FILE", str(tmp_path / "salt"))
    folders(tmp_path / "raw")
    (tmp_path / "set.yaml").write_text(
        "name: mine\nreader: folders\natlas: 'toy:6'\nsource: {dir: raw, tr: 2.0}\n"
        "connectivity: {kind: spearman}\ngroups: [{name: diagnosis}]\nage: false\nsex: false\n"
    )
    code, _, error = lcm("shard set.yaml")
    assert code == 0, error
    manifest = read_manifest(tmp_path / "shards" / "mine")
    said = {"plug-in lcm-scale-example (reader folders)": "0.1.0"}
    said["plug-in lcm-scale-example (connectivity spearman)"] = "0.1.0"
    assert said.items() <= manifest.versions.items()
    assert manifest.kind == "spearman" and manifest.scans == 24

    (tmp_path / "run.yaml").write_text(
        "name: run\ndata: {sets: [mine], validation: 0.2}\n"
        "model: {preset: tiny, width: 16, layers: 1, heads: 2, ffn: 16}\n"
        "phases: [{name: adaptive, epochs: 1}]\ntrainer: {global_batch: 8, threads: 1}\n"
        "evaluate: {protocol: halves, primary: kappa, baselines: [majority, neighbours], "
        "bootstrap: 20, confounds: []}\n"
    )
    code, _, error = lcm("evaluate run.yaml")
    assert code == 0, error
    folder = tmp_path / "runs" / "run"
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "kappa"]
    assert {"LCM", "majority", "neighbours"} <= {row["model"] for row in rows}
    known = {row["model"]: float(row["value"]) for row in rows if not row.get("baseline")}
    assert known["neighbours"] > 0.2 > known["majority"]
    assert sorted(path.name for path in (folder / "folds").iterdir()) == ["fold-1", "fold-2"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Two halves by person" in page and "Cohen&#39;s kappa" in page
    for kind, name in (
        *(("reader", "folders"), ("connectivity", "spearman"), ("protocol", "halves")),
        *(("metric", "kappa"), ("baseline", "neighbours")),
    ):
        assert f"lcm-scale-example ({kind} {name}) 0.1.0" in page
    versions = json.loads((folder / "provenance.json").read_text())["versions"]
    assert versions["plug-in lcm-scale-example (protocol halves)"] == "0.1.0"


def refused(*overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        config.load(Recipe, None, list(overrides))
    return str(caught.value)


def test_an_unknown_name_is_told_with_the_plugins_there_are(template: Path) -> None:
    said = refused("evaluate.protocol=halfs")
    assert "did you mean 'halves'?" in said and "paper, halves)" in said
    assert "(one of kappa)" in refused("evaluate.metrics=[kapa]")
    with pytest.raises(InputError, match="did you mean 'folders'"):
        config.load(ShardRecipe, None, ["reader=folder"])


def test_checking_a_recipe_imports_no_plugin(template: Path) -> None:
    config.load(Recipe, None, ["evaluate.protocol=halves", "evaluate.baselines=[neighbours]"])
    assert not any(name.startswith("lcm_scale_example") for name in sys.modules)


def test_without_packages_a_metric_has_no_names_to_offer(install: Install) -> None:
    plugins.offered.cache_clear()
    assert "no installed package offers one" in refused("evaluate.metrics=[kappa]")


def test_a_name_that_is_taken_is_refused_where_it_is_used(install: Install) -> None:
    install("taken", {"protocols": {"nested": "taken:plan"}})
    said = refused("evaluate.protocol=nested")
    assert said.startswith("plug-in protocol 'nested' of taken 0.1.0: a built-in one has that name")
    install("other", {"protocols": {"mine": "other:plan"}})
    install("third", {"protocols": {"mine": "third:plan"}})
    assert "third 0.1.0 offers that name too" in refused("evaluate.protocol=mine") or (
        "other 0.1.0 offers that name too" in refused("evaluate.protocol=mine")
    )


PLAN = """
import numpy as np
from dataclasses import replace
from lcm_scale.evaluation.folds import Fold
from lcm_scale.evaluation.protocols import nested
def leaky(recipe, sets):
    plan = nested.plan(recipe, sets)
    fold = plan.folds[0]
    return replace(plan, folds=(Fold(np.append(fold.train, fold.test[0]), fold.validation, fold.test),))
def chosen(recipe, sets):
    plan = nested.plan(recipe, sets)
    return replace(plan, folds=tuple(replace(f, validation=f.test) for f in plan.folds))
def mute(recipe, sets):
    return replace(nested.plan(recipe, sets), sentence=" ")
def other(recipe, sets):
    return 3
def fails(recipe, sets):
    raise ZeroDivisionError("division\\nby zero")
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leaky", "fold 1 trains on 1 of the people that it tests"),
        ("chosen", "does not say that it is `optimistic`"),
        ("mute", "no `sentence`"),
        ("other", "gave a int, expected a Plan"),
        ("fails", "ZeroDivisionError: division by zero"),
        ("absent", "AttributeError"),
    ],
)
def test_a_protocol_that_would_mislead_is_refused_by_a_line_that_names_its_package(
    install: Install, recipe: Callable[..., Recipe], name: str, said: str
) -> None:
    from lcm_scale.evaluation.prepare import prepare_evaluation

    install("odd", {"protocols": {name: f"odd:{name}"}}, PLAN)
    with pytest.raises(InputError, match=f"plug-in protocol '{name}' of odd 0.1.0: ") as caught:
        prepare_evaluation(recipe(f"evaluate.protocol={name}", "evaluate.target=diagnosis"))
    assert said in str(caught.value) and "\n" not in str(caught.value)


BASELINE = """
import numpy as np
def nan(training):
    return lambda edges: np.full((len(edges), training.n_classes), np.nan)
def wide(training):
    return lambda edges: np.zeros((len(edges), 7))
def unsure(training):
    return lambda edges: np.zeros((len(edges), training.n_classes))
def nothing(training):
    return None
def late(training):
    def predict(edges):
        raise KeyError("x")
    return predict
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nan", "no number"),
        ("wide", r"shape \(4, 7\), expected \(4, 2\)"),
        ("unsure", "no probabilities"),
        ("nothing", "gave a NoneType"),
        ("late", "KeyError: 'x'"),
    ],
)
def test_a_baseline_that_answers_nothing_is_refused(install: Install, name: str, said: str) -> None:
    from lcm_scale.evaluation.baselines import fit_predict

    install("odd", {"baselines": {name: f"odd:{name}"}}, BASELINE)
    edges, truth = np.random.default_rng(0).standard_normal((8, 3)), np.arange(8) % 2
    with pytest.raises(InputError, match=rf"plug-in baseline '{name}' of odd 0.1.0: .*{said}"):
        fit_predict(name, edges, truth, np.arange(8), edges[:4], "class", 2, 0)


METRIC = """
import numpy as np
from lcm_scale.evaluation.offered import OfferedMetric
undirected = lambda p, w: w.sum(1)
single = OfferedMetric("Single", lambda p, w: 1.0, True, 1, "class")
stray = OfferedMetric("Stray", lambda p, w: w.sum(1), True, 1, "images")
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("undirected", "is no lcm_scale.evaluation.offered.OfferedMetric"),
        ("stray", "is no lcm_scale.evaluation.offered.OfferedMetric"),
        ("single", r"a result of shape \(\)"),
    ],
)
def test_a_metric_without_direction_or_kind_is_refused(
    install: Install, recipe: Callable[..., Recipe], name: str, said: str
) -> None:
    from lcm_scale.evaluation.prepare import prepare_evaluation

    install("odd", {"metrics": {name: f"odd:{name}"}}, METRIC)
    with pytest.raises(InputError, match=rf"plug-in metric '{name}' of odd 0.1.0: .*{said}"):
        prepare_evaluation(recipe(f"evaluate.metrics=[{name}]"))


KIND = """
import numpy as np
wide = lambda x: np.eye(x.shape[1] + 1)
large = lambda x: 2 * np.eye(x.shape[1])
skewed = lambda x: np.triu(np.full((x.shape[1],) * 2, 0.5))
"""


@pytest.mark.parametrize(
    ("name", "said"), [("wide", "shape"), ("large", "beyond -1..1"), ("skewed", "not symmetric")]
)
def test_a_connectivity_that_is_no_correlation_is_refused(
    install: Install, name: str, said: str
) -> None:
    from lcm_scale.data.kinds import matrix_of

    install("odd", {"connectivities": {name: f"odd:{name}"}}, KIND)
    with pytest.raises(InputError, match=rf"plug-in connectivity '{name}' of odd 0.1.0: .*{said}"):
        matrix_of(np.random.default_rng(0).standard_normal((20, 4)), name)


def test_a_reader_that_fails_is_told_by_package_and_leaves_nothing(
    install: Install, lcm: Lcm, tmp_path: Path
) -> None:
    source = "def read(recipe, atlas):\n    yield 3\n"
    install("odd", {"readers": {"odd": "odd:read", "gone": "no_such_module:read"}}, source)
    for name, said in (("odd", "gave a int"), ("gone", "ModuleNotFoundError")):
        (tmp_path / "x.yaml").write_text(f"name: x\nreader: {name}\natlas: 'toy:4'\n")
        code, _, error = lcm(f"shard {tmp_path}/x.yaml shards_dir={tmp_path}/shards")
        assert code == 2 and error.count("\n") == 1
        assert error.startswith(f"error: plug-in reader '{name}' of odd 0.1.0: ") and said in error
    assert not (tmp_path / "shards" / "x").exists()


def test_harmonised_features_are_not_a_plugins(
    template: Path, recipe: Callable[..., Recipe]
) -> None:
    from lcm_scale.evaluation.prepare import prepare_evaluation

    with pytest.raises(InputError, match=r"neighbours: under evaluate.harmonise=combat"):
        prepare_evaluation(recipe("evaluate.baselines=[neighbours]", "evaluate.harmonise=combat"))
