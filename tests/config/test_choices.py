"""What a recipe may choose from is what the code that implements the choice handles, word by word:
the schemas stand above that code and cannot import it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from lcm_scale.atlas import load_atlas
from lcm_scale.config import (
    ConnectivityConfig,
    ContextConfig,
    LoRAConfig,
    OptimConfig,
    Recipe,
    ShardRecipe,
    SourceConfig,
    StrategyConfig,
    SweepRecipe,
    TrainerConfig,
    Trains,
)
from lcm_scale.config.fields import described, section_of
from lcm_scale.config.run import SCRATCH
from lcm_scale.data.cleaning import TAKES
from lcm_scale.data.connectivity import connectivity_matrices
from lcm_scale.data.context import encoded_context
from lcm_scale.data.harmonise import fit_harmoniser
from lcm_scale.data.kinds import ESTIMATORS
from lcm_scale.data.readers import READERS, bids, stack, table
from lcm_scale.data.readers.arrays import read_scan
from lcm_scale.data.readers.cells import age_in_years
from lcm_scale.data.readers.strategies import load_strategy
from lcm_scale.data.reading import read as read_file
from lcm_scale.data.recordings import Recording, Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.evaluation.baselines import BASELINES
from lcm_scale.evaluation.calibrate import MAPS
from lcm_scale.evaluation.confounds import COVARIATES
from lcm_scale.evaluation.metrics import METRICS
from lcm_scale.evaluation.protocols import PROTOCOLS
from lcm_scale.evaluation.units import UNITS
from lcm_scale.hardware.cards import CARDS, YOURS
from lcm_scale.hardware.precision import precision_of
from lcm_scale.laws.collect import runs_of
from lcm_scale.laws.laws import LAWS
from lcm_scale.model.attention import ATTEND
from lcm_scale.model.lcm import LCM, model_input
from lcm_scale.model.presets import PRESETS, LCMConfig
from lcm_scale.objectives import READOUTS, TargetLoss, evaluation_read, read, select_layer
from lcm_scale.training.loggers import NEEDS
from lcm_scale.training.module import LCMModule
from lcm_scale.training.optimizer import ADAPTIVE, MOMENTUM
from lcm_scale.training.parallel.strategy import (
    Hardware,
    choose_hardware,
    prepare_model,
    trainer_arguments,
)
from lcm_scale.training.prepare import loss_terms
from lcm_scale.training.schedule import lr_factor
from lcm_scale.training.together import Together
from lcm_scale.vocabulary import Vocabulary, group, scalar

SHAPE = LCMConfig(6, (2,), width=8, layers=2, heads=2, ffn=8)
CPU = Hardware("cpu", "32-true")

# Where the code has a table of the words, it holds the same ones.
TABLES: dict[str, set[str]] = {
    "ShardRecipe.reader": set(READERS),
    "ShardRecipe.connectivity.kind": {"pearson", *ESTIMATORS},
    "ShardRecipe.connectivity.clean.strategy.name": set(TAKES),
    "Recipe.evaluate.unit": set(UNITS),
    "Recipe.trainer.loggers": {"csv", *NEEDS},
    "Recipe.model.preset": set(PRESETS),
    "Recipe.model.attention": {*ATTEND, "auto"},
    "Recipe.phases.readout": set(READOUTS),
    "Recipe.phases.stage": {MOMENTUM, ADAPTIVE},
    "Recipe.evaluate.protocol": set(PROTOCOLS),
    "Recipe.evaluate.primary": {"usual", *METRICS["class"], *METRICS["scalar"]},
    "Recipe.evaluate.baselines": {*BASELINES, SCRATCH},
    "Recipe.evaluate.confounds": set(COVARIATES),
    "Recipe.evaluate.calibration": {"none", *MAPS},
    "SweepRecipe.baselines": set(BASELINES),
    "SweepRecipe.budget.gpu": {*CARDS, YOURS},
    "SweepRecipe.assume.law": set(LAWS),
    "SweepRecipe.fit.laws": set(LAWS),
}
# Choices whose words whole runs or sweeps tell apart: the tests that run them.
SHOWN_BY = {
    "Recipe.model.people_memory": ("tests/training/test_remember.py",),
    "Recipe.model.prior": ("tests/training/test_remember.py",),
    "Recipe.pseudo.threshold": ("tests/training/test_pseudo_labels.py",),
    "SweepRecipe.design": ("tests/sweep/test_points.py", "tests/laws/test_analysis.py"),
}


def pad(word: str) -> object:
    """Of a last window of ten volumes where twenty make one."""
    series = np.random.default_rng(0).standard_normal((30, 6))
    config = ConnectivityConfig(window=20, pad=word, min_volumes=5)
    last = connectivity_matrices(
        Recording("toy", "1", "one.csv", series), config, load_atlas("toy:6")
    )[-1]
    return "skipped" if isinstance(last, Skipped) else last.values.tobytes()


def kind(word: str, folder: Path) -> object:
    series = np.random.default_rng(0).standard_normal((8, 6))
    np.save(folder / "scan.npy", series if word == "series" else np.corrcoef(series.T))
    (folder / "table.csv").write_text("file,subject\nscan.npy,1\n")
    recipe = ShardRecipe(source=SourceConfig(table=str(folder / "table.csv"), kind=word))
    (scan,) = table.read(recipe, load_atlas("toy:6"))
    assert isinstance(scan, Unread)
    scan = scan.read()
    return scan.series is None, scan.connectivity is None


def on_error(word: str, folder: Path) -> object:
    (folder / "scan.csv").write_text("1,2\n")
    (folder / "table.csv").write_text("file,subject\nscan.csv,1\n")
    recipe = ShardRecipe(source=SourceConfig(table=str(folder / "table.csv"), on_error=word))
    (scan,) = table.read(recipe, load_atlas("toy:6"))
    assert isinstance(scan, Unread)
    try:
        return type(read_file(scan, recipe, load_atlas("toy:6")))
    except InputError:
        return "refused"


def said_of_a_file(key: str) -> Callable[..., object]:
    """What a key of the source makes of a square table with names, or of a triangle."""

    def read(word: str, folder: Path) -> object:
        square = np.arange(36.0).reshape(6, 6)
        source = SourceConfig(**{key: word})
        if key == "triangle":
            source.kind, square = "connectivity", np.linspace(-0.4, 0.4, 15)[None]
        header = "a b c d e f" if key == "order" else ""
        np.savetxt(folder / "a.csv", square, header=header, comments="")
        try:
            found = read_scan(folder / "a.csv", source, load_atlas("toy:6"))
        except InputError as error:
            return str(error)
        values = found.series if found.series is not None else found.connectivity
        assert values is not None
        return found.columns, values.tobytes()

    return read


def side_of_scans(word: str, folder: Path) -> object:
    """What a stack's scans are by the side that counts them."""
    np.save(folder / "all.npy", np.arange(6.0 * 36).reshape(6, 6, 6))
    np.savetxt(folder / "rows.txt", np.linspace(-0.4, 0.4, 6 * 15).reshape(6, 15))
    rows = "subject\n" + "\n".join("abcdef")
    (folder / "people.csv").write_text(rows)
    source = SourceConfig(
        file=str(folder / ("rows.txt" if word == "rows" else "all.npy")),
        stack=word,
        ids="rows",
        table=str(folder / "people.csv"),
        kind="connectivity",
        triangle="upper",
    )
    try:
        listed = stack.read(ShardRecipe(source=source), load_atlas("toy:6"))
        scans = [scan.read().connectivity for scan in listed if isinstance(scan, Unread)]
        return tuple(matrix.tobytes() for matrix in scans if matrix is not None)
    except InputError as error:
        return str(error)


def context_kind(word: str) -> object:
    recipe = ShardRecipe(context=[ContextConfig("dose", kind=word)])
    columns, values = encoded_context(recipe, {"dose": ["3", "2"]}, 2)
    return columns[0].categories, values.tobytes()


def runs(word: str, folder: Path) -> object:
    """Two runs of one person, and the file that a pipeline joined from them."""
    for number, name in enumerate(("run-1_", "run-2_", "")):
        series = np.random.default_rng(number).standard_normal((8, 6))
        np.savetxt(folder / f"sub-1_task-rest_{name}timeseries.tsv", series, delimiter="\t")
    recipe = ShardRecipe(source=SourceConfig(dir=str(folder), runs=word))
    listed = bids.read(recipe, load_atlas("toy:6"))
    scans = [scan.read() for scan in listed if isinstance(scan, Unread)]
    return tuple((scan.run, scan.series.shape) for scan in scans if scan.series is not None)


def init(word: str) -> object:
    torch.manual_seed(0)
    model = LCM(LCMConfig(**{**vars(SHAPE), "init": word}))
    first, second = (layer.linear1.weight for layer in model.layers)
    return torch.equal(first, second)


def schedule(word: str) -> object:
    config = OptimConfig(schedule=word)
    return tuple(round(lr_factor(config, step, 10, 6), 6) for step in range(10))


def state(word: str) -> object:
    parts: Any = SimpleNamespace(
        recipe=Recipe(optim=OptimConfig(state=word)),
        model=LCM(SHAPE),
        vocabulary=SimpleNamespace(names=["diagnosis"]),
        phases=[SimpleNamespace(stage=ADAPTIVE)],
    )
    return LCMModule.configure_optimizers(parts).state_dtype


def trained(trains: Trains) -> object:
    model = LCM(SHAPE)
    prepare_model(model, TrainerConfig(), trains)
    return frozenset(name for name, p in model.named_parameters() if p.requires_grad)


def scalar_scale(word: str) -> object:
    recipe = Recipe()
    recipe.objective.scalar_scale = word
    sets: Any = SimpleNamespace(
        vocabulary=Vocabulary((scalar(),)), labels=np.array([[20.0], [40.0]])
    )
    (term,) = loss_terms(recipe, sets, np.arange(2), None)
    return term.centre, term.scale


def strategy(word: str) -> object:
    if word.startswith("zero"):
        pytest.importorskip("deepspeed")
    asked = TrainerConfig(strategy=word, threads=1)
    made = trainer_arguments(asked, CPU, Together(), 1)["strategy"]
    config = getattr(made, "config", None)
    return type(made).__name__, config and config["zero_optimization"]["stage"]


def precision(word: str) -> object:
    asked = tuple(precision_of(word, device, 64) for device in ("cuda", "cpu"))
    for each in asked:
        L.Trainer(accelerator="cpu", precision=each, logger=False, barebones=True)
    return asked


def accelerator(word: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """On a machine with a GPU, and on one without."""
    chosen = []
    for cards in (1, 0):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cards=cards: cards > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda cards=cards: cards)
        try:
            chosen.append(choose_hardware(TrainerConfig(accelerator=word), 64).accelerator)
        except InputError:
            chosen.append("refused")
    return tuple(chosen)


def fitted(column: str) -> Callable[[str], object]:
    """What a law sees of one run, whose every number is another."""
    row: Any = SimpleNamespace(
        size="a",
        draw=0,
        parameters=7,
        body=5,
        people=3,
        scans=11,
        epochs=2,
        loss=0.5,
        last_loss=0.6,
    )
    usual = {"parameters": "all", "data": "seen", "epoch": "chosen"}

    def see(word: str) -> object:
        runs = runs_of([row], **{**usual, column: word})
        return runs.parameters.item(), runs.seen.item(), runs.unique.item(), runs.loss.item()

    return see


def confounds(parameter: str, strategy: str) -> Callable[[str], object]:
    """Which columns nilearn chooses from a table of fMRIPrep's that it carries."""

    def see(word: str) -> object:
        theirs = pytest.importorskip("nilearn.interfaces.fmriprep")
        table = Path(theirs.__file__).parent / "data" / "test-v21_desc-confounds_timeseries.tsv"
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "sub-1_task-rest_space-X_desc-preproc_bold.nii.gz"
            for suffix in (".tsv", ".json"):
                name = f"sub-1_task-rest_desc-confounds_timeseries{suffix}"
                shutil.copy(table.with_suffix(suffix), image.with_name(name))
            beside = image.with_name("sub-1_task-rest_desc-confounds_timeseries.tsv")
            chosen = StrategyConfig(strategy, **{parameter: word})
            return load_strategy(image, beside, chosen)[0].tobytes()

    return see


def harmonise(word: str) -> object:
    """Of six scans of two sites."""
    edges, site = np.random.default_rng(0).uniform(-0.5, 0.5, (6, 15)), np.arange(6) % 2
    if word == "none":
        return edges.astype(np.float32).tobytes()
    fitted = fit_harmoniser(word, edges, site, np.arange(6), np.zeros((6, 0)), fisher=True)
    return fitted.apply(edges, site, np.zeros((6, 0))).tobytes()


# What each word does; the results of a field's words all differ.
DOES: dict[str, Callable[..., object]] = {
    "Recipe.model.people_memory": lambda word: word,  # tests/training/test_remember.py
    "Recipe.model.prior": lambda word: word != "none",  # likewise
    "Recipe.evaluate.permute_within": lambda word: (
        word == "site"
    ),  # tests/evaluation/test_permutation.py
    "ShardRecipe.connectivity.pad": pad,
    "ShardRecipe.source.kind": kind,
    "ShardRecipe.context.kind": context_kind,
    "ShardRecipe.source.runs": runs,
    "ShardRecipe.source.order": said_of_a_file("order"),
    "ShardRecipe.source.orientation": said_of_a_file("orientation"),
    "ShardRecipe.source.stack": side_of_scans,
    "ShardRecipe.source.triangle": said_of_a_file("triangle"),
    "ShardRecipe.source.age_unit": lambda word: age_in_years("48", word, "a table"),
    **{
        f"ShardRecipe.connectivity.clean.strategy.{parameter}": confounds(parameter, strategy)
        for parameter, strategy in (
            ("motion", "simple"),
            ("wm_csf", "simple"),
            ("global_signal", "simple"),
            ("compcor", "compcor"),
        )
    },
    "ShardRecipe.source.on_error": on_error,
    "ShardRecipe.dtype": lambda word: np.dtype(word),
    "Recipe.data.edges": lambda word: model_input(torch.full((1, 15), 0.5), word, 6).sum().item(),
    "Recipe.evaluate.harmonise": harmonise,
    "Recipe.model.init": init,
    "Recipe.optim.schedule": schedule,
    "Recipe.optim.state": state,
    "Recipe.optim.trainable": lambda word: trained(OptimConfig(trainable=word).trains),
    "Recipe.optim.lora.targets": lambda word: trained(LoRAConfig(rank=1, targets=[word])),
    "Recipe.objective.scalar_scale": scalar_scale,
    "Recipe.trainer.strategy": strategy,
    "Recipe.trainer.precision": precision,
    "Recipe.trainer.accelerator": accelerator,
    "SweepRecipe.fit.parameters": fitted("parameters"),
    "SweepRecipe.fit.data": fitted("data"),
    "SweepRecipe.fit.epoch": fitted("epoch"),
}


def fields_of(schema: type, prefix: str) -> dict[str, tuple[str, ...]]:
    """Every field with choices, and its words."""
    found = {}
    for name, one in described(schema).items():
        section = section_of(one.type)
        if section is not None:
            found |= fields_of(section, f"{prefix}{name}.")
        elif one.constraint.choices:
            found[f"{prefix}{name}"] = one.constraint.choices
    return found


CHOICES = {
    key: words
    for schema in (Recipe, ShardRecipe, SweepRecipe)
    for key, words in fields_of(schema, f"{schema.__name__}.").items()
}


def test_every_choice_is_held_against_the_code() -> None:
    assert set(CHOICES) == {*TABLES, *DOES, *SHOWN_BY}


@pytest.mark.parametrize("key", TABLES)
def test_a_choice_and_the_table_of_the_code_hold_the_same_words(key: str) -> None:
    assert set(CHOICES[key]) == TABLES[key]
    assert len(set(CHOICES[key])) == len(CHOICES[key])


@pytest.mark.parametrize("key", DOES)
def test_each_word_does_something_of_its_own(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {
        "ShardRecipe.source.on_error": tmp_path,
        "ShardRecipe.source.kind": tmp_path,
        "ShardRecipe.source.runs": tmp_path,
        "ShardRecipe.source.order": tmp_path,
        "ShardRecipe.source.orientation": tmp_path,
        "ShardRecipe.source.stack": tmp_path,
        "ShardRecipe.source.triangle": tmp_path,
        "Recipe.trainer.accelerator": monkeypatch,
    }
    extra = [more[key]] if key in more else []
    done = {word: DOES[key](word, *extra) for word in CHOICES[key]}
    assert len(set(done.values())) == len(done), done


@pytest.mark.parametrize("key", SHOWN_BY)
def test_the_tests_that_run_a_choice_name_each_word_but_the_usual_one(key: str) -> None:
    root = Path(__file__).parents[2]
    text = "".join((root / file).read_text(encoding="utf-8") for file in SHOWN_BY[key])
    for word in CHOICES[key][1:]:
        assert f"{key.rpartition('.')[2]}: {word}" in text


def test_each_readout_reads_in_its_own_way_and_an_unknown_one_is_refused() -> None:
    terms = [TargetLoss(group("diagnosis", ["CN", "AD"])), TargetLoss(scalar())]
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1.0, 30.0]] * 5)
    trained, evaluated = set(), set()
    for name in READOUTS:
        trained.add(tuple(read(logits, labels, terms, name)[0].flatten().tolist()))
        evaluated.add(tuple(evaluation_read(logits, terms, name)[0].flatten().tolist()))
    assert len(trained) == len(evaluated) == len(READOUTS)
    for call in (
        lambda: select_layer(logits, labels[:, 0].long(), "adaptiv"),
        lambda: read(logits, labels, terms, "adaptiv"),
        lambda: evaluation_read(logits, terms, "adaptiv"),
    ):
        with pytest.raises(InputError, match="readout=adaptiv, did you mean 'adaptive'"):
            call()
