#!/usr/bin/env bash
# Pretrain the 147m model: sbatch slurm/pretrain_147m.sh [key=value ...]. One GPU is enough; run folds and seeds side by side.
# Site settings: slurm/site.example.env. Overrides win over what stands here; so do sbatch's own options.
#SBATCH --job-name=lcm-pretrain_147m
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=08:00:00
#SBATCH --output=slurm-%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
source "${SLURM_SUBMIT_DIR:-.}/slurm/job.sh"

snapshot
run pretrain recipes/pretrain_147m.yaml \
    trainer.nodes="${SLURM_NNODES:-1}" \
    trainer.devices="${SLURM_NTASKS_PER_NODE:-1}" \
    data.shards_dir="${LCM_SHARDS:-shards}" \
    runs_dir="$RUNS" \
    "$@"
