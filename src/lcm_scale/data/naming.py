"""One order of regions for a whole set, where its atlas knows their number alone (`name:R`).

Names decide order: the first file that names all its columns names the regions of the set, and
columns of the other files are brought into that order by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lcm_scale.atlas import Atlas
from lcm_scale.data.readers.columns import are_names, is_numbered
from lcm_scale.data.recordings import Unread
from lcm_scale.errors import InputError


def named_by_files(atlas: Atlas, scans: Sequence[Unread]) -> Atlas:
    """A numbered atlas with the names that the first of the files gives to all its regions; itself
    where the first file names none."""
    if not is_numbered(atlas):
        return atlas
    for scan in scans:
        try:
            names = scan.load().columns
        except InputError:  # said where the scan is read for good
            continue
        if not are_names(names):
            return atlas
        if len(names) == atlas.n_regions == len(set(names)):
            return replace(atlas, names=names)
    return atlas


@dataclass
class Naming:
    """Whether the files of a set name their columns.  Attributes: named, unnamed: the first file
    that does and that does not, '' none yet."""

    named: str = ""
    unnamed: str = ""

    def see(self, names: bool, source: str) -> None:
        """Args: names: whether a file names its columns.   source: the file.

        Raises: InputError where some files do and others do not: nobody can tell whether they
        stand in one order."""
        if names:
            self.named = self.named or source
        else:
            self.unnamed = self.unnamed or source
        if self.named and self.unnamed:
            raise InputError(
                f"{self.named} names its columns and {self.unnamed} does not, so whether they "
                "stand in one order cannot be told; source.order=position says that all files "
                "stand in the atlas's order"
            )
