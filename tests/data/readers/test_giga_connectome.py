"""giga_connectome's HDF5 files, up to 0.4.

Layout: bids-apps/giga_connectome at 59d83806 (the commit before it wrote tables):
giga_connectome/postprocess.py writes {subject}[/{session}]/{attribute}_timeseries, with the
attribute RepetitionTime, and {attribute}_connectome, where attribute is
{subject}_{specifier}_atlas-{atlas}_desc-{desc}; utils.py's parse_bids_name makes the specifier
[ses-S_]task-T[_run-R]; docs/source/outputs.md names the files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lcm_scale.config import ShardRecipe
from lcm_scale.errors import InputError


def write(path: Path, subject: str, session: str, specifiers: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "a") as file:
        group = file.require_group(f"{subject}/{session}" if session else subject)
        for specifier, series in specifiers.items():
            for n in (series.shape[1], series.shape[1] - 1):  # each parcellation of the atlas
                name = f"{subject}_{specifier}_atlas-MIST_desc-{n}"
                made = group.create_dataset(f"{name}_timeseries", data=series[:, :n])
                made.attrs["RepetitionTime"] = 2.0
                group.create_dataset(f"{name}_connectome", data=np.corrcoef(series[:, :n].T))


@pytest.fixture
def giga(tmp_path: Path, bold, recipe) -> Callable[..., ShardRecipe]:
    """Subject 1 with two sessions and two runs in one, subject 2 without sessions."""
    folder = tmp_path / "connectomes"
    folder.mkdir()
    one = folder / "sub-1_atlas-MIST_desc-simple.h5"
    write(
        one, "sub-1", "ses-a", {"ses-a_task-rest_run-1": bold(0), "ses-a_task-rest_run-2": bold(1)}
    )
    write(one, "sub-1", "ses-b", {"ses-b_task-rest": bold(2)})
    two = folder / "sub-2" / "func"
    two.mkdir(parents=True)
    write(two / "sub-2_atlas-MIST_desc-simple.h5", "sub-2", "", {"task-rest": bold(3)})
    return lambda **keys: recipe(reader="giga_connectome", dir=folder, **keys)


@pytest.mark.parametrize("kind", ["series", "connectivity"])
def test_every_scan_of_every_participant_is_read(kind: str, giga, read_all, bold) -> None:
    scans, _ = read_all(giga(kind=kind))
    assert [(s.subject, s.session, s.run) for s in scans] == [
        ("1", "a", "rest_1"),
        ("1", "a", "rest_2"),
        ("1", "b", "rest"),
        ("2", "", "rest"),
    ]
    for i, scan in enumerate(scans):
        assert scan.labels["task"] == "rest"
        if kind == "series":
            assert np.array_equal(scan.series, bold(i))
        else:
            assert np.allclose(scan.connectivity, np.corrcoef(bold(i).T))


def test_the_task_is_chosen_by_name(giga, read_all) -> None:
    assert len(read_all(giga(names="run-2"))[0]) == 1


def test_another_atlas_names_the_sizes_that_are_there(giga, read_all, bold) -> None:
    n = bold(0).shape[1]
    with pytest.raises(
        InputError, match=rf"no timeseries of 77 regions; there are .*, {n} \d+ x {n}"
    ):
        read_all(giga(atlas="x:77"))


def test_one_scan_in_two_files_is_a_question(giga, read_all, bold) -> None:
    made = giga()
    other = Path(made.source.dir) / "sub-2_atlas-MIST_desc-scrubbing.h5"
    write(other, "sub-2", "", {"task-rest": bold(4)})
    with pytest.raises(InputError, match=r"are of one scan; choose with .*source\.pattern"):
        read_all(made)
    assert len(read_all(giga(pattern="**/*simple.h5"))[0]) == 4


def test_a_link_out_of_the_file_is_refused(giga, read_all, tmp_path) -> None:
    made = giga()
    with h5py.File(Path(made.source.dir) / "sub-3_atlas-MIST_desc-simple.h5", "w") as file:
        file["sub-3"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
    with pytest.raises(InputError, match=r"'sub-3' is an external link"):
        read_all(made)


def test_damage_is_one_line(giga, read_all) -> None:
    made = giga()
    path = Path(made.source.dir) / "sub-1_atlas-MIST_desc-simple.h5"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r"sub-1_atlas-MIST_desc-simple\.h5: cannot be read as"):
        read_all(made)
