"""The verb `explain`: it parses and prints, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lcm_scale.cli.show import DryRun, print_next
from lcm_scale.terminal import print

Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="The folder of an evaluated or trained run.")
]
Places = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Where its data lie now, such as data.shards_dir=shards."
    ),
]
Targets = Annotated[
    str, typer.Option(metavar="A,B", help="What is explained; by default all it was asked.")
]
Permutations = Annotated[int, typer.Option(min=0, help="Label-permuted models; 0 tests nothing.")]
Within = Annotated[str, typer.Option(metavar="site|set", help="In which labels are exchanged.")]
Adjust = Annotated[
    str,
    typer.Option(
        metavar="A,B", help="What findings must go beyond: motion, length, age, sex; or none."
    ),
]
Scans = Annotated[int, typer.Option(min=2, help="Scans that each decoder is asked about, at most.")]
Gradients = Annotated[
    bool, typer.Option("--gradients", help="Also of decoders that no answer uses.")
]
AtlasImage = Annotated[
    Path | None,
    typer.Option(metavar="FILE.nii.gz", help="The atlas's label image: writes regional values."),
]


def explain(
    run: Run,
    overrides: Places = None,
    targets: Targets = "",
    permutations: Permutations = 200,
    within: Within = "site",
    adjust: Adjust = "motion,age,sex",
    scans: Scans = 64,
    gradients: Gradients = False,
    atlas_image: AtlasImage = None,
    dry_run: DryRun = False,
) -> None:
    """Say what each token of a run uses, and what of it is no more than noise.

    Maps of the people memory, held against label-permuted models, and of the decoder; tables,
    figures and a page in RUN/explain.
    """
    from lcm_scale.explain import brains, decoder, exchange, finding, models, page, wording
    from lcm_scale.explain.found import Options
    from lcm_scale.report import explain_section
    from lcm_scale.report.explained import FOLDER

    beyond = tuple(name for name in adjust.split(",") if name not in ("", "none"))
    exchange.check_names(within, beyond)
    brains.check_installed()
    decoder.integrated_gradients()
    opened = models.open_run(run, overrides or [], [t for t in targets.split(",") if t])
    brains.centres(opened.opened.sets.atlas, atlas_image)
    options = Options(permutations, within, beyond, scans, gradients)
    finding.check_exchange(opened, options)
    if dry_run:
        names = ", ".join(question.target.name for question in opened.questions)
        print(
            f"inputs are in order: {len(opened.models)} models, {names}; would write {run / FOLDER}"
        )
        return
    explained = finding.explain(opened, options)
    written = page.write(explained, atlas_image)
    for sentence in wording.first_sentences(explained):
        print(sentence)
    print(f"page: {written}")
    if explain_section.renew(run):
        print(f"report: {run / explain_section.REPORT} shows the maps too")
    print_next(f"lcm-scale inspect {run}")
