"""The scans of a layout, counted: its reader lists them, no file is opened.

Which columns may be targets is judged by their words alone: two to thirty words that come back are
a group, numbers of ten values or more a scalar. Anything else is named and left out, and so is a
column that says the same as another in other words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from lcm_scale import config
from lcm_scale.atlas import load_atlas
from lcm_scale.config import ShardRecipe
from lcm_scale.config.fields import COLUMN_NAME
from lcm_scale.data.readers import READERS
from lcm_scale.data.readers.people import USUAL
from lcm_scale.data.recordings import Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised
from lcm_scale.layouts.found import Found

MOST_WORDS = 30  # of a group: ABIDE has 20 sites
FEWEST_NUMBERS = 10  # different ones, of a scalar
NOT_TARGETS = ("ses", "acq", "dir", "acq_time")  # how a scan was made


# Columns that readers take as what they say of a scan; the site is a label as well.
FACTS = frozenset(name for names in USUAL.values() for name in names) - {"site"}


@dataclass(frozen=True)
class Column:
    """A label column: word -> scans, and how many scans have none."""

    name: str
    words: Counter[str]
    missing: int

    @property
    def is_scalar(self) -> bool:
        return len(self.words) >= FEWEST_NUMBERS and all(map(_is_number, self.words))

    @property
    def is_group(self) -> bool:
        return not self.is_scalar and 2 <= len(self.words) <= min(
            MOST_WORDS, sum(self.words.values()) // 2
        )


@dataclass(frozen=True)
class Survey:
    """What a reader lists.

    Attributes:
        refused: what the reader says in place of scans, '' where it lists them.
        skipped: reason -> how many.   trs: seconds -> scans.   fds: scans with a displacement.
    """

    scans: int = 0
    people: int = 0
    refused: str = ""
    trs: Counter[float] = field(default_factory=Counter)
    ages: tuple[float, ...] = ()
    sexes: Counter[str] = field(default_factory=Counter)
    fds: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    groups: tuple[Column, ...] = ()
    scalars: tuple[Column, ...] = ()
    others: tuple[Column, ...] = ()


def survey(found: Found, name: str) -> Survey:
    """The scans that the layout's reader lists, with assumed answers where questions are open."""
    source = {**found.source, **found.assumed}
    recipe = config.load(ShardRecipe, None, [])
    recipe.name, recipe.reader = name, found.reader
    for key, value in source.items():
        setattr(recipe.source, key, value)
    atlas = load_atlas(found.regions.atlas or f"regions:{max(2, len(found.regions.names))}")
    try:
        listed = list(READERS[found.reader](recipe, atlas))
    except InputError as error:
        return Survey(refused=str(error))
    scans = [item for item in listed if isinstance(item, Unread)]
    groups, scalars, others = _columns(scans)
    return Survey(
        scans=len(scans),
        people=len({normalised(scan.subject) for scan in scans}),
        trs=Counter(scan.tr for scan in scans if scan.tr is not None),
        ages=tuple(scan.age for scan in scans if scan.age is not None),
        sexes=Counter(scan.sex for scan in scans if scan.sex),
        fds=sum(scan.mean_fd is not None for scan in scans),
        skipped=Counter(item.why for item in listed if isinstance(item, Skipped)),
        groups=tuple(groups),
        scalars=tuple(scalars),
        others=tuple(others),
    )


def _columns(scans: Sequence[Unread]) -> tuple[list[Column], list[Column], list[Column]]:
    """The label columns that are groups, that are scalars, and that are neither."""
    groups: dict[tuple[int, ...], Column] = {}  # by how they divide the scans
    scalars, others = [], []
    for name in dict.fromkeys(name for scan in scans for name in scan.labels):
        if name.lower() in FACTS:
            continue
        cells = [scan.labels.get(name) for scan in scans]
        known = Counter(cell for cell in cells if cell is not None)
        column = Column(name, known, len(cells) - sum(known.values()))
        numbers = {cell: number for number, cell in enumerate(dict.fromkeys(cells))}
        division = tuple(numbers[cell] for cell in cells)
        if name in NOT_TARGETS or not COLUMN_NAME.fits(name):
            others.append(column)
        elif column.is_scalar:
            scalars.append(column)
        elif column.is_group and division not in groups:
            groups[division] = column
        else:
            others.append(column)
    return list(groups.values()), scalars, [column for column in others if column.words]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
