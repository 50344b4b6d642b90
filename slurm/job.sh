# Sourced by the batch scripts: site settings, the code as it was submitted, the pre-flight, the run, requeueing.
# shellcheck shell=bash
set -euo pipefail
# From the first line on: a warning that comes before the run would end this shell.
WARNED="" RUN=""
trap 'WARNED=1; [ -z "$RUN" ] || kill -USR1 "$RUN" 2>/dev/null || true' USR1 TERM

if [ -f "${LCM_SITE:-slurm/site.env}" ]; then
    # shellcheck source=/dev/null
    source "${LCM_SITE:-slurm/site.env}"
fi
for module in ${LCM_MODULES:-}; do
    module load "$module"
done
[ -z "${LCM_SCRATCH:-}" ] || export TMPDIR="$LCM_SCRATCH"
LCM="${LCM_VENV:-.venv}/bin/lcm-scale"
RUNS="${LCM_RUNS:-runs}"
CODE=.

# A queued job runs the commit that stood when it was submitted, from a copy of it, also after a requeue.
snapshot() {
    # Without git, or where the repository around us does not hold this project, the tree runs as it stands.
    git cat-file -e "$LCM_COMMIT:./slurm/job.sh" 2>/dev/null || return 0
    [ -z "${LCM_DIRTY_OK:-}" ] || git diff --quiet "$LCM_COMMIT" -- . || return 0
    local edited aside
    if [ "${SLURM_RESTART_COUNT:-0}" -eq 0 ] || ! git rev-parse -q --verify "$LCM_PIN" >/dev/null; then
        edited=$(edited_before_submission)
        if [ -n "$edited" ]; then
            echo "error: the tree has edits that are not committed ($edited); commit them, or set LCM_DIRTY_OK=1 to run them" >&2
            exit 2
        fi
        [ -s "$(git rev-parse --git-path logs/HEAD)" ] ||
            echo "git keeps no reflog here: running $LCM_COMMIT, the newest commit that is not younger than the submission" >&2
        git update-ref "$LCM_PIN" "$LCM_COMMIT" ||
            echo "the git folder cannot be written: after a requeue the job may run a later commit" >&2
    fi
    CODE="$RUNS/.jobs/code-$LCM_COMMIT"
    if [ ! -d "$CODE" ]; then
        mkdir -p "$RUNS/.jobs"
        aside="$CODE.$$"
        mkdir "$aside"
        git archive "$LCM_COMMIT" src recipes | tar -x -C "$aside"
        mv -T "$aside" "$CODE" 2>/dev/null || rm -rf "$aside" # a task beside this one was first
    fi
    CODE=$(cd "$CODE" && pwd) # LCM_RUNS may be relative
    export LCM_COMMIT PYTHONPATH="$CODE/src${PYTHONPATH:+:$PYTHONPATH}"
}

# The first tracked file that differs from the submission's commit and was not written after it, to the second. A file that was
# deleted counts as written when its folder was.
edited_before_submission() {
    local file place limit
    limit=$(date -d "${LCM_SUBMITTED:-now}" +%s)
    while IFS= read -r -d '' file; do
        place=$file
        until [ -e "$place" ] || [ -L "$place" ]; do place=$(dirname "$place"); done
        if [ "$(stat -c %Y "$place")" -le "$limit" ]; then
            echo "$file"
            return
        fi
    done < <(GIT_OPTIONAL_LOCKS=0 git diff --name-only -z --no-renames --relative "$LCM_COMMIT")
}

# submitted RECIPE: its path in the submission's copy; a recipe that was not committed is read where it lies.
submitted() {
    if [ "${1#/}" = "$1" ] && [ -f "$CODE/$1" ]; then
        echo "$CODE/$1"
    else
        [ "$CODE" = . ] || echo "$1 is not among the recipes of the submission's commit: read as it stands at each start" >&2
        echo "$1"
    fi
}

# run VERB RECIPE [key=value ...]: one task a GPU; a warning of Slurm's goes to all of them, and 75 means: go on later.
run() {
    local verb=$1 recipe
    recipe=$(submitted "$2")
    shift 2
    # shellcheck disable=SC2086 # LCM_SRUN holds several options
    srun ${LCM_SRUN:-} "$LCM" doctor "$recipe" "$@" || exit $?
    attend "$verb" "$recipe" "$@"
}

# attend WORDS of lcm-scale: run them, pass warnings on, requeue on 75, and leave with their exit code.
attend() {
    local code=0
    # Every rank leaves with 75 by itself: killing the others as soon as the first has left would lose that code. Where one
    # dies the others fail at their next meeting; a minute is what they get.
    # shellcheck disable=SC2086
    srun --kill-on-bad-exit=0 --wait=60 ${LCM_SRUN:-} "$LCM" "$@" &
    RUN=$!
    [ -z "$WARNED" ] || kill -USR1 "$RUN" 2>/dev/null || true
    while :; do
        code=0
        wait "$RUN" || code=$?
        kill -0 "$RUN" 2>/dev/null || break # else a signal ended the wait, not the run
    done
    # 128 and above: killed. By our warning, where it came before the run could listen; from outside (memory), which is
    # worth another try where the script says so.
    if [ "$code" -eq 75 ] || { [ -n "$WARNED${LCM_RETRY_KILLED:-}" ] && [ "$code" -ge 128 ]; }; then
        requeue
    fi
    exit "$code"
}

requeue() {
    # The last task of an array bears the array's own number, by which all its tasks would be requeued.
    local job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}}
    job=${job:-$SLURM_JOB_ID}
    local shown
    shown=$(scontrol show job "$job")
    # Slurm counts a restart when it decides on it, before the processes have ended.
    if [ "$(sed -n 's/.*Restarts=\([0-9]*\).*/\1/p;T;q' <<<"$shown")" -gt "${SLURM_RESTART_COUNT:-0}" ]; then
        echo "Slurm has requeued the job: it goes on by itself" >&2
    elif ! grep -q JobState=RUNNING <<<"$shown"; then
        echo "the job is being cancelled: submit it again to go on" >&2
    elif [ "${SLURM_RESTART_COUNT:-0}" -ge "${LCM_MAX_REQUEUE:-20}" ]; then
        echo "requeued ${SLURM_RESTART_COUNT:-0} times already (LCM_MAX_REQUEUE): submit it again to go on" >&2
    elif [ "$SECONDS" -lt "${LCM_MIN_SECONDS:-60}" ]; then
        echo "stopped after $SECONDS s, less than LCM_MIN_SECONDS: not requeued, a job that dies at once would do so for ever" >&2
    else
        scontrol requeue "$job"
    fi
}
