#!/usr/bin/env bash
# The demo as an array of four on a real Slurm, of which one part is lost and submitted again, joined, against one single run: every
# score must be the same. Starts its own controller and daemon on this machine, in a directory of its own, and ends them. Needs Debian's
# packages slurmctld, slurmd and slurm-client (slurm-wlm has all), but nothing of theirs need be running.
#
#   scripts/slurm_test.sh [MODEL,…]      (default: sam2_mask)
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
for tool in slurmctld slurmd sbatch squeue; do
    command -v $tool >/dev/null || { echo "slurm_test: $tool is missing (apt install slurm-wlm)" >&2; exit 3; }
done
models=${1:-sam2_mask}
[ -n "${JETBENCH:-}" ] || { cargo build --release --locked; JETBENCH="${CARGO_TARGET_DIR:-$PWD/target}/release/jetbench"; }
JETBENCH=$(realpath "$JETBENCH")
export JETBENCH JETBENCH_HOME=$PWD
tree=$PWD
work=$(mktemp -d /tmp/jetbench-slurm.XXXXXX)
me=$(id -un) host=$(hostname -s)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    [ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"
}
trap finish EXIT
# What is wrong, and what the files named beside it say.
fail() { echo "slurm_test: $1" >&2; shift; [ "$#" = 0 ] || cat "$@" >&2 || true; exit 1; }

mkdir -p "$work"/{state,spool}
cat >"$work/slurm.conf" <<CONF
ClusterName=jetbench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$me
SlurmdUser=$me
# Both ends are this script's; nothing else can reach them.
AuthType=auth/none
CredType=cred/none
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$work/slurm.conf
slurmctld -D -c >/dev/null 2>&1 & pids+=($!)
slurmd -D -N "$host" -c >/dev/null 2>&1 & pids+=($!)
for _ in $(seq 60); do
    [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && break
    sleep 0.5
done
[ "$(sinfo -h -o %T)" = idle ] || { cat "$work"/*.log >&2; echo "slurm_test: the node did not come up" >&2; exit 3; }
echo "$(slurmctld -V) on $host, $(nproc) CPUs"

cd "$work"
flags=(--models "$models" --data "$tree/assets/demo" --packs "$tree/assets/packs" --dtype fp32 --min-frames 1)
submitted() { sbatch --parsable "$@" "$tree/scripts/fleet/slurm.sbatch" "${flags[@]}"; }
ended() { while squeue -h -j "$1" 2>/dev/null | grep -q .; do sleep 1; done; }
# Records of a part that was done to its end.
records() { find "$1" -mindepth 3 -maxdepth 3 -name run.json -exec grep -L '"stopped": *"' {} + 2>/dev/null || true; }
said() { grep -q -- "$2" "$1" || fail "$1 does not say \"$2\":" "$1"; }

export JETBENCH_SHARDS=4
job=$(submitted --array=1-4)
echo "submitted array job $job (4 tasks)"
# Part 2 is ended when its first video is under way.
until find "jetbench-$job/part-2" -mindepth 2 -maxdepth 2 -type d 2>/dev/null | grep -q .; do
    squeue -h -j "$job" | grep -q . || fail "task 2 left no directory of a run" "jetbench-$job-2.log"
    sleep 0.1
done
scancel "${job}_2"
ended "$job"
[ -z "$(records "jetbench-$job/part-2")" ] || fail "task 2 was done before it could be cancelled"
for task in 1 3 4; do
    [ -n "$(records "jetbench-$job/part-$task")" ] || fail "task $task left no result" "jetbench-$job-$task.log"
    said "jetbench-$job-$task.log" "part $task/4 of the videos (Slurm array)"
done
echo "cancelled task 2; the others are done"

# Submitted again by somebody who forgot how many parts there are: Slurm says "1 of 1", and nothing may be measured.
unset JETBENCH_SHARDS
lost=$(submitted --array=2)
ended "$lost"
said "jetbench-$lost-2.log" "set JETBENCH_SHARDS to that number"
[ -z "$(find "jetbench-$lost" -name run.json)" ] || fail "a task that cannot tell its part has measured something"
echo "submitted job $lost (--array=2) without JETBENCH_SHARDS: refused"

export JETBENCH_SHARDS=4
again=$(submitted --array=2)
ended "$again"
said "jetbench-$again-2.log" "part 2/4 of the videos (Slurm array)"
[ -n "$(records "jetbench-$again/part-2")" ] || fail "part 2 left no result when it was submitted again" "jetbench-$again-2.log"
[ "$(find "jetbench-$again" -mindepth 1 -maxdepth 1)" = "jetbench-$again/part-2" ] || fail "job $again did more than part 2"
echo "submitted job $again (--array=2): part 2/4 is done"

run_of() { sed -n 's/.*"run":"\([^"]*\)".*/\1/p'; }
# A busy machine may disturb a cell so far that it is not valid (1); its scores are compared all the same.
judged() {
    local status=0
    "$JETBENCH" "${@:2}" --quiet --json >"$1.json" 2>"$1.txt" || status=$?
    [ "$status" -le 1 ] || fail "jetbench ${*:2} ended with $status:" "$1.txt"
}
judged joined merge "jetbench-$job" "jetbench-$again" --out joined
judged single "${flags[@]}" --shard 1/1 --out single
joined=$(run_of <joined.json) single=$(run_of <single.json)
for file in objects.csv frame_scores.csv; do
    cmp "$single/$file" "$joined/$file"
    echo "$file: $(($(wc -l <"$joined/$file") - 1)) rows, equal to the single run's byte for byte"
done
# Verdict, reasons and latencies depend on what else runs here.
columns() {
    python3 -c 'import csv, sys
for row in csv.DictReader(sys.stdin): print(*(row[name] for name in "model dtype device videos objects frames j f jf".split()))' \
        <"$1/summary.csv"
}
diff <(columns "$single") <(columns "$joined")
echo "summary: $(columns "$joined" | tail -1)"
echo "slurm_test: passed"
