#!/usr/bin/env bash
# Finetune: sbatch slurm/finetune.sh init_from=runs/NAME data=SET [key=value ...]; LCM_RECIPE names another recipe than the demo's.
# Site settings: slurm/site.example.env. Overrides win over what stands here; so do sbatch's own options.
#SBATCH --job-name=lcm-finetune
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
source "${SLURM_SUBMIT_DIR:-.}/slurm/job.sh"

snapshot
run finetune "${LCM_RECIPE:-recipes/demo_finetune.yaml}" \
    trainer.nodes="${SLURM_NNODES:-1}" \
    trainer.devices="${SLURM_NTASKS_PER_NODE:-1}" \
    data.shards_dir="${LCM_SHARDS:-shards}" \
    runs_dir="$RUNS" \
    "$@"
