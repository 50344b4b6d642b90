"""Our own formats as a stranger may hand them over: whatever was changed in them, what comes out is
an InputError of one line, or the thing itself.

Every kind of file starts from what release 0.1.0 wrote. A mutant is sealed again where a sum would
stop it at the door: who makes a file on purpose makes its sums too. A failure names kind, seed and
number of its mutant; `python -m pytest tests/fuzz/test_formats.py -k KIND` makes the same ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import resource
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mutants import json_mutants, mutants
from safetensors.torch import load_file

from lcm_scale import config
from lcm_scale.cli import data as cli
from lcm_scale.config import Recipe, ShardRecipe, SweepRecipe, kind_of
from lcm_scale.data.order import BatchPlan
from lcm_scale.data.sets import open_sets, split_subjects
from lcm_scale.data.stream import BatchStream, Labels, open_edges
from lcm_scale.data.verify import verify_shards
from lcm_scale.errors import InputError
from lcm_scale.inference.pretrained import load_model
from lcm_scale.laws.collect import collect, ensembles
from lcm_scale.sweep import run as sweeps
from lcm_scale.sweep.plan import Plan, plan
from lcm_scale.sweep.points import open_sweep
from lcm_scale.terminal import printable
from lcm_scale.training import run_log
from lcm_scale.vocabulary import Vocabulary
from lcm_scale.weights import card, checkpoints
from lcm_scale.weights.meaning import CHECKPOINT, Meaning

RELEASE = Path(__file__).parents[1] / "formats" / "0.1.0"
MOST_MEMORY = 2**30  # bytes that reading one mutant may ask for
SEED = 15

Use = Callable[[], None]  # what a user does with the mutant


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        count: mutants in the test.   cases: (folder to work in, count, seed) -> what is done with
            each mutant, which is on disk by then.
    """

    count: int
    cases: Callable[[Path, int, int], Iterator[Use]]


# -- shard sets ------------------------------------------------------------------------------------


def use_set(folder: Path) -> None:
    """All that is done with a set before and while a model trains on it."""
    cli.inspect(folder)
    try:
        verify_shards(folder)
    finally:  # what verify refuses, and this does not look at, must train or be refused as well
        train_on(folder)


def train_on(folder: Path) -> None:
    recipe = config.load(
        Recipe, None, [f"data=[{folder.name}]", f"data.shards_dir={folder.parent}"]
    )
    sets = open_sets(recipe.data)
    scans = np.arange(sets.n_scans)
    train, _ = split_subjects(sets, scans, 0.2, 0)
    sets.subject_hashes(train)
    source = open_edges(sets, 0.1)
    batches = BatchPlan(len(train), 8, 1)
    columns = list(range(len(sets.vocabulary.targets)))
    labels = Labels.recorded(sets.labels)
    next(iter(BatchStream(sets, source, labels, train, columns, batches, 0, 0, 2)))


def sealed(data: Any) -> str:
    """A manifest as its maker would write it: sums that fit, as far as there is anything to sum
    up."""
    try:
        atlas = data["atlas"]
        text = json.dumps([atlas["indices"], atlas["names"]], ensure_ascii=False)
        atlas["checksum"] = hashlib.sha256(text.encode()).hexdigest()[:16]
        vocabulary = Vocabulary.from_json(data["vocabulary"]).to_json()
        parts = [data["format"], atlas["checksum"], json.dumps(vocabulary), data["index_sha256"]]
        parts += [shard["sha256"] for shard in data["shards"]]
        parts += [kind for kind in [kind_of(data["connectivity"])] if kind != "pearson"]
        data["fingerprint"] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        data.pop("checksum", None)  # sets from before 0.1.0 have none
    except (TypeError, KeyError, ValueError, AttributeError, InputError):
        pass
    return json.dumps(data)


def copied_set(place: Path) -> tuple[Path, dict[str, Any]]:
    folder = place / "first"
    shutil.copytree(RELEASE / "shards" / "first", folder)
    return folder, json.loads((folder / "manifest.json").read_text())


def manifests(place: Path, count: int, seed: int) -> Iterator[Use]:
    folder, manifest = copied_set(place)
    for mutant in json_mutants(manifest, count, seed):
        (folder / "manifest.json").write_text(sealed(mutant))
        yield lambda: use_set(folder)


def manifest_bytes(place: Path, count: int, seed: int) -> Iterator[Use]:
    folder, _ = copied_set(place)
    for mutant in mutants((folder / "manifest.json").read_bytes(), count, seed):
        (folder / "manifest.json").write_bytes(mutant)
        yield lambda: use_set(folder)


def put_index(folder: Path, manifest: dict[str, Any], data: bytes) -> None:
    (folder / "index.npz").write_bytes(data)
    changed = {**manifest, "index_sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(sealed(changed))


def index_bytes(place: Path, count: int, seed: int) -> Iterator[Use]:
    folder, manifest = copied_set(place)
    for mutant in mutants((folder / "index.npz").read_bytes(), count, seed):
        put_index(folder, manifest, mutant)
        yield lambda: use_set(folder)


def other_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """One change of an array's type, shape or numbers."""
    kind = rng.randrange(7)
    if kind == 0:
        return array.astype(rng.choice(["f8", "i8", "U5", "S3", "?", "c16", "M8[s]", "i1", ">f4"]))
    if kind == 1:
        return array[: rng.randrange(len(array) + 1)]
    if kind == 2:
        return np.concatenate([array, array])
    if kind == 3:
        return array[..., None] if rng.random() < 0.5 else array.reshape(-1)
    if kind == 4:
        return np.zeros((), array.dtype)
    changed = array.copy()
    if changed.size:
        strange = [-1, -2, 10**6, 2**31 - 1, "\x1b[31m"]
        strange += [float("nan"), float("inf"), 1e30, 0.5] if changed.dtype.kind == "f" else []
        with (
            np.errstate(over="ignore"),
            contextlib.suppress(ValueError, OverflowError, TypeError),
        ):
            changed.flat[rng.randrange(changed.size)] = rng.choice(strange)
    return changed


def npz(arrays: dict[str, np.ndarray], compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def index_arrays(place: Path, count: int, seed: int) -> Iterator[Use]:
    folder, manifest = copied_set(place)
    with np.load(folder / "index.npz") as archive:
        arrays = dict(archive)
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        changed = dict(arrays)
        name = rng.choice(sorted(arrays))
        if rng.random() < 0.1:
            del changed[name]
        else:
            with contextlib.suppress(ValueError, TypeError):
                changed[name] = other_array(arrays[name], rng)
        put_index(folder, manifest, npz(changed, compressed=rng.random() < 0.1))
        yield lambda: use_set(folder)


def put_tar(folder: Path, manifest: dict[str, Any], data: bytes) -> None:
    (shard,) = manifest["shards"]
    (folder / shard["file"]).write_bytes(data)
    changed = {**shard, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(sealed({**manifest, "shards": [changed]}))


def tar_bytes(place: Path, count: int, seed: int) -> Iterator[Use]:
    folder, manifest = copied_set(place)
    for mutant in mutants((folder / "first-000000.tar").read_bytes(), count, seed):
        put_tar(folder, manifest, mutant)
        yield lambda: use_set(folder)


def tar_members(place: Path, count: int, seed: int) -> Iterator[Use]:
    """One member of the first record changed, the records' places as the manifest then says."""
    folder, manifest = copied_set(place)
    whole = (folder / "first-000000.tar").read_bytes()
    with tarfile.open(folder / "first-000000.tar") as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()[:3]]  # type: ignore[union-attr]
    first = manifest["shards"][0]["records"][0]["bytes"]
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        changed = dict(members)
        name = rng.choice(sorted(changed))
        old = changed[name]
        if name.endswith("json"):
            (value,) = json_mutants(json.loads(old), 1, rng.randrange(10**9))
            changed[name] = json.dumps(value).encode()
        elif rng.random() < 0.5:
            (changed[name],) = mutants(old, 1, rng.randrange(10**9))
        else:
            buffer = io.BytesIO()
            with contextlib.suppress(ValueError, TypeError):
                np.save(buffer, other_array(np.load(io.BytesIO(old)), rng))
            changed[name] = buffer.getvalue()
        record = packed(changed)
        moved = json.loads(json.dumps(manifest))
        for place_of in moved["shards"][0]["records"][1:]:
            place_of["offset"] += len(record) - first
        moved["shards"][0]["records"][0]["bytes"] = len(record)
        put_tar(folder, moved, record + whole[first:])
        yield lambda: use_set(folder)


def packed(members: dict[str, bytes]) -> bytes:
    """The members of a record, without a tar's end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        end = tar.offset
    return buffer.getvalue()[:end]


# -- models ----------------------------------------------------------------------------------------

STEP = RELEASE / "runs/run/checkpoints/step-00000005.ckpt"


def meanings(place: Path, count: int, seed: int) -> Iterator[Use]:
    head = checkpoints.read_file(STEP)["lcm"]
    for mutant in json_mutants(head, count, seed):
        yield lambda mutant=mutant: Meaning.from_json(mutant, CHECKPOINT, "the/file")  # type: ignore[misc]


def use_checkpoint(path: Path) -> None:
    loaded = checkpoints.load(path)
    cli.inspect(path)
    checkpoints.fitted(loaded.model, loaded.state, str(path))
    card.card({**loaded.to_json("lcm-scale-weights/1"), "dtype": "fp32"}, None, "")


def checkpoint_bytes(place: Path, count: int, seed: int) -> Iterator[Use]:
    """The pickle in a checkpoint's archive, which says what the archive holds; its sums are right
    again."""
    with zipfile.ZipFile(STEP) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    (name,) = (n for n in records if n.endswith("data.pkl"))
    path = place / "a.ckpt"
    for mutant in mutants(records[name], count, seed):
        with zipfile.ZipFile(path, "w") as archive:
            for each, data in records.items():
                archive.writestr(each, mutant if each == name else data)
        yield lambda: use_checkpoint(path)


def use_hub(folder: Path) -> None:
    model = load_model(folder)
    generator = np.random.default_rng(0)
    series = generator.standard_normal((2, model.meaning.atlas.n_regions, 40))
    model.predict(torch.from_numpy(np.stack([np.corrcoef(one) for one in series])).float())


def copied_hub(place: Path) -> Path:
    folder = place / "hub"
    shutil.copytree(RELEASE / "hub", folder)
    (folder / "SHA256SUMS").unlink()  # a folder that somebody else wrote need not have them
    return folder


def hub_configs(place: Path, count: int, seed: int) -> Iterator[Use]:
    folder = copied_hub(place)
    whole = json.loads((folder / "config.json").read_text())
    for mutant in json_mutants(whole, count, seed):
        (folder / "config.json").write_text(json.dumps(mutant))
        yield lambda: use_hub(folder)


def hub_indexes(place: Path, count: int, seed: int) -> Iterator[Use]:
    folder = copied_hub(place)
    names = list(load_file(folder / "model.safetensors"))
    whole = {"metadata": {}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    (folder / "link.safetensors").symlink_to(RELEASE / "plain.safetensors")
    for number, mutant in enumerate(json_mutants(whole, count, seed)):
        text = json.dumps(mutant)
        if number % 4 == 0:
            (data,) = mutants(text.encode(), 1, seed + number)
        else:
            data = text.encode()
        (folder / "model.safetensors.index.json").write_bytes(data)
        yield lambda: use_hub(folder)


def safetensors(place: Path, count: int, seed: int) -> Iterator[Use]:
    """The header: its length, and the JSON that says where which tensor lies."""
    folder = copied_hub(place)
    whole = (folder / "model.safetensors").read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:length])
    for number in range(count):
        if number % 2:
            (head,) = mutants(whole[:length], 1, seed + number)
        else:
            (value,) = json_mutants(header, 1, seed + number)
            text = json.dumps(value).encode()
            head = len(text).to_bytes(8, "little") + text
        (folder / "model.safetensors").write_bytes(head + whole[length:])
        yield lambda: use_hub(folder)


# -- recipes and results ---------------------------------------------------------------------------

SHARDS = """
name: tiny
reader: abide
atlas: "tiny:6"
source: {dir: raw, tr: 2.0}
connectivity: {window: 40, min_volumes: 30}
groups:
  - {name: diagnosis, labels: [CN, Autism]}
notes: [one]
"""
SWEEP = """
name: sizes
recipe: run
axes: {size: [8x1, 16x1], subjects: [12, 16], epochs: [2], seed: [0, 1]}
also: [{size: [8x1], subjects: [20], epochs: [2]}]
baselines: [linear]
overrides: ["data.sets=[first]"]
budget: {gpu: A100, gpu_hours: 1}
"""


def recipes(place: Path, count: int, seed: int) -> Iterator[Use]:
    """The text of a recipe, and what it says; run recipes are looked at as a run folder's too."""
    texts = [
        (Recipe, (RELEASE / "run.yaml").read_text()),
        (Recipe, (RELEASE / "runs/run/recipe.yaml").read_text()),
        (ShardRecipe, SHARDS),
        (SweepRecipe, SWEEP),
    ]
    path = place / "recipe.yaml"
    for number in range(count):
        schema, text = texts[number % len(texts)]
        if number % 3:
            (value,) = json_mutants(yaml.safe_load(text), 1, seed + number)
            data = yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace")
        else:
            (data,) = mutants(text.encode(), 1, seed + number)
        path.write_bytes(data)

        def use(schema: type = schema) -> None:
            if schema is Recipe:
                with contextlib.suppress(InputError):
                    cli.inspect(path.parent)
            config.dump(config.load(schema, path))

        yield use


RESULTS = {
    "title": "Study",
    "simulated": False,
    "verdict": {"sentence": "A plain baseline wins.", "detail": "x"},
    "protocol": "5 folds.",
    "targets": [
        {
            "target": "diagnosis",
            "confounded": None,
            "results": {
                "LCM": [
                    {
                        "name": "auroc",
                        "value": 0.7,
                        "low": 0.6,
                        "high": None,
                        "n_scans": 20,
                        "n_subjects": 10,
                    }
                ]
            },
        }
    ],
}


def results(place: Path, count: int, seed: int) -> Iterator[Use]:
    about = json.loads((RELEASE / "hub" / "config.json").read_text())
    for number, mutant in enumerate(json_mutants(RESULTS, count, seed)):
        data = json.dumps(mutant).encode()
        if number % 5 == 0:
            (data,) = mutants(data, 1, seed + number)
        (place / "results.json").write_bytes(data)
        yield lambda: card.card(about, card.read_results(place), "")  # type: ignore[func-returns-value]


def point_facts(made: Plan, number: int) -> dict[str, Any]:
    """What a finished point says, in short."""
    point = made.runnable[number]
    facts = {
        "format": "lcm-scale-point/1",
        "title": "",
        "simulated": True,
        "vocabulary": "0" * 16,
        "people": 12,
        "people_held_out": 5,
        "scans": 12,
        "loss": 1.0 + 0.01 * number,
        "last_loss": 1.1,
        "losses": {"diagnosis": 1.0},
        "weights": {"diagnosis": 1.0},
        "chance": 1.1,
        "seconds": 1.0,
        "metrics": [
            {"target": "diagnosis", "metric": "auroc", "value": 0.6, "low": 0.5, "high": 0.7}
        ],
    }
    if point.is_baseline:
        return facts
    return {**facts, "parameters": 100 + number, "parameters_body": 50, "epochs": 2, "flops": 1e9}


def point_results(place: Path, count: int, seed: int) -> Iterator[Use]:
    """A sweep's folder, as `sweep status` and `sweep fit` read it."""
    shutil.copy(RELEASE / "run.yaml", place / "run.yaml")
    (place / "sweep.yaml").write_text(SWEEP)
    made = plan(open_sweep(place / "sweep.yaml", [f"runs_dir={place}/runs", "overrides=[]"]))
    scores = {
        "scores: diagnosis": np.full((5, 3), 1 / 3, np.float32),
        "truth: diagnosis": np.zeros(5),
    }
    whole = npz(scores, compressed=True)
    for number, point in enumerate(made.runnable):
        folder = made.sweep.folder_of(point)
        folder.mkdir(parents=True)
        (folder / "point.json").write_text(json.dumps(point_facts(made, number)))
        (folder / "predictions.npz").write_bytes(whole)
    chosen = made.sweep.folder_of(made.runnable[0])

    def use() -> None:
        sweeps.status(made)
        ensembles(collect(made))

    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        (chosen / "failed.json").unlink(missing_ok=True)
        (chosen / "point.json").write_text(json.dumps(point_facts(made, 0)))
        (chosen / "predictions.npz").write_bytes(whole)
        which = number % 4
        if which == 0:
            (value,) = json_mutants({"reason": "it died"}, 1, rng.randrange(10**9))
            (chosen / "point.json").unlink()
            (chosen / "failed.json").write_text(json.dumps(value))
        elif which == 1:
            changed = {
                k: other_array(v, rng) if rng.random() < 0.5 else v for k, v in scores.items()
            }
            (chosen / "predictions.npz").write_bytes(npz(changed, compressed=True))
        elif which == 2:
            (data,) = mutants(whole, 1, rng.randrange(10**9))
            (chosen / "predictions.npz").write_bytes(data)
        else:
            (value,) = json_mutants(point_facts(made, 0), 1, rng.randrange(10**9))
            (chosen / "point.json").write_text(json.dumps(value))
        yield use


def logs(place: Path, count: int, seed: int) -> Iterator[Use]:
    """A run's log, of which unreadable lines are named and passed over."""
    whole = (RELEASE / "runs/run/log.jsonl").read_bytes()
    lines = whole.splitlines()
    log = place / "log.jsonl"

    def use() -> None:
        run_log.read_log(log)
        run_log.epochs_of(log)
        run_log.has_diverged(log)
        run_log.Metrics(place).rewrite()

    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        if number % 2:
            (data,) = mutants(whole, 1, rng.randrange(10**9))
        else:
            at = rng.randrange(len(lines))
            (event,) = json_mutants(json.loads(lines[at]), 1, rng.randrange(10**9))
            data = b"\n".join([*lines[:at], json.dumps(event).encode(), *lines[at + 1 :]]) + b"\n"
        log.write_bytes(data)
        yield use


KINDS = {
    "manifest": Kind(400, manifests),
    "manifest-bytes": Kind(150, manifest_bytes),
    "index-bytes": Kind(150, index_bytes),
    "index-arrays": Kind(150, index_arrays),
    "tar-bytes": Kind(150, tar_bytes),
    "tar-members": Kind(150, tar_members),
    "meaning": Kind(400, meanings),
    "checkpoint": Kind(100, checkpoint_bytes),
    "hub-config": Kind(200, hub_configs),
    "hub-index": Kind(100, hub_indexes),
    "safetensors": Kind(150, safetensors),
    "recipe": Kind(200, recipes),
    "results": Kind(150, results),
    "point": Kind(100, point_results),
    "log": Kind(150, logs),
}


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """So that memory that a file asks for, and that is never touched, counts as well."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def complaint(use: Use) -> str:
    """What is wrong with how a mutant was taken; '' where nothing is."""
    try:
        with little_memory():
            use()
    except InputError as error:
        return f"not one line: {error}" if "\n" in str(error) else ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutant_is_refused_in_one_line_or_is_good(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, use in enumerate(KINDS[kind].cases(tmp_path, KINDS[kind].count, SEED)):
        mutant = f"{kind}, seed {SEED}, number {number}"
        assert complaint(use) == "", mutant
        shown = "".join(capsys.readouterr())
        assert shown == printable(shown), f"{mutant}: control characters on the terminal"
