"""
My 47 scans
===========

A lab has 47 scans, one file each, and a table that says whose they are. Which of two groups does
a person belong to, and how far can the answer be believed? Five commands lead from the folder to
a report; a sixth asks the trained model about people without a diagnosis.

The scans of this page are simulated. Its numbers say how the program is used, and nothing about
brains.
"""

# %%
# The folder
# ----------
#
# You would begin with your own folder: of each scan the series of the atlas's regions, a row a
# volume and a column a region, as XCP-D, HALFpipe or CONN leave them. Here the folder is made
# first. The file ``SIMULATED.json``, which goes with it, has every later step say that nobody was
# scanned.

import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lcm_scale.atlas import load_atlas
from lcm_scale.config import SimulationConfig
from lcm_scale.data.readers.simulated import write_cohort

work = Path(tempfile.mkdtemp())
atlas = load_atlas("aal116")


def lab_folder(folder, **simulation):
    """Simulated people as a lab would have them: a .tsv a scan, and scans.csv."""
    folder.mkdir(parents=True)
    cohort = SimulationConfig(sites=2, volumes=120, separation=2.2, **simulation)
    write_cohort(work / "simulated", cohort, atlas)
    rows = []
    people = pd.read_csv(work / "simulated/phenotypes_simulated.csv", na_values=-9999)
    for person in people.to_dict("records"):
        series = np.loadtxt(work / f"simulated/{person['FILE_ID']}_rois_aal116.1D")
        file = f"P{person['SUB_ID']}_rest.tsv"
        header = "\t".join(atlas.names)
        np.savetxt(folder / file, series, "%.2f", "\t", header=header, comments="")
        rows.append(
            {
                "file": file,
                "subject": f"P{person['SUB_ID']}",
                "tr": 2.0,
                "age": person["AGE_AT_SCAN"],
                "sex": {1: "M", 2: "F"}.get(person["SEX"]),
                "diagnosis": {1: "patient", 2: "control"}[person["DX_GROUP"]],
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(folder / "scans.csv", index=False)
    shutil.copy(work / "simulated/SIMULATED.json", folder)
    return table


lab_folder(work / "raw/mylab", subjects=47, seed=47).head()

# %%
# What does it hold?
# ------------------
#
# ``new`` looks at the folder, says what it found, and writes two recipes: what the files are, and
# what is asked of them. What it cannot tell, it would ask.


def sh(command):
    """Run a line as a terminal would, and show what it says."""
    done = subprocess.run(command, shell=True, cwd=work, capture_output=True, text=True)
    print(f"$ {command}\n{done.stdout}")
    if done.returncode:
        raise RuntimeError(done.stderr)


sh("lcm-scale new raw/mylab --name mylab")

# %%
# Connectivity matrices
# ---------------------
#
# ``shard`` makes a correlation matrix of each scan, and keeps them with the labels. People's ids
# are hashed. ``verify`` reads every byte again.

sh("lcm-scale shard recipes/data/mylab.yaml")
sh("lcm-scale verify shards/mylab")

# %%
# The evaluation
# --------------
#
# People are divided into folds. Each fold's people are held out once: a model that never saw them
# says to which group they belong. Tuned linear models get the same folds. To keep this page
# short, some of the recipe is changed: three folds in place of five, one model a fold in place of
# three, a third of the epochs, and only diagnosis is asked for. Leave the changes away for the
# full evaluation.

sh(
    "lcm-scale evaluate recipes/mylab.yaml evaluate.folds=3 evaluate.repeats=1 "
    "'phases=[{name: adaptive, epochs: 10}]' 'data.targets=[diagnosis]' 'evaluate.confounds=[]' "
    "trainer.threads=1"
)

# %%
# ``runs/mylab/report.html`` is the report; its numbers lie beside it as ``results.csv``. Here is
# how well each model tells the groups apart (1 is perfect, .5 a coin). The bars are 95 %
# intervals over people, and with 47 of them they are wide. Whether one model is better than
# another, the report says by their difference over the same people, again with its interval.

results = pd.read_csv(work / "runs/mylab/results.csv")
auroc = results.query("target == 'diagnosis' and metric == 'auroc' and minus.isna()")[::-1]
errors = [auroc.value - auroc.low, auroc.high - auroc.value]
fig, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
axis.errorbar(auroc.value, auroc.model, xerr=errors, fmt="o", capsize=3)
axis.axvline(0.5, color="grey", linestyle=":")
axis.set(xlabel="AUROC of diagnosis, simulated people", xlim=(0.3, 1.02))
plt.show()

# %%
# New people
# ----------
#
# After the folds one more model was trained, on everybody: ``runs/mylab/model``. It is asked
# about eight people without a diagnosis. For the last of them the file holds noise and no scan;
# would the program notice?

new = work / "raw/new"
lab_folder(new, subjects=8, first_subject=60001, seed=8)
noise = np.random.default_rng(0).normal(1000, 10, size=(120, 116))
np.savetxt(new / "P60008_rest.tsv", noise, "%.2f", "\t", header="\t".join(atlas.names), comments="")
sh("lcm-scale predict runs/mylab raw/new -o predictions.csv --ids")

# %%
# ``distance`` says how unlike the training people a scan is, and ``flags`` what is out of the
# ordinary. The noise is far away, so its probability means nothing, whatever it is.

answers = pd.read_csv(work / "predictions.csv")
answers[["id", "p(diagnosis=patient)", "distance", "flags"]].round(3).fillna("")

# %%
fig, axis = plt.subplots(figsize=(7, 3), layout="constrained")
flagged = answers["flags"].notna()
for which, mark, name in ((~flagged, "o", "nothing flagged"), (flagged, "X", "flagged")):
    axis.plot(
        answers.distance[which], answers["p(diagnosis=patient)"][which], mark, ms=8, label=name
    )
axis.set(xlabel="distance from the training people", ylabel="p(patient)", ylim=(-0.05, 1.05))
axis.legend()
plt.show()

# %%
# Next: :doc:`/docs/quickstart` explains each step and key, :doc:`/docs/evaluation` what the
# numbers mean, :doc:`/docs/predict` what a prediction does not say.
