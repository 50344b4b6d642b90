"""What stands in strangers' files is shown on a terminal and does not control it."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from lcm_scale import progress
from lcm_scale.cli import app
from lcm_scale.cli.sweep import print_table
from lcm_scale.errors import InputError
from lcm_scale.terminal import one_line, print, printable

RELEASE = Path(__file__).parent / "formats" / "0.1.0"
RED = "\x1b[31mred\x1b[0m"
HIDDEN = "\x1b]0;title\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, \u00e4\u00df\u6f22, \N{MINUS SIGN}", "plain, \u00e4\u00df\u6f22, \N{MINUS SIGN}"),
        ("a\tb\nc", "a\tb\nc"),
        (RED, r"\x1b[31mred\x1b[0m"),
        ("over\rwritten", r"over\rwritten"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\u202ecba", r"abc\u202ecba"),
        ("one\u2028two", r"one\u2028two"),
        ("\ud800", r"\ud800"),
    ],
)
def test_only_what_controls_a_terminal_is_spelt_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_one_line_is_one_line() -> None:
    assert one_line("a\r\n\tb\x1b\x85c") == r"a b\x1b\x85c"


def test_print_prints_what_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print(RED, 3, sep="|", end=".")
    print(HIDDEN, file=sys.stderr)
    assert tuple(capsys.readouterr()) == (
        r"\x1b[31mred\x1b[0m|3.",
        "\\x1b]0;title\\x07\n",
    )


def test_an_error_that_quotes_a_file_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise InputError(f"a.csv: {RED}\nerror: another line")

    monkeypatch.setattr(app, "app", fail)
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == ("error: a.csv: \\x1b[31mred\\x1b[0m error: another line\n")


def test_inspect_shows_names_of_a_strangers_set_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "first"
    shutil.copytree(RELEASE / "shards" / "first", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.update(cohort=RED, notes=[HIDDEN])
    del manifest["checksum"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(sys, "argv", ["lcm-scale", "inspect", str(folder)])
    with pytest.raises(SystemExit) as stop:
        app.main()
    out = capsys.readouterr().out
    assert stop.value.code == 0 and printable(out) == out
    assert r"cohort \x1b[31mred\x1b[0m" in out and r"note: \x1b]0;title\x07" in out


def test_a_table_takes_brackets_for_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("[bold]t[/bold]", ["[x]"], [["[/nothing]", RED][:1], [RED]])
    out = capsys.readouterr().out
    assert "[bold]t[/bold]" in out and "[/nothing]" in out and r"\x1b[31mred" in out


def test_a_progress_line_takes_brackets_for_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(
        progress,
        "Console",
        lambda **options: Console(
            file=screen, force_terminal=False, width=120, **{"markup": False}
        ),
    )
    with progress.stage(f"verify [/x] {HIDDEN}", 1) as advance:
        advance(1, note="[/note]")
    assert r"verify [/x] \x1b]0;title\x07" in screen.getvalue() and "[/note]" in screen.getvalue()
