"""What long steps show: lines with the time that is left, seldom; on a terminal one display, however
many stages lie in each other."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.console import Console

from lcm_scale import progress
from lcm_scale.progress import clock, stage


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """In place of stderr, within a test: pytest puts its own there before one begins."""
    found = io.StringIO()
    monkeypatch.setattr(found, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setattr(
        progress,
        "Console",
        lambda **options: Console(file=found, force_terminal=True, width=120, **{"markup": False}),
    )
    return found


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0.2, "0 s"), (59.6, "60 s"), (100, "2 min"), (3599, "1 h 00 min")),
        *((7500, "2 h 05 min"), (26 * 3600, "1 d 2 h")),
    ],
)
def test_a_duration_is_said_in_one_or_two_units(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_plain_lines_come_seldom_and_say_what_is_left(
    time: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage("read", 100) as advance:
        for _ in range(100):
            time.now += 1
            advance(1, note="x")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "read: 15/100, about 85 s left x",
        "read: 30/100, about 70 s left x",
        "read: 45/100, about 55 s left x",
        "read: 60/100, about 40 s left x",
        "read: 75/100, about 25 s left x",
        "read: 90/100, about 10 s left x",
        "read: 100/100 in 2 min",
    ]


def test_what_was_done_before_is_no_pace(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with stage("train", 100, done=90) as advance:
        time.now += 20
        advance(2)
        advance(8)
    assert "train: 92/100, about 80 s left" in capsys.readouterr().err


def test_a_stage_aside_leaves_no_line_where_it_was_quick(
    time: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds in (1, 10):
        with stage("answer", 4, aside=True) as advance:
            for _ in range(4):
                time.now += seconds
                advance(1)
    assert capsys.readouterr().err.splitlines() == [
        "answer: 2/4, about 20 s left",
        "answer: 4/4",
        "answer: 4/4 in 40 s",
    ]


def test_stages_within_each_other_share_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with stage("folds", 2) as advance:
        for fold in (1, 2):
            with stage(f"fold {fold}", 3) as step, stage("answer", 1, aside=True) as answered:
                step(3)
                answered(1)
            advance()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert text.count("fold 1: 3/3 in 0 s") == text.count("fold 2: 3/3 in 0 s") == 1
    assert "answer: " not in text
    assert re.search(r"folds .* 2/2", text.splitlines()[-1])


def test_a_bar_ends_where_its_stage_did_however_quick_the_steps_were(
    time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = terminal(monkeypatch)
    with stage("train", 9) as advance:
        for _ in range(5):
            advance(1)  # all at one moment, and ended by a signal
    assert "5/9" in screen.getvalue()


def test_a_failure_within_stages_leaves_the_terminal_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = terminal(monkeypatch)
    with pytest.raises(KeyError), stage("outer", 2), stage("inner", 2):
        raise KeyError
    assert progress._shown is None
    with stage("next", 1) as advance:
        advance()
    assert "next" in screen.getvalue()
