#!/usr/bin/env bash
# Pretrain the 147m model: sbatch slurm/pretrain_147m.sh [key=value ...]
# One GPU holds it and is enough for a cohort; run folds and seeds side by side rather than one run on many.
#SBATCH --job-name=lcm-147m
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=08:00:00
#SBATCH --output=slurm-%x-%j.out
#SBATCH --open-mode=append
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"

if [ -f slurm/site.env ]; then
    # shellcheck source=/dev/null
    source slurm/site.env
fi
for module in ${LCM_MODULES:-}; do
    module load "$module"
done

# One task a GPU, as Lightning's Slurm environment expects; overrides given to this script win.
# shellcheck disable=SC2086 # LCM_SRUN holds several options
exec srun ${LCM_SRUN:-} "${LCM_VENV:-.venv}/bin/lcm-scale" pretrain recipes/pretrain_147m.yaml \
    trainer.nodes="${SLURM_NNODES:-1}" \
    trainer.devices="${SLURM_NTASKS_PER_NODE:-1}" \
    data.shards_dir="${LCM_SHARDS:-shards}" \
    runs_dir="${LCM_RUNS:-runs}" \
    "$@"
