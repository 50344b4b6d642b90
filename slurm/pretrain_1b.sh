#!/usr/bin/env bash
# Pretrain the 1b model: sbatch slurm/pretrain_1b.sh [key=value ...]. How it is spread over the job's cards it finds itself; four of
# a node, or two nodes: sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 slurm/pretrain_1b.sh
# Site settings: slurm/site.example.env. Overrides win over what stands here; so do sbatch's own options.
#SBATCH --job-name=lcm-pretrain_1b
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --output=slurm-%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
# All else is slurm/job.sh as it stood at submission: what is edited, committed or checked out later changes nothing.
WARNED=""
trap WARNED=1 USR1 TERM # from the first line on: a warning that comes before the run would end this shell
cd "${SLURM_SUBMIT_DIR:-.}" && { [ "${PWD##*/}" != slurm ] || [ -d slurm ] || cd ..; }
LCM_JOB=$(SLURM_TIME_FORMAT=%s scontrol -o show job "${SLURM_JOB_ID:?submit it with sbatch}" | grep "^JobId=$SLURM_JOB_ID ") || exit 1
LCM_SUBMITTED=${LCM_JOB#* SubmitTime=} LCM_SUBMITTED=${LCM_SUBMITTED%% *}
# A requeue moves SubmitTime: the first start's commit is kept. Who submitted stays, while numbers begin anew with a new Slurm.
LCM_PIN=${LCM_JOB#* AllocNode:Sid=} LCM_PIN=${LCM_PIN%% *}
LCM_PIN=refs/lcm-jobs/${SLURM_CLUSTER_NAME:-here}/${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}-${LCM_PIN//:/-}
LCM_COMMIT=$({ { [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && git rev-parse -q --verify "$LCM_PIN"; } ||
    git rev-parse -q --verify "HEAD@{$LCM_SUBMITTED}" || git rev-parse -q --verify HEAD; } 2>/dev/null)
JOB=$(git show "${LCM_COMMIT:-HEAD}:./slurm/job.sh" 2>/dev/null || cat slurm/job.sh 2>/dev/null) ||
    { echo "error: $PWD: no slurm/job.sh; submit from the project's folder" >&2 && exit 2; }
# shellcheck source=slurm/job.sh
source /dev/stdin <<<"$JOB"

snapshot
run pretrain recipes/pretrain_1b.yaml \
    trainer.nodes="${SLURM_NNODES:-1}" \
    trainer.devices="${SLURM_NTASKS_PER_NODE:-1}" \
    data.shards_dir="${LCM_SHARDS:-shards}" \
    runs_dir="$RUNS" \
    "$@"
