"""A simulated multi-site cohort, written as raw files in the abide layout and read by the abide
reader.

Recipe keys: simulation.*, source.dir (where the raw files go; default raw/<name>). The folder's
marker file says that nobody was scanned, and which connections carry which effect; every shard set
made from it is called simulated.

A scan is correlated noise with a spectrum like slow BOLD: shared networks, a pattern of its
site, head motion that the whole brain shares, and for each effect one source that its ten regions
have in common. A source of relative variance v adds about v / (1 + v) to the correlations among its
regions, and people differ in v. With `simulation.separation` they differ so much that labels can
only be guessed, and the table says how well at best (`data.ceiling`).
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, SimulationConfig, expand
from lcm_scale.data import ceiling
from lcm_scale.data.readers import abide
from lcm_scale.data.recordings import SIMULATED_MARKER, Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic
from lcm_scale.limits import read_text
from lcm_scale.progress import stage

PHENOTYPES = "phenotypes_simulated.csv"
EFFECTS = ("group", "sex", "age", "task")
REGIONS_OF_AN_EFFECT = 10
AGES = ceiling.AGES
CEILINGS = {  # columns of the table -> of `ceiling.posterior`
    "CEILING_DIAGNOSIS": "patient",
    "CEILING_SEX": "male",
    "CEILING_EYES": "eyes_open",
    "CEILING_AGE": "age",
}
SMOOTHNESS = 0.7  # of the first-order autoregression, at a TR of 2 s


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """Write the cohort where it is not there yet, then read it back as anybody's ABIDE files."""
    folder = expand(recipe.source.dir or f"raw/{recipe.name}")
    if not _is_there(folder, recipe.simulation, atlas):
        write_cohort(folder, recipe.simulation, atlas)
    source = replace(
        recipe.source, dir=str(folder), phenotypes=str(folder / PHENOTYPES), tr=recipe.simulation.tr
    )
    yield from abide.read(replace(recipe, source=source), atlas)


def planted(atlas: Atlas) -> dict[str, list[int]]:
    """Effect -> positions of the regions among which it adds correlation. A function of the atlas
    alone: every cohort carries the same effects in the same places."""
    order = np.random.default_rng(20251018).permutation(atlas.n_regions)
    size = min(REGIONS_OF_AN_EFFECT, atlas.n_regions // len(EFFECTS))
    return {
        name: sorted(order[i * size : (i + 1) * size].tolist()) for i, name in enumerate(EFFECTS)
    }


def write_cohort(folder: Path, config: SimulationConfig, atlas: Atlas) -> None:
    """Write all raw files aside and rename the folder: whole or not at all.

    Raises: InputError where the folder holds anything but a simulated cohort, which would be lost.
    """
    if (
        folder.exists()
        and not (folder / SIMULATED_MARKER).is_file()
        and (folder.is_file() or any(folder.iterdir()))
    ):
        raise InputError(
            f"{folder}: holds files that were not simulated; they are left alone, name another "
            "source.dir"
        )
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    rng = np.random.default_rng(config.seed)
    people = [_person(rng, number, config) for number in range(config.subjects)]
    if config.separation:
        _give_amounts(people, config)
    header = "\t".join(["#" + str(atlas.indices[0]), *(f"#{i}" for i in atlas.indices[1:])])
    with stage(f"simulate {folder.name}", len(people)) as advance:
        for person in people:
            series = simulate_scan(
                np.random.default_rng((config.seed, person["SUB_ID"])), person, config, atlas
            )
            text = io.StringIO()
            np.savetxt(text, series, fmt="%.3f", delimiter="\t", header=header, comments="")
            (aside / f"{person['FILE_ID']}_rois_{atlas.name}.1D").write_text(
                text.getvalue(), encoding="ascii"
            )
            advance()
    _write_table(aside / PHENOTYPES, people, rng, config)
    write_atomic(aside / SIMULATED_MARKER, json.dumps(_marker(config, atlas), indent=1).encode())
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def simulate_scan(
    rng: np.random.Generator, person: dict[str, Any], config: SimulationConfig, atlas: Atlas
) -> np.ndarray:
    """(T, R) series in arbitrary units about 1000, as raw BOLD is."""
    T, R = config.volumes, atlas.n_regions
    networks = np.random.default_rng(7).integers(0, 8, R)
    site = np.random.default_rng((11, person["site"])).standard_normal(R)
    shared = _slow(rng, T, 8)[:, networks] * np.sqrt(0.5 * rng.uniform(0.7, 1.3, 8))[networks]
    series = _slow(rng, T, R) + shared + 0.3 * _slow(rng, T, 1)
    series += np.sqrt(config.site_effect) * _slow(rng, T, 1) * site
    size = {
        "group": config.group_effect,
        "sex": config.sex_effect,
        "age": config.age_effect,
        "task": config.task_effect,
    }
    for name, regions in planted(atlas).items():
        variance = size[name] / (1 - size[name])
        if config.separation:
            variance *= np.exp(ceiling.LOG_SPREAD * person["amounts"][name])
        else:
            variance *= float(_present(person)[name]) * rng.gamma(4.0, 0.25)
        series[:, regions] += np.sqrt(2.0 * variance) * _slow(rng, T, 1)
    jolts = np.where(rng.random(T) < 0.03, rng.exponential(person["fd"] * 4, T), 0.0)
    series += np.cumsum(jolts - jolts.mean())[:, None] * 0.2
    return np.asarray(1000 + 10 * series)


def _present(person: dict[str, Any]) -> dict[str, float]:
    """How much of each effect a person's labels mean, from 0 to 1."""
    return {
        "group": person["patient"],
        "sex": person["male"],
        "age": (person["age"] - AGES[0]) / (AGES[1] - AGES[0]),
        "task": person["eyes_open"],
    }


def _give_amounts(people: list[dict[str, Any]], config: SimulationConfig) -> None:
    """Draw everybody's amounts, and say what they and the site tell of the labels.

    Amounts are given to a scan about the middle between the classes, so that the mean scan is as
    strong as without a separation.
    """
    present = [_present(person) for person in people]
    labels = [np.array([p[name] for p in present]) for name in ("age", "group", "sex", "task")]
    site = np.array([person["site"] for person in people])
    rng = np.random.default_rng((config.seed, 17))
    amounts = {
        name: mean + rng.standard_normal(len(people))
        for name, mean in ceiling.mean_amounts(config, labels[0], site, *labels[1:]).items()
    }
    told = ceiling.posterior(config, amounts, site)
    for number, person in enumerate(people):
        person["amounts"] = {
            name: float(own[number]) - ceiling.middle(config, name) for name, own in amounts.items()
        }
        person |= {column: float(told[name][number]) for column, name in CEILINGS.items()}


def _slow(rng: np.random.Generator, T: int, columns: int) -> np.ndarray:
    """(T, columns) autocorrelated noise of unit variance."""
    from scipy.signal import lfilter  # half a second, for who simulates alone

    white = rng.standard_normal((T + 20, columns)) * np.sqrt(1 - SMOOTHNESS**2)
    return np.asarray(lfilter([1.0], [1.0, -SMOOTHNESS], white, axis=0)[20:])


def _person(rng: np.random.Generator, number: int, config: SimulationConfig) -> dict[str, Any]:
    subject = config.first_subject + number
    site = config.first_site + int(rng.integers(config.sites))
    return {
        "SUB_ID": subject,
        "site": site,
        "FILE_ID": f"SIM{site + 1}_{subject:07d}",
        "patient": bool(rng.random() < ceiling.PATIENTS),
        "male": bool(rng.random() < ceiling.MALES),
        "age": float(np.round(rng.uniform(*AGES), 2)),
        "eyes_open": bool(rng.random() < ceiling.OPEN),
        "fd": float(np.round(rng.gamma(3.0, 0.04), 4)),
    }


def _write_table(
    path: Path, people: list[dict[str, Any]], rng: np.random.Generator, config: SimulationConfig
) -> None:
    """The phenotype CSV; a share of ages (-9999), sexes and eye states (empty) is left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = CEILINGS if config.separation else ()
    writer.writerow(
        [
            "SUB_ID",
            "SITE_ID",
            "FILE_ID",
            "DX_GROUP",
            "AGE_AT_SCAN",
            "SEX",
            "EYE_STATUS_AT_SCAN",
            "func_mean_fd",
            *columns,
        ]
    )
    for p in people:
        lost = rng.random(3) < config.missing_labels
        writer.writerow(
            [
                p["SUB_ID"],
                f"SIM{p['site'] + 1}",
                p["FILE_ID"],
                1 if p["patient"] else 2,
                -9999 if lost[0] else p["age"],
                "" if lost[1] else 1 if p["male"] else 2,
                "" if lost[2] else 1 if p["eyes_open"] else 2,
                p["fd"],
                *(f"{p[column]:.6f}" for column in columns),
            ]
        )
    path.write_text(text.getvalue(), encoding="ascii")


def _marker(config: SimulationConfig, atlas: Atlas) -> dict[str, Any]:
    best = ceiling.bayes_accuracy(config) if config.separation else None
    return {
        **({} if best is None else {"bayes_accuracy_of_diagnosis": round(best, 3)}),
        "note": "SIMULATED: nobody was scanned. Effects add correlation among the regions listed.",
        "planted": {
            name: [atlas.label(r) for r in regions] for name, regions in planted(atlas).items()
        },
        "atlas": atlas.checksum,
        "simulation": asdict(config),
    }


def _is_there(folder: Path, config: SimulationConfig, atlas: Atlas) -> bool:
    """Whether the folder holds exactly this cohort; another one, or half of one, is written
    anew."""
    marker = folder / SIMULATED_MARKER
    if not marker.is_file() or not (folder / PHENOTYPES).is_file():
        return False
    complete = len(list(folder.glob("*.1D"))) == config.subjects
    try:
        return complete and json.loads(read_text(marker)) == _marker(config, atlas)
    except (ValueError, RecursionError, InputError):  # no JSON, or no text
        return False
