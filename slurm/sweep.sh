#!/usr/bin/env bash
# One task a point of a sweep: sbatch --array=1-N slurm/sweep.sh recipes/sweep_sizes.yaml [key=value ...]; N as `lcm-scale sweep plan`
# prints it (append %8 to run eight at a time). Points that are finished end at once, so the same line fills what is missing.
# Site settings: slurm/site.example.env. Overrides win over what stands here; so do sbatch's own options.
#SBATCH --job-name=lcm-sweep
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=02:00:00
#SBATCH --output=slurm-%x-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
source "${SLURM_SUBMIT_DIR:-.}/slurm/job.sh"

snapshot
LCM_RETRY_KILLED=1
recipe=${1:?"name a sweep, for example: sbatch --array=1-75 slurm/sweep.sh recipes/sweep_sizes.yaml"}
shift
attend sweep run "$CODE/$recipe" --point "${SLURM_ARRAY_TASK_ID:?"submit it as an array: sbatch --array=1-N"}" \
    shards_dir="${LCM_SHARDS:-shards}" \
    runs_dir="$RUNS" \
    "$@"
