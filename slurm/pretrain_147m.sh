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
# All else is slurm/job.sh as it stood at submission: what is edited, committed or checked out later changes nothing.
cd "${SLURM_SUBMIT_DIR:-.}" && { [ "${PWD##*/}" != slurm ] || cd ..; }
LCM_SUBMITTED=$(scontrol show job "${SLURM_JOB_ID:-0}" 2>/dev/null | sed -n 's/.*SubmitTime=\([^ ]*\).*/\1/p;T;q')
LCM_PIN=refs/lcm-jobs/${SLURM_CLUSTER_NAME:-here}/${SLURM_JOB_ID:-0} # a requeue moves SubmitTime: the first start's commit is kept
LCM_COMMIT=$({ { [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && git rev-parse -q --verify "$LCM_PIN"; } ||
    git rev-parse -q --verify "HEAD@{${LCM_SUBMITTED:-now}}" ||
    git rev-list -1 --before="${LCM_SUBMITTED:-now}" HEAD; } 2>/dev/null)
JOB=$(git show "$LCM_COMMIT:./slurm/job.sh" 2>/dev/null || cat slurm/job.sh 2>/dev/null) ||
    { echo "error: $PWD: no slurm/job.sh; submit from the project's folder" >&2 && exit 2; }
# shellcheck source=slurm/job.sh
source /dev/stdin <<<"$JOB"

snapshot
run pretrain recipes/pretrain_147m.yaml \
    trainer.nodes="${SLURM_NNODES:-1}" \
    trainer.devices="${SLURM_NTASKS_PER_NODE:-1}" \
    data.shards_dir="${LCM_SHARDS:-shards}" \
    runs_dir="$RUNS" \
    "$@"
