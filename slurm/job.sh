# Sourced by the batch scripts: site settings, the code as it was submitted, the pre-flight, the run, requeueing.
# shellcheck shell=bash
set -euo pipefail
RUN=""
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
    local edited aside
    export -n LCM_COMMIT # it may come from a job that submitted this one
    # Without git, or where the repository around us does not hold this project, the tree runs as it stands.
    git cat-file -e "${LCM_COMMIT:-HEAD}:./slurm/job.sh" 2>/dev/null || return 0
    if [ "${SLURM_RESTART_COUNT:-0}" -eq 0 ] || ! git rev-parse -q --verify "$LCM_PIN" >/dev/null; then
        if ! known_at_submission; then
            echo "error: git has no record (reflog) of what was checked out at submission, and HEAD has moved since: submit again" >&2
            exit 2
        fi
        edited=$(edited_before_submission)
        if [ -n "$edited" ] && [ -n "${LCM_DIRTY_OK:-}" ]; then
            return 0
        elif [ -n "$edited" ]; then
            echo "error: the tree had edits that are not committed ($edited) when it was submitted; commit them, or set LCM_DIRTY_OK=1 to run them" >&2
            exit 2
        fi
        # Where the tasks of an array start at once, one of them writes it.
        git update-ref "$LCM_PIN" "$LCM_COMMIT" 2>/dev/null || [ "$(git rev-parse -q --verify "$LCM_PIN")" = "$LCM_COMMIT" ] ||
            echo "the git folder cannot be written: after a requeue the job may run a later commit" >&2
    fi
    CODE="$RUNS/.jobs/code-$LCM_COMMIT"
    if [ ! -d "$CODE" ]; then
        aside="$CODE.$SLURM_JOB_ID" # not the process's number: two nodes may give the same
        rm -rf "$aside"
        mkdir -p "$aside"
        git archive "$LCM_COMMIT" src recipes | tar -x -C "$aside"
        mv -T "$aside" "$CODE" 2>/dev/null || rm -rf "$aside" # a task beside this one was first
    fi
    CODE=$(cd "$CODE" && pwd) # LCM_RUNS may be relative
    export LCM_COMMIT PYTHONPATH="$CODE/src${PYTHONPATH:+:$PYTHONPATH}"
}

# Whether LCM_COMMIT was checked out at submission: the reflog goes back so far, or HEAD, its branch and its commit are older.
known_at_submission() {
    local place
    if [ -s "$(git rev-parse --git-path logs/HEAD)" ] && git log -g --date=unix --format=%gd HEAD |
        awk -F '[{}]' -v at="$LCM_SUBMITTED" '/^HEAD@/ && $2 <= at { old = 1 } END { exit !old }'; then
        return 0
    fi
    for place in HEAD "$(git rev-parse --symbolic-full-name HEAD)"; do
        place=$(git rev-parse --git-path "$place")
        [ ! -e "$place" ] || [ "$(stat -c %Z "$place")" -le "$LCM_SUBMITTED" ] || return 1
    done
    [ "$(git log -1 --format=%ct "$LCM_COMMIT")" -le "$LCM_SUBMITTED" ]
}

# The first tracked file that differs from the submission's commit and was not touched after it, to the second. The inode's time
# counts: mv and cp -p keep the file's own. A file that was deleted counts as touched when its folder was.
edited_before_submission() {
    local scratch file place
    scratch=$(mktemp -d -p /tmp)
    # An index of our own: by now the user's may hold something else.
    GIT_INDEX_FILE="$scratch/index" git read-tree "$LCM_COMMIT" &&
        GIT_INDEX_FILE="$scratch/index" git diff --name-only -z --no-renames --relative >"$scratch/differ" || return
    while IFS= read -r -d '' file; do
        place=$file
        until [ -e "$place" ] || [ -L "$place" ]; do place=$(dirname "$place"); done
        if [ "$(stat -c %Z "$place")" -le "$LCM_SUBMITTED" ]; then
            echo "$file"
            break
        fi
    done <"$scratch/differ"
    rm -rf "$scratch"
}

# submitted RECIPE: its path in the submission's copy. One that was not committed is read as it stands, if nobody wrote it since
# the submission; in recipes/ it lies on the submission's other recipes.
submitted() {
    local path=${1#"$PWD"/} laid="$RUNS/.jobs/recipes-$SLURM_JOB_ID"
    if [ "$CODE" = . ]; then
        echo "$path"
    elif [ -f "$CODE/$path" ] || [ ! -f "$path" ]; then
        echo "$CODE/$path"
    elif [ -z "${LCM_DIRTY_OK:-}" ] && [ "$(stat -c %Z "$path")" -gt "$LCM_SUBMITTED" ]; then
        echo "error: $path was edited after the submission and is not committed, so what was submitted is lost: submit again" >&2
        exit 2
    else
        echo "$path is not among the recipes of the submission's commit: read as it stands at each start" >&2
        [[ $path == recipes/* ]] || laid=""
        [ -z "$laid" ] || { rm -rf "$laid" && mkdir "$laid" && cp -r recipes "$laid" && cp -r "$CODE/recipes" "$laid"; } || exit 1
        echo "${laid:+$laid/}$path"
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
    # Between fork and exec a process would lose it.
    [ -z "$WARNED" ] || { sleep 1 && kill -USR1 "$RUN" 2>/dev/null; } || true
    while :; do
        code=0
        wait "$RUN" || code=$?
        kill -0 "$RUN" 2>/dev/null || break # else a signal ended the wait, not the run
    done
    # 128 and above: killed. By our warning, where it came before the run could listen; from outside (memory), which is
    # worth another try where the script says so.
    if [ "$code" -eq 75 ] || { [ -n "$WARNED${LCM_RETRY_KILLED:-}" ] && [ "$code" -ge 128 ]; }; then
        requeue || true # Slurm has said why not; the run's own code counts
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
