"""Recipes and Slurm scripts that come with the package: where they lie, and copies of them.

In a checkout they are the folders `recipes/` and `slurm/`; a wheel puts the same files under
`share/lcm-scale/`. Copies keep their folders, so that `defaults:` and commands of the docs work in
an empty folder as in a checkout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from itertools import takewhile
from pathlib import Path, PurePosixPath

from lcm_scale.errors import InputError, nearest
from lcm_scale.files import write_atomic

DISTRIBUTION = "lcm-scale"
SHARE = PurePosixPath("share/lcm-scale")
RECIPES, SLURM = "recipes", "slurm"
# What a recipe lies on, or varies: other recipes of its folder.
DEFAULTS = re.compile(r"^defaults: *\[([^\]]*)\]", re.MULTILINE)
# What ends a recipe's first sentence: a mark, or the command that it opens with.
SENTENCE = re.compile(r"(?<=[a-z)\]])[.:;] |: (?=make |lcm-scale |sbatch )")
VARIED = re.compile(r"^recipe: *(\S+)", re.MULTILINE)


@cache
def files() -> dict[str, Path]:
    """Name as in a checkout, `recipes/demo.yaml`, -> where it lies.

    Raises: InputError where the installation lacks them.
    """
    checkout = Path(__file__).parents[2]
    if (checkout / RECIPES / "demo.yaml").is_file():
        found = {
            path.relative_to(checkout).as_posix(): path
            for folder in (RECIPES, SLURM)
            for path in sorted((checkout / folder).rglob("*"))
            if path.suffix in (".yaml", ".sh", ".env") and path.name != "site.env"
        }
    else:
        found = dict(_installed())
    if not found:
        raise InputError("the installation holds no recipes: install the wheel of lcm-scale again")
    return found


def _installed() -> Iterator[tuple[str, Path]]:
    try:
        listed = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for entry in listed:
        parts = entry.parts
        if SHARE.parts[-1] in parts and SHARE.parts[0] in parts:
            inside = parts[parts.index(SHARE.parts[-1]) + 1 :]
            yield "/".join(inside), Path(str(entry.locate()))


def names() -> list[str]:
    """Of the recipes, as `copy` takes them: `demo`, `data/abide`; runs before parts and data."""
    found = (name.removeprefix(f"{RECIPES}/").removesuffix(".yaml") for name in files())
    own = [name for name in found if not name.startswith(f"{SLURM}/")]
    return sorted(own, key=lambda name: ("/" in name, name))


def purpose(name: str) -> str:
    """The first sentence of a recipe's comment, which says what it is for."""
    lines = files()[f"{RECIPES}/{name}.yaml"].read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda x: x[:1] == "#", lines))
    return SENTENCE.split(comment)[0].rstrip(".:")


def wanted(name: str) -> list[str]:
    """The files that a copy of a recipe needs: itself and what it lies on; of `slurm` all scripts.

    Raises: InputError where there is no such recipe.
    """
    if name == SLURM:
        return [file for file in files() if file.startswith(f"{SLURM}/")]
    asked = name.removeprefix(f"{RECIPES}/").removesuffix(".yaml")
    if asked not in names():
        raise InputError(f"recipes: no '{name}'{nearest(asked, [*names(), SLURM])}")
    found: list[str] = []
    waiting = [asked]
    while waiting:
        file = f"{RECIPES}/{waiting.pop()}.yaml"
        if file in found:
            continue
        found.append(file)
        text = files()[file].read_text(encoding="utf-8")
        below = [word.strip() for line in DEFAULTS.findall(text) for word in line.split(",")]
        below += VARIED.findall(text)
        folder = PurePosixPath(file.removeprefix(f"{RECIPES}/")).parent
        waiting += [str(folder / word) for word in below if word]
    return found


def copy(names: list[str], into: Path) -> list[Path]:
    """Write recipes and what they lie on below a folder; a file that is there with the same bytes
    is left.

    Returns: the files, as named in `into`.
    Raises: InputError where there is no such recipe, or another file stands in the place of one:
        nothing is written then.
    """
    chosen = list(dict.fromkeys(file for name in names for file in wanted(name)))
    data = {file: files()[file].read_bytes() for file in chosen}
    for file, content in data.items():
        place = into / file
        if place.exists() and (not place.is_file() or place.read_bytes() != content):
            raise InputError(f"{place}: exists and is another file; it is left alone")
    for file, content in data.items():
        place = into / file
        if not place.exists():
            write_atomic(place, content)
            if place.suffix == ".sh":
                place.chmod(0o755)
    return [into / file for file in chosen]
