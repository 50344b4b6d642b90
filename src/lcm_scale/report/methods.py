"""Methods and data in words, ready to paste into a paper: every number is one of
`Report.methods`, which `results.json` holds.

What the program cannot know stands in square brackets, to be filled in: ethics, scanners, and the
preprocessing before the region series.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lcm_scale.evaluation.baselines import MAX_SVM_CLASSES, TOLD
from lcm_scale.evaluation.metrics import METRICS
from lcm_scale.evaluation.results import Report
from lcm_scale.linear.ridge import RIDGE_ALPHAS
from lcm_scale.linear.svm import SVM_COSTS
from lcm_scale.linear.tangent import SHRINKAGE
from lcm_scale.report.citations import Citation
from lcm_scale.report.wording import first_upper, lower, words
from lcm_scale.weights.history import PARTS

CORRELATED = {
    "pearson": "Pearson correlation",
    "ledoit-wolf": "correlation by the Ledoit-Wolf estimate",
    "partial": "partial correlation from the inverse of the Ledoit-Wolf estimate",
    "covariance": "Ledoit-Wolf covariance",
}
MOST_SEEDS = 10  # that are listed
USUAL = {"kind", "window", "pad", "crop", "min_volumes"}  # said in words, not as key and value
Facts = Mapping[str, Any]


def paragraphs(report: Report) -> list[tuple[str, str]]:
    """(heading, text), in the order of a paper; empty where nothing is known."""
    known = report.methods
    if not known:
        return []
    several = len(known["sets"]) > 1
    return [
        ("Data", " ".join(_people(one, several) for one in known["sets"])),
        ("Connectivity", " ".join(_matrices(one, several) for one in known["sets"])),
        ("Model", _model(known)),
        *([("Training", _training(known["training"]))] if known["training"] else []),
        ("Evaluation", _evaluation(report)),
        ("Software", _software(report)),
    ]


def markdown(report: Report, works: Sequence[Citation]) -> str:
    """methods.md: the paragraphs and the list of references."""
    title = f"# Methods of {report.title}\n"
    warning = "\n**SIMULATED: no person was scanned.**\n" if report.simulated else ""
    parts = [f"\n## {heading}\n\n{text}\n" for heading, text in paragraphs(report)]
    listed = "".join(f"- {work.line}\n" for work in works)
    return f"{title}{warning}{''.join(parts)}\n## References\n\n{listed}"


# -- data ------------------------------------------------------------------------------------------


def _people(one: Facts, several: bool) -> str:
    scans, people = _count(one["scans"], "scan"), _count(one["people"], "person", "people")
    sites = f" from {_count(one['sites'], 'site')}" if one["sites"] else ""
    role = (" (evaluated)" if one["tested"] else " (trained on, not evaluated)") if several else ""
    kind = "simulated set" if one["simulated"] else "set"
    parts = [f"The {kind} {one['name']}{role} holds {scans} of {people}{sites}."]
    for target, found in one["answers"].items():
        parts.append(f"{first_upper(words(target))}: {_answer(found, one['people'])}.")
    for name, text in (("volumes", "volumes a scan"), ("tr", "s repetition time")):
        if name in one:
            parts.append(f"{_spread(one[name])} {text}{_of_scans(one, name)}.")
    if "mean_fd" in one:
        moved = one["mean_fd"]
        parts.append(
            f"Mean framewise displacement {moved['mean']:.2f} mm ({moved['low']:.2f} to "
            f"{moved['high']:.2f}){_of_scans(one, 'mean_fd')}."
        )
    left = ", ".join(f"{count} for {words(why)}" for why, count in one["left_out"].items())
    parts.append(f"Left out: {left}." if left else "No scan was left out.")
    return " ".join([*parts, *one["notes"], "[Ethics and consent.]"])


def _answer(found: Facts, everybody: int) -> str:
    some = f", known of {found['people']} people" if found["people"] < everybody else ""
    if "of" in found:
        return ", ".join(f"{name} {count}" for name, count in found["of"].items()) + some
    unit = f" {found['unit']}" if found["unit"] else ""
    return (
        f"mean {found['mean']:.1f}{unit}, SD {found['sd']:.1f}, range {found['low']:.4g} to "
        f"{found['high']:.4g}{some}"
    )


def _spread(found: Facts) -> str:
    low, high = f"{found['low']:.4g}", f"{found['high']:.4g}"
    return low if low == high else f"{low} to {high} (mean {found['mean']:.4g})"


def _of_scans(one: Facts, name: str) -> str:
    known = one[name]["scans"]
    return f", known of {known} scans" if known < one["scans"] else ""


def _matrices(one: Facts, several: bool) -> str:
    own = one["connectivity"]
    kind = CORRELATED.get(own["kind"], f"correlation, {own['kind']}")
    window = own.get("window")
    of = f"windows of {window} volumes" if window else "the whole series"
    where = f"In {one['name']}, the" if several else "The"
    done = "; ".join(
        f"{key} = {value}" for key, value in own.items() if key not in USUAL and value is not None
    )
    regions = f"{one['regions']} regions ({one['atlas']})"
    if "volumes" not in one:
        return (
            f"{where} scans came as matrices of {kind} between {regions}, or how long they are is "
            "not known. [Preprocessing, and how the matrices were made.]"
        )
    crop = f" of its first {own['crop']} volumes" if own.get("crop") else ""
    return (
        f"{where} series of {regions} of each scan{crop} became matrices of {kind}, from {of}; "
        f"what has fewer than {own.get('min_volumes', 2)} volumes is left out. "
        f"{f'Beside that: {done}. ' if done else ''}[Preprocessing before the region series.]"
    )


# -- model -----------------------------------------------------------------------------------------


def _model(known: Facts) -> str:
    own = known["model"]
    seen = "Fisher-z transformed" if own["edges"] == "fisher_z" else "as they are"
    parts = [
        "The Large Connectome Model (Wei et al. 2025) is a transformer decoder whose learnable "
        "tokens, one for each answer, attend to the rows of the connectivity matrix. Here it has "
        f"{_count(own['layers'], 'layer')} of width {own['width']} with {own['heads']} heads, "
        f"feed-forward parts of {own['feed_forward']}, dropout {own['dropout']:g}, "
        f"{own['tokens']} tokens and {own['parameters']:,} parameters; correlations enter {seen}."
    ]
    if own["linear_branch"]:
        parts.append("A linear map from the edges is added to its logits (not part of LCM).")
    if own["people_memory"] != "none":
        parts.append(
            "Beside the decoder stands people memory (not part of LCM): a ridge regression with "
            "kernels of the training people's tangent space, fitted in closed form when training "
            "is done and tuned by an inner cross-validation by person; a gate, 0 where nothing is "
            "clearly better, says how much of the decoder's answer is added to its own."
        )
    if own["context"]:
        told = ", ".join(map(words, own["context"]))
        parts.append(
            f"People memory is told {told} beside the matrix, each where it is not the target."
        )
    people = own["trained_before_on"]
    if people or own["trained_before_on_others_unnamed"]:
        others = " and others that are not named" * own["trained_before_on_others_unnamed"]
        goes_on = (
            "It was not trained here" if own["fixed"] else "Every fold starts from its weights"
        )
        parts.append(
            f"The model was pretrained on {_count(people, 'person', 'people')}{others}, none of "
            f"whom is evaluated as far as they are named. {goes_on}."
        )
    if own["trains"]["part"] != "all":
        parts.append(_trained_part(own["trains"]))
    return " ".join(parts)


def _trained_part(trains: Facts) -> str:
    others = f"{trains['weights']:,} weights in all; the others stood still."
    if trains["part"] == "tokens":
        return f"Finetuning trained the tokens, the last norm and the readout alone, {others}"
    on = " and ".join(PARTS[target] for target in trains["targets"])
    return (
        f"Finetuning trained low-rank adapters (LoRA, Hu et al. 2022) of rank {trains['rank']} and "
        f"alpha {trains['alpha']:g} on {on}, the tokens, the last norm and the readout, {others}"
    )


def _training(own: Facts) -> str:
    phases = "; ".join(
        f"{phase['name']}, {_count(phase['epochs'], 'epoch')} of "
        f"{'AdamW' if phase['stage'] == 'adaptive' else 'SGD with momentum'} (rate {phase['lr']:g},"
        f" weight decay {phase['weight_decay']:g}, {phase['readout']} readout"
        f"{', pseudo-labels' if phase['pseudo_labels'] else ''})"
        for phase in own["phases"]
    )
    clip = f", gradients clipped at {own['clip_norm']:g}" if own["clip_norm"] else ""
    smooth = f", label smoothing {own['label_smoothing']:g}" if own["label_smoothing"] else ""
    chosen = (
        f"The epoch of the lowest loss among {own['validation']:.0%} of the training people was "
        "kept."
        if own["validation"]
        else "The last epoch was kept."
    )
    seeds = ", ".join(map(str, own["seeds"][:MOST_SEEDS]))
    more = f" and {len(own['seeds']) - MOST_SEEDS} more" if len(own["seeds"]) > MOST_SEEDS else ""
    return (
        f"{_count(own['models'], 'model')} trained in phases: {phases}. Batches of {own['batch']} "
        f"scans, {own['schedule']} schedule{clip}. The loss adds the cross-entropies of all class "
        f"targets{smooth} and the squared errors of numbers ({own['scalar_scale']}) with weight "
        f"{own['scalar_weight']:g}. {chosen} Seeds: {seeds}{more}."
    )


# -- evaluation ------------------------------------------------------------------------------------


def _evaluation(report: Report) -> str:
    asked = report.methods["evaluation"]
    deciding = ", ".join(
        f"{words(t.target)} by {lower(METRICS[t.kind][t.deciding].label)}" for t in report.targets
    )
    parts = [report.protocol, f"What decides: {deciding}."]
    parts += [*_baselines(asked), *_statistics(asked, report)]
    if report.optimistic:
        parts.append(report.optimistic)
    return " ".join(parts)


def _baselines(asked: Facts) -> Iterator[str]:
    costs, alphas = len(SVM_COSTS), len(RIDGE_ALPHAS)
    named = {
        "majority": "the class frequencies, or the mean, of the training scans",
        "linear": "linear models of the edges",
        "tangent": "linear models of the tangent space at the training scans' geometric mean "
        f"(each matrix moved {SHRINKAGE:g} towards the identity)",
        TOLD: "linear models of the tangent space that are told the same context",
    }
    used = [named.get(name, f"{name} (of another package)") for name in asked["baselines"]]
    if used:
        yield f"Baselines on the same folds: {'; '.join(used)}."
    if set(asked["baselines"]) & {"linear", "tangent", TOLD}:
        yield (
            f"Linear models are support vector machines for up to {MAX_SVM_CLASSES} classes (C of "
            f"{costs} values from {SVM_COSTS[0]:.2g} to {SVM_COSTS[-1]:.2g} by AUROC), else ridge "
            f"(alpha of {alphas} values from {RIDGE_ALPHAS[0]:.2g} to {RIDGE_ALPHAS[-1]:.2g}), "
            "tuned by an inner five-fold cross-validation by person within the training people."
        )
    if asked["without_pretraining"]:
        yield "The same model without pretraining was trained on the same folds and seeds."
    if asked["harmonise"] != "none":
        yield (
            f"Sites' effects were taken out by {asked['harmonise']}, fitted on the training scans "
            "of each fold."
        )


def _statistics(asked: Facts, report: Report) -> Iterator[str]:
    if asked["bootstrap"]:
        yield (
            f"Intervals are 95 % percentile intervals of {asked['bootstrap']:,} bootstrap "
            "resamples of people; they hold folds and trained models as they are. Differences "
            "from a baseline are paired: both are scored on the same resamples."
        )
    else:
        yield (
            "Intervals are 95 % intervals of the corrected resampled t-test over "
            f"{asked['folds']} folds (Nadeau and Bengio 2003); differences are paired."
        )
    yield "A lead is claimed only where the interval of the difference excludes zero."
    if len(asked["targets"]) > 1:
        yield (
            f"The p values of the deciding differences are corrected for {len(asked['targets'])} "
            "targets (Holm)."
        )
    if report.permuted:
        yield (
            f"Labels of {words(report.permuted.target)} were exchanged "
            f"{report.permuted.permutations:,} times against the held-out predictions."
        )
    if asked["calibration"] != "none":
        folds = asked["folds"]
        done = "; ".join(
            f"{words(target)}: {kind} in {count} of {folds} folds"
            for target, maps in asked["calibrated"].items()
            for kind, count in maps.items()
        )
        yield (
            f"Calibration by {asked['calibration']} was asked for, fitted in each fold on the "
            f"people who choose its epoch where they are enough ({done})."
        )
    if asked["conformal"]:
        yield (
            f"Split conformal sets and intervals promise {1 - asked['conformal']:.0%} coverage, "
            "made from the same people."
        )
    if asked["label_counts"]:
        yield (
            f"With few labels ({', '.join(asked['label_counts'])} people a fold), "
            f"{asked['label_draws']} draws of who keeps one were trained."
        )


def _software(report: Report) -> str:
    own = report.methods["versions"]
    named = {"lcm_scale": "lcm-scale", "torch": "PyTorch", "lightning": "Lightning"}
    listed = ", ".join(f"{named.get(name, name)} {version}" for name, version in own.items())
    commit = str(report.provenance.get("commit", "unknown"))
    at = f" (commit {commit[:12]})" if commit != "unknown" else ""
    marks = ", ".join(f"{one['name']} {one['fingerprint']}" for one in report.methods["sets"])
    return f"{listed}{at}. Fingerprints of the data: {marks}."


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
