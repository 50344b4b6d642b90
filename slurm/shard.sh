#!/usr/bin/env bash
# Shard a data set on a compute node: sbatch slurm/shard.sh abide source.dir=FOLDER [key=value ...]
#SBATCH --job-name=lcm-shard
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=02:00:00
#SBATCH --output=slurm-%x-%j.out
#SBATCH --open-mode=append
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
name=${1:?"name a recipe of recipes/data, for example: sbatch slurm/shard.sh abide source.dir=FOLDER"}
shift
# shellcheck disable=SC2086 # LCM_SRUN holds several options
srun ${LCM_SRUN:-} "$LCM" shard "$CODE/recipes/data/$name.yaml" shards_dir="${LCM_SHARDS:-shards}" "$@"
