"""
Plan a cluster run
==================

Before a job waits in a queue: does the model fit the card, how long does it take, what does it
cost, and are more cards worth it? Nothing here needs a GPU, and nothing is trained. Times and
prices are counted from FLOPs, bandwidths and the price of an hour, not measured.
"""

# %%
# Does it fit?
# ------------
#
# ``cost`` counts parameters, FLOPs of a step and memory. The 1b model:

import os
import re
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

work = Path(tempfile.mkdtemp())
os.environ["COLUMNS"] = "100"  # how wide tables are printed


def sh(command):
    """Run a line as a terminal would, and show what it says."""
    done = subprocess.run(command, shell=True, cwd=work, capture_output=True, text=True)
    print(f"$ {command}\n{done.stdout}")
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


sh("lcm-scale cost model=1b")

# %%
# How many cards, and spread how?
# -------------------------------
#
# With machines named, ``cost`` compares the ways of spreading the run over them, recommends the
# cheapest that fits, and writes its recipe, ``runs/planned.yaml``. Two nodes of eight H100, the
# largest published size, 10,000 scans, 50 epochs:

said = sh(
    "lcm-scale cost nodes=2 gpus_per_node=8 gpu=H100 model=1.2b data.scans=10000 "
    "trainer.max_epochs=50"
)

# %%
# The model is small for such a machine: more cards end no earlier, and cost more, because
# each step has them exchange the gradients. One card a run, and many runs side by side (folds,
# seeds, sizes), is the better use of sixteen.

row = re.compile(r"│ (\d+) +│ (\w+) +│[^│]*│ ([\d.]+) GB +│[^│]*│[^│]*│ ([\d.]+) +│[^│]*│ ([\d.]+)")
plans = pd.DataFrame(row.findall(said), columns=["GPUs", "strategy", "memory", "hours", "USD"])
plans = plans.astype({"memory": float, "hours": float, "USD": float})
names = plans.GPUs + " x " + plans.strategy
fig, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
for axis, column, unit in zip(axes, ("memory", "hours", "USD"), ("GB a card", "hours", "USD")):
    axis.barh(names, plans[column])
    axis.set_xlabel(unit)
axes[0].invert_yaxis()
plt.show()

# %%
# Is this machine ready?
# ----------------------
#
# ``doctor`` looks at what the run will need: torch, cards, room for the checkpoints, the shards
# if they are there. On the cluster, call it in an interactive job. Here it finds a machine
# without a GPU.

sh("lcm-scale doctor runs/planned.yaml")

# %%
# The job scripts
# ---------------
#
# They come with the package. Nobody edits them: settings of the site stand in ``slurm/site.env``,
# and ``key=value`` behind a script's name changes the recipe.

sh("lcm-scale recipes copy pretrain_1b sweep_sizes slurm")

# %%
# On the cluster, three lines. A job that meets its time limit saves, and goes on by itself
# (:doc:`/docs/slurm`)::
#
#     cp slurm/site.example.env slurm/site.env     # partition, account, modules, folders
#     source slurm/site.env && sbatch slurm/pretrain_1b.sh data=SET
#     sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 slurm/pretrain_1b.sh data=SET

# %%
# Would a larger model be better?
# -------------------------------
#
# A sweep trains sizes on numbers of people, and fits a law to what came out. ``sweep plan`` says
# what it would run and cost, and, by simulating it, how well it could tell the law's exponents:
# before a single GPU hour is spent.

sh(
    "lcm-scale sweep plan recipes/sweep_sizes.yaml "
    "'axes={size: [147m, 588m, 1b], subjects: [1000, 3000, 9000], epochs: [20]}'"
)

# %%
# :doc:`/docs/scaling` has sweeps that were run, and what they found.
