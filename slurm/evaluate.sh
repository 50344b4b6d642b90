#!/usr/bin/env bash
# Evaluate a recipe, a task a fold: sbatch --array=1-5 slurm/evaluate.sh recipes/abide_small.yaml [key=value ...]; without --array one
# task does all. Whoever finishes last writes the report. Folds that are finished end at once: the same line fills what is missing.
# Site settings: slurm/site.example.env. Overrides win over what stands here; so do sbatch's own options.
#SBATCH --job-name=lcm-evaluate
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=08:00:00
#SBATCH --output=slurm-%x-%A_%a.out
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
LCM_RETRY_KILLED=1
recipe=${1:?"name a recipe, for example: sbatch --array=1-5 slurm/evaluate.sh recipes/abide_small.yaml"}
recipe=$(submitted "$recipe")
shift
# shellcheck disable=SC2086 # two words, or none
attend evaluate "$recipe" ${SLURM_ARRAY_TASK_ID:+--fold $SLURM_ARRAY_TASK_ID} \
    data.shards_dir="${LCM_SHARDS:-shards}" \
    runs_dir="$RUNS" \
    "$@"
