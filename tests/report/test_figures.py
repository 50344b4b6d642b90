"""Figures of a report: one look, no word below a line."""

from toy_report import epoch, report

from lcm_scale.report import curves, style
from lcm_scale.report.figures import comparison


def test_a_baseline_has_one_colour_and_marker_in_every_figure() -> None:
    names = ["Majority", "Linear, edges", "Linear, tangent"]
    looks = [style.look(name, "LCM", names) for name in ["LCM", *names]]
    assert len(set(looks)) == 4 and looks[0] == (style.MODEL, "o")
    assert len({marker for _, marker in looks}) == 4, "never colour alone"


def test_no_line_runs_through_a_word_of_a_comparison() -> None:
    """Names and values stand above their interval, the dashes of chance in its track alone."""
    t = report().targets[1]
    shown = {model: t.metric(model, "auroc") for model in t.results}
    figure, _ = comparison(t, "auroc", shown)
    with style.style():
        figure.canvas.draw()
    axes = figure.axes[0]
    words = [text.get_window_extent() for text in axes.texts]
    lines = [line.get_window_extent() for line in axes.lines]
    assert len(words) == 6 and not any(w.overlaps(line) for w in words for line in lines)
    assert not any(a.overlaps(b) for a in words for b in words if a is not b)


def test_every_fold_has_a_panel_with_its_own_epochs_phases_and_the_one_kept() -> None:
    rows = [
        epoch(f"Fold {fold}", e, "momentum" if e < 2 else "adaptive", fold + e)
        for fold in (1, 2, 3)
        for e in range(200)
    ]
    figure = curves.learning_curves(rows, 2)
    with style.style():
        figure.canvas.draw()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Fold 1", "Fold 2", "Fold 3", ""]
    second = figure.axes[1]
    assert {line.get_label(): list(line.get_ydata()) for line in second.lines}["epoch kept"] == [5]
    boxes = [text.get_window_extent() for text in second.texts]
    assert len(boxes) == 2 and not boxes[0].overlaps(boxes[1])
    title = second._left_title.get_window_extent()  # type: ignore[attr-defined]
    assert not any(title.overlaps(box) for box in boxes)


def test_a_single_epoch_without_validation_can_be_drawn() -> None:
    assert curves.learning_curves([epoch("Fold 1", 0, "one", None)], 5).axes[0].lines
