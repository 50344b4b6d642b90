"""
Pretrain on three sets
======================

Few labels of one's own, many scans of other people: a model can learn from the others first. The
three sets of this page know different things of their people. One has a diagnosis, one the state
of the eyes, one both; the model learns from all of them at once, each scan teaching what is known
of it. Then it is finetuned on a lab of 40 people, and compared with itself without pretraining.

All scans are simulated, with a toy atlas of 40 regions so that the page is made in seconds.
"""

# %%
# Three sets of other people
# --------------------------
#
# A recipe says what a set is. ``first_subject`` numbers its people: nobody is in two sets. The
# two sets with a diagnosis call it alike and have the same two answers, so it is one question to
# the model.

import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

work = Path(tempfile.mkdtemp())

DIAGNOSIS = "{name: diagnosis, labels: [CN, Autism]}"
EYES = "{name: eye_status, labels: [closed, open], merge: false}"
SETS = {
    "clinic": {"subjects": 160, "first_subject": 10001, "groups": DIAGNOSIS},
    "eyes": {"subjects": 120, "first_subject": 20001, "groups": EYES},
    "both": {"subjects": 120, "first_subject": 30001, "groups": f"{DIAGNOSIS}, {EYES}"},
    "lab": {"subjects": 40, "first_subject": 40001, "groups": DIAGNOSIS},
}
for number, (name, one) in enumerate(SETS.items()):
    (work / f"{name}.yaml").write_text(
        f"""name: {name}
reader: simulated
atlas: toy:40
simulation:
  subjects: {one["subjects"]}
  first_subject: {one["first_subject"]}
  sites: 2
  first_site: {2 * number}
  seed: {number}
  volumes: 80
  separation: 1.65
groups: [{one["groups"]}]
notes: ["Simulated: nobody was scanned."]
"""
    )


def sh(command):
    """Run a line as a terminal would, and show what it says."""
    done = subprocess.run(command, shell=True, cwd=work, capture_output=True, text=True)
    print(f"$ {command}\n{done.stdout}")
    if done.returncode:
        raise RuntimeError(done.stderr)


print((work / "both.yaml").read_text())
for name in SETS:
    sh(f"lcm-scale shard {name}.yaml")

# %%
# Pretraining
# -----------
#
# A second recipe says what is trained: a small LCM with :doc:`people memory </docs/model>`. The
# audit, which is printed first, says which questions of which sets became one.

(work / "pretrain.yaml").write_text(
    """name: three
data: {sets: [clinic, eyes, both], edges: fisher_z}
model: {preset: tiny, dropout: 0.2, input_dropout: 0.2, people_memory: linear}
objective: {scalar_weight: 1.0, scalar_scale: standardised}
optim: {adaptive: {lr: 1.0e-3, weight_decay: 1.0e-2}}
phases: [{name: adaptive, epochs: 12, readout: mean}]
trainer: {global_batch: 32, threads: 1, accelerator: cpu}
"""
)
sh("lcm-scale pretrain pretrain.yaml")
sh("lcm-scale inspect runs/three")

# %%
# The loss of training, and of the people who choose the epoch, as ``runs/three/metrics.csv`` has
# it:

metrics = pd.read_csv(work / "runs/three/metrics.csv")
fig, axis = plt.subplots(figsize=(7, 3), layout="constrained")
axis.plot(metrics.epoch, metrics.train_loss, "o-", label="training")
axis.plot(metrics.epoch, metrics.val_loss, "o-", label="people who choose the epoch")
axis.set(xlabel="epoch", ylabel="loss")
axis.legend()
plt.show()

# %%
# The lab
# -------
#
# Forty people of the lab, in four folds. ``init_from`` has every fold start from the pretrained
# model, and ``scratch`` among the baselines trains the same model without it, on the same folds.

(work / "lab_run.yaml").write_text(
    """name: lab
init_from: runs/three
data: {sets: [lab], edges: fisher_z, targets: [diagnosis], validation: 0.2}
model: {preset: tiny, dropout: 0.2, input_dropout: 0.2, people_memory: linear}
optim: {adaptive: {lr: 1.0e-3, weight_decay: 1.0e-2}}
phases: [{name: adaptive, epochs: 8, readout: mean}]
trainer: {global_batch: 16, threads: 1, accelerator: cpu}
evaluate:
  folds: 4
  stratify: diagnosis
  baselines: [linear, tangent, scratch]
  confounds: []
"""
)
sh("lcm-scale evaluate lab_run.yaml")

# %%
# How well each tells the diagnosis, with 95 % intervals over the forty people, and what LCM has
# more than each of the others, paired over the same people.

results = pd.read_csv(work / "runs/lab/results.csv").query("metric == 'auroc'")[::-1]
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for axis, rows, names in (
    (axes[0], results[results.minus.isna()], "model"),
    (axes[1], results[results.minus.notna()], "minus"),
):
    errors = [rows.value - rows.low, rows.high - rows.value]
    axis.errorbar(rows.value, rows[names], xerr=errors, fmt="o", capsize=3)
axes[0].set(title="AUROC, simulated people", xlim=(0.3, 1.02))
axes[1].set(title="LCM minus ...")
for axis, nothing in zip(axes, (0.5, 0)):
    axis.axvline(nothing, color="grey", linestyle=":")
plt.show()

# %%
# Where an interval on the right holds zero, these forty people cannot show a difference. That is
# the usual state of a small lab, and the reason why every number here has an interval. ``make
# demo`` asks the same question of 400 people whom no model learned from; the :doc:`README
# </README>` has its table, and :doc:`/docs/evaluation` what pretraining is worth on real scans.
