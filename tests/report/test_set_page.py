"""The page about a shard set: self-contained, escaped, read by everybody, and right in what it
says."""

from __future__ import annotations

import html
import itertools
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lcm_scale import config
from lcm_scale.atlas import load_atlas
from lcm_scale.cli import app
from lcm_scale.config import DataConfig, ShardRecipe
from lcm_scale.data.manifest import read_index
from lcm_scale.data.sets import ShardSets, open_sets
from lcm_scale.data.shards import write_shards
from lcm_scale.data.stream import read_block
from lcm_scale.evaluation.nuisance import told_by_nuisance
from lcm_scale.report import set_plots
from lcm_scale.report.set_facts import look_at
from lcm_scale.report.set_page import write_set_page

RELEASE = Path(__file__).parents[1] / "formats" / "0.1.0" / "shards" / "first"
STRANGE = 'groups=[{name: diagnosis, map: {CN: "<i>C&N", Autism: "$\\\\bad{$"}}]'


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="session")
def page(world: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the simulated set `first`."""
    file = tmp_path_factory.mktemp("page") / "first.html"
    write_set_page(world / "shards" / "first", file)
    return file.read_text(encoding="utf-8")


@pytest.fixture
def sets(world: Path) -> ShardSets:
    return open_sets(DataConfig(sets=[str(world / "shards" / "first")]))


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    tags = Tags(page).found
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in tags}
    for _, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "url(" not in page


def test_the_page_can_be_read_without_seeing_it(page: str) -> None:
    tags = Tags(page).found
    assert ("html", {"lang": "en"}) in tags
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert len(images) >= 8 and all(len(image["alt"] or "") > 20 for image in images)
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")


def test_simulated_scans_are_called_so(page: str) -> None:
    assert "<b>SIMULATED</b>" in page and "<title>SIMULATED" in page


def test_nobodys_raw_id_is_on_the_page(page: str, world: Path) -> None:
    names = [file.name for file in (world / "raw" / "first").rglob("*.1D")]
    ids = {match for name in names for match in re.findall(r"\d{5,}", name)}
    words = re.sub(r"data:image/[^\"]+", "", page)
    assert len(ids) == 37 and not [one for one in ids if one.lstrip("0") in words]
    assert sum(subject in words for subject in look_at(world / "shards" / "first").sets.subjects)


def test_names_of_others_open_no_tag_and_are_no_formula(
    make_set: Callable[[Path, str, list[str]], None], world: Path, tmp_path: Path
) -> None:
    notes = ["notes=['<script>alert(1)</script>']", "simulation.subjects=16"]
    make_set(tmp_path, "strange", [STRANGE, *notes])
    write_set_page(tmp_path / "shards" / "strange", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in text and "<i>" not in text
    assert html.escape("<i>C&N") in text and "$\\bad{$" in text


def test_what_release_0_1_0_wrote_has_a_page(tmp_path: Path) -> None:
    write_set_page(RELEASE, tmp_path / "page.html")
    assert "what the set holds" in (tmp_path / "page.html").read_text(encoding="utf-8")
    facts = look_at(RELEASE)
    assert facts.quality is None and np.isfinite(facts.distance).all()


def test_a_set_of_ready_matrices_and_ages_alone_has_a_page(world: Path, tmp_path: Path) -> None:
    """No group, site, sex, series or motion."""
    draw = np.random.default_rng(0).standard_normal
    for i in range(9):
        np.save(tmp_path / f"{i}.npy", np.corrcoef(draw((5, 30))))
    rows = [f"{i}.npy,{i},{20 + i}" for i in range(9)]
    (tmp_path / "table.csv").write_text("\n".join(["file,subject,age", *rows]) + "\n")
    source = ["reader=table", f"source.table={tmp_path}/table.csv", "source.kind=connectivity"]
    write_shards(
        config.load(
            ShardRecipe, None, ["name=bare", "atlas=bare:5", f"shards_dir={tmp_path}", *source]
        )
    )
    write_set_page(tmp_path / "bare", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "9 scans of 9 people." in text and "too few people, or one value alone" in text
    assert "Too few scans have a mean framewise displacement" in text


def test_distances_are_those_of_the_table(world: Path) -> None:
    """Computed from the matrices, as for older sets, and while sharding."""
    facts = look_at(world / "shards" / "first")
    edges = np.concatenate([read_block(facts.sets, i) for i in range(len(facts.sets.blocks))])
    mean = edges.astype(np.float64).mean(0)
    expected = [1 - np.corrcoef(scan, mean)[0, 1] for scan in edges.astype(np.float64)]
    np.testing.assert_allclose(facts.distance, expected, rtol=1e-4)
    np.testing.assert_allclose(facts.everybody.edges, mean)
    np.testing.assert_allclose(facts.mean_fc, edges.astype(np.float64).mean(1))
    control = facts.sets.labels[:, 0] == 1
    assert next((m.name, m.scans) for m in facts.by_group) == ("CN", control.sum())
    np.testing.assert_allclose(facts.by_group[0].edges, edges[control].astype(np.float64).mean(0))


# -- what site and motion tell ---------------------------------------------------------------------


def told(sets: ShardSets, mean_fd: np.ndarray, target: str) -> dict[str, float | str]:
    answers = [t for t in told_by_nuisance(sets, mean_fd) if t.target == target]
    return {t.by: t.why if t.metric is None else t.metric.value for t in answers}


def test_a_label_that_is_motion_is_told_by_motion(sets: ShardSets) -> None:
    column = sets.vocabulary.names.index("sex")
    sex = sets.labels[:, column]
    moves = np.where(sex == 1, 0.4, 0.1) + np.linspace(0, 0.05, len(sex))
    answers = told(sets, np.where(np.isfinite(sex), moves, 0.2), "sex")
    assert answers["motion"] == 1.0 and float(answers["site"]) < 0.9


def test_motion_says_nothing_of_a_label_that_it_does_not_know(sets: ShardSets) -> None:
    noise = np.random.default_rng(0).gamma(2, 0.1, sets.n_scans)
    assert abs(float(told(sets, noise, "sex")["motion"]) - 0.5) < 0.3


def test_a_few_who_move_much_do_not_turn_the_answer_round(sets: ShardSets) -> None:
    """Their mean is higher, everybody else's rank lower: a straight line in mm has the wrong
    sign."""
    column = sets.vocabulary.names.index("sex")
    women = np.flatnonzero(sets.labels[:, column] == 1)
    moves = np.full(sets.n_scans, 0.2) + np.linspace(0, 0.01, sets.n_scans)
    moves[women] = 0.1
    moves[women[0]] = 5.0
    assert float(told(sets, moves, "sex")["motion"]) > 0.8


def test_a_label_that_the_site_decides_is_not_measured(sets: ShardSets, world: Path) -> None:
    column = sets.vocabulary.names.index("eye_status")
    sets.labels[:, column] = 1 + sets.site % 2
    mean_fd = read_index(world / "shards" / "first", sets.manifests[0]).mean_fd
    answers = told(sets, mean_fd, "eye_status")
    assert (
        answers["site"] == answers["site and motion"] == ("the site decides it: each has one value")
    )
    assert isinstance(answers["motion"], float)


# -- pictures and the verb -------------------------------------------------------------------------


def test_a_brain_shows_the_strongest_edges_where_regions_have_places() -> None:
    pytest.importorskip("nilearn")
    atlas = load_atlas("aal116")
    assert set_plots.can_draw_brains(atlas) and not set_plots.can_draw_brains(load_atlas("toy:4"))
    edges = np.random.default_rng(0).normal(0, 0.1, atlas.n_edges)
    figure = set_plots.brain(edges, atlas, 0.3, "z")
    lines = [line for axes in figure.axes for line in axes.lines]
    assert len(lines) == round(set_plots.STRONGEST * atlas.n_edges)


def lcm(line: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["lcm-scale", *line])
    with pytest.raises(SystemExit) as end:
        app.main()
    return int(end.value.code or 0)


def test_the_verb_refuses_what_is_no_set_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.html")
    assert lcm(["inspect", str(tmp_path / "no"), "--html", out], monkeypatch) == 2
    assert lcm(["inspect", str(RELEASE), str(RELEASE), "--html", out], monkeypatch) == 2
    assert "--html: a page is about one set" in capsys.readouterr().err
    assert not Path(out).exists()
