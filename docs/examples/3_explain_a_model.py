"""
Explain a model
===============

Which connections does a model use when it answers? A map always shows something, also of a model
that learned noise. So each map is held against models that were fitted on exchanged labels, and
what does not differ from theirs is drawn grey.

Here the truth is known: the scans are simulated, and the diagnosis adds correlation among ten
regions that stand in a file. The map is compared with that file. With real scans nobody can do
so.
"""

# %%
# A model to explain
# ------------------
#
# 150 simulated people, half of them with the diagnosis, and a small LCM with people memory,
# evaluated in three folds.

import json
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

work = Path(tempfile.mkdtemp())


def sh(command):
    """Run a line as a terminal would, and show what it says."""
    done = subprocess.run(command, shell=True, cwd=work, capture_output=True, text=True)
    print(f"$ {command}\n{done.stdout}")
    if done.returncode:
        raise RuntimeError(done.stderr)


(work / "clinic.yaml").write_text(
    """name: clinic
reader: simulated
simulation: {subjects: 150, sites: 2, volumes: 120, seed: 5, group_effect: 0.5, separation: 2.5}
groups: [{name: diagnosis, labels: [CN, Autism]}]
"""
)
(work / "run.yaml").write_text(
    """name: clinic
data: {sets: [clinic], edges: fisher_z, targets: [diagnosis], validation: 0.15}
model: {preset: tiny, dropout: 0.2, input_dropout: 0.2, people_memory: linear}
optim: {adaptive: {lr: 1.0e-3, weight_decay: 1.0e-2}}
phases: [{name: adaptive, epochs: 6, readout: mean}]
trainer: {global_batch: 16, threads: 1, accelerator: cpu}
evaluate: {folds: 3, stratify: diagnosis, baselines: [linear], confounds: []}
"""
)
sh("lcm-scale shard clinic.yaml")
sh("lcm-scale evaluate run.yaml")

# %%
# Can it tell the diagnosis at all? A map of a model that cannot is not worth looking at.

results = pd.read_csv(work / "runs/clinic/results.csv")
results.query("metric == 'auroc' and minus.isna()")[["model", "value", "low", "high"]].round(3)

# %%
# The maps
# --------
#
# ``explain`` pulls the memory's weights back from the tangent space to correlations (a pattern,
# not raw weights), does the same for models of exchanged labels, and says in one sentence how
# much differs.

sh("lcm-scale explain runs/clinic --permutations 100 --scans 16")

# %%
# Below the diagonal are the connections that differ, above it all of them. Red: the correlation
# is higher where the model leans towards the diagnosis. Most that the map shows in red stand in
# ten rows and columns.

figures = work / "runs/clinic/explain/figures"
fig, axis = plt.subplots(figsize=(6, 5.6), layout="constrained")
axis.imshow(plt.imread(figures / "diagnosis-Autism-edges.png"))
axis.axis("off")
plt.show()

# %%
fig, axis = plt.subplots(figsize=(9, 3.2), layout="constrained")
axis.imshow(plt.imread(figures / "diagnosis-Autism-brain.png"))
axis.axis("off")
plt.show()

# %%
# Is it right?
# ------------
#
# ``SIMULATED.json`` lists the ten regions. A connection with both ends among them was planted.
# How many connections differ, by how many of their ends are planted regions?

planted = json.loads((work / "raw/clinic/SIMULATED.json").read_text())["planted"]["group"]
numbers = [int(name.rpartition("(")[2].rstrip(")")) for name in planted]
edges = pd.read_csv(work / "runs/clinic/explain/edges.csv")
ends = edges.index_a.isin(numbers).astype(int) + edges.index_b.isin(numbers)
differs = edges.differs == "yes"
pd.DataFrame(
    {
        "connections": edges.groupby(ends).size(),
        "higher": (differs & (edges.change > 0)).groupby(ends).sum(),
        "lower": (differs & (edges.change < 0)).groupby(ends).sum(),
    }
).rename_axis("planted ends")

# %%
fig, axis = plt.subplots(figsize=(7, 3), layout="constrained")
bins = np.linspace(edges.change.min(), edges.change.max(), 80)
for count, colour in ((0, "lightgrey"), (1, "tab:blue"), (2, "tab:red")):
    changes = edges.change[ends == count]
    axis.hist(changes, bins, density=True, alpha=0.7, color=colour, label=f"{count} planted ends")
axis.set(xlabel="change of r for one standard deviation of the score", ylabel="density")
axis.legend()
plt.show()

# %%
# The planted connections stand apart. Connections with one planted end are a little weaker: what
# was added to the ten regions makes the rest of their signal a smaller part, and so their
# correlation with everybody else. No one changed these connections, and still they go along with
# the answer. That is what such a map says: what goes along with an answer, not its cause.
#
# :doc:`/docs/explain` says how the maps are made, and what they do not say.
