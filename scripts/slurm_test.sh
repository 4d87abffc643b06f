#!/usr/bin/env bash
# The demo as an array of four on a real Slurm, joined, against one single run: every score must be the same. Starts its
# own controller and daemon on this machine, in a directory of its own, and ends them. Needs Debian's packages slurmctld,
# slurmd and slurm-client (slurm-wlm has all), but nothing of theirs need be running.
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
export JETBENCH_SHARDS=4
job=$(sbatch --parsable --array=1-4 "$tree/scripts/fleet/slurm.sbatch" "${flags[@]}")
echo "submitted array job $job (4 tasks)"
while squeue -h -j "$job" 2>/dev/null | grep -q .; do sleep 1; done
for task in 1 2 3 4; do
    find "jetbench-$job/part-$task" -name run.json | grep -q . \
        || { echo "slurm_test: task $task left no result" >&2; cat "jetbench-$job-$task.log" >&2 || true; exit 1; }
done
grep -h -o "part ./4 of the videos (Slurm array)" "jetbench-$job"-*.log || true
run_of() { sed -n 's/.*"run":"\([^"]*\)".*/\1/p'; }
"$JETBENCH" merge "jetbench-$job" --out joined --quiet --json >joined.json
"$JETBENCH" "${flags[@]}" --out single --quiet --json >single.json
joined=$(run_of <joined.json) single=$(run_of <single.json)
for file in objects.csv frame_scores.csv; do
    cmp "$single/$file" "$joined/$file"
    echo "$file: $(($(wc -l <"$joined/$file") - 1)) rows, equal to the single run's byte for byte"
done
columns() { cut -d, -f1-7,9-14 "$1/summary.csv"; }
diff <(columns "$single") <(columns "$joined")
echo "summary: $(columns "$joined" | tail -1)"
echo "slurm_test: passed"
