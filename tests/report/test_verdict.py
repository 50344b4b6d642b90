"""Who wins, by how much, and which part of the model does it."""

from dataclasses import replace

import pytest
from toy_report import LOSES, WINS, apart, report, result

from lcm_scale.evaluation.baselines import TOLD
from lcm_scale.evaluation.metrics import METRICS
from lcm_scale.report.verdict import verdict
from lcm_scale.report.wording import better


@pytest.mark.parametrize(
    ("skills", "standing", "words"),
    [
        (LOSES, "behind", "A plain baseline beats LCM on t "),
        (WINS, "ahead", "LCM beats the best baseline on t "),
        (
            {"LCM": 0.0, "majority": 0.0},
            "level",
            "No difference can be shown between LCM and the best baseline on t ",
        ),
        ({"LCM": 1.0}, "alone", "On t "),
    ],
)
@pytest.mark.parametrize("categories", [("a", "b"), ("t",)], ids=["class", "scalar"])
def test_the_verdict_says_who_wins(
    skills: dict[str, float], standing: str, words: str, categories: tuple[str, ...]
) -> None:
    found = verdict(result("t", categories, skills))
    assert found.standing == standing and found.sentence.startswith(words)


def test_a_lead_within_the_interval_is_no_victory() -> None:
    t = result("t", ("a", "b"), {"LCM": 1.5, "linear": 1.4, "majority": 0.0})
    difference = t.difference("linear", "auroc")
    assert difference.low < 0 < difference.high, "the case must be close"
    found = verdict(t)
    assert found.standing == "level" and found.sentence.startswith("No difference can be shown")
    assert "it includes zero, so who leads may be an accident" in found.detail


def test_constant_guesses_win_no_prize_for_calibration() -> None:
    """They are calibrated by construction."""
    t = report().targets[1]
    assert t.metric("majority", "calibration_error").value < 0.01
    kind = METRICS["class"]["calibration_error"]
    assert better(t.results, kind, "calibration_error") in ("LCM", "linear")


def test_the_best_baseline_is_the_one_compared_with() -> None:
    t = result("t", ("a", "b"), {"LCM": 1.0, "majority": 0.0, "linear": 1.5, "tangent": 3.0})
    assert t.best_baseline == "tangent" and "tangent space" in verdict(t).sentence
    assert (
        result("t", ("t",), {"LCM": 1.0, "majority": 0.0, "linear": 3.0}).best_baseline == "linear"
    ), "smaller error"


def test_even_guessing_may_win_and_is_named() -> None:
    t = result("t", ("t",), {"LCM": 0.1, "majority": 0.0})
    assert "always guessing the mean has mean absolute error" in verdict(t).sentence


def test_a_part_that_leads_is_not_the_best_baseline() -> None:
    """People memory alone may be the best of the table; the verdict is about plain models."""
    skills = {"LCM": 3.0, "people memory": 9.0, "decoder": 1.0, "majority": 0.0, "linear": 2.0}
    whole = result("diagnosis", ("CN", "Autism"), skills)
    parted = replace(whole, parts=("people memory", "decoder"))
    assert whole.best_baseline == "people memory" and parted.best_baseline == "linear"
    assert "Its people memory does the work: alone it has" in verdict(parted).detail
    assert "does the work" not in verdict(whole).detail


@pytest.mark.parametrize(
    ("memory", "decoder", "part", "said"),
    [
        ((-0.1, 0.1), (0.1, 0.2), "people memory", "Its people memory does the work"),
        ((0.1, 0.2), (-0.1, 0.1), "decoder", "Its decoder does the work"),
        ((0.1, 0.2), (0.1, 0.2), "people memory and decoder together", "Both parts count"),
        ((-0.1, 0.1), (-0.1, 0.1), "", "Which part does the work cannot be told"),
        ((-0.2, -0.1), (0.1, 0.2), "", "Its people memory alone (0."),
        ((0.0, 0.0), (-0.1, 0.1), "people memory", "is added, which by itself has "),
        ((0.0, 0.0), (-0.2, -0.1), "people memory", "which by itself is ahead with "),
    ],
)
def test_the_verdict_names_the_part_that_the_differences_show(
    memory: tuple[float, float], decoder: tuple[float, float], part: str, said: str
) -> None:
    skills = {"LCM": 3.0, "people memory": 2.9, "decoder": 2.8, "majority": 0.0}
    t = replace(result("t", ("a", "b"), skills), parts=("people memory", "decoder"))
    found = verdict(apart(t, people_memory=memory, decoder=decoder))
    assert found.standing == "ahead" and found.part == part and said in found.detail
    assert found.sentence.endswith(f" What wins: {part}." if part else "].")
    level = verdict(apart(t, majority=(-0.1, 0.1), people_memory=memory, decoder=decoder))
    assert level.part == "" and "What wins" not in level.sentence, "where nobody leads"


def test_the_verdict_says_whether_context_or_pretraining_makes_the_lead() -> None:
    skills = {"LCM": 3.0, "tangent": 1.0, TOLD: 1.1, "scratch": 1.2, "majority": 0.0}
    t = apart(result("t", ("a", "b"), skills), tangent=(0.1, 0.2), scratch=(0.1, 0.2))
    explained = verdict(apart(t, told=(-0.1, 0.1)))
    assert "the context may be all of the lead" in explained.detail
    stands = verdict(apart(t, told=(0.1, 0.2)))
    assert "the context does not explain the lead" in stands.detail
    assert stands.part == "pretraining" and "What wins: pretraining." in stands.sentence
