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
source "${SLURM_SUBMIT_DIR:-.}/slurm/job.sh"

snapshot
name=${1:?"name a recipe of recipes/data, for example: sbatch slurm/shard.sh abide source.dir=FOLDER"}
shift
# shellcheck disable=SC2086 # LCM_SRUN holds several options
srun ${LCM_SRUN:-} "$LCM" shard "$CODE/recipes/data/$name.yaml" shards_dir="${LCM_SHARDS:-shards}" "$@"
