#!/usr/bin/env bash
# The same job on several boards over SSH, with GNU parallel: each board does a part (default), or all of it
# (WHOLE=1, to compare boards). Boards need jetbench, the packs and the data at the same paths.
#
#   scripts/fleet/parallel.sh "orin1 orin2 orin3" --config configs/sav-val.toml
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,6p' "$0"
    exit 2
fi
read -ra boards <<<"$1"
shift
command -v parallel >/dev/null || { echo "parallel.sh: GNU parallel is missing (apt install parallel)" >&2; exit 3; }
name="fleet-$(date -u +%Y%m%dT%H%M%SZ)"
count=${#boards[@]}
flags=$(printf '%q ' "$@")
mkdir -p "$name"
one_board() {
    local board=$1 shard="$2/$count"
    [ -z "${WHOLE:-}" ] || shard=1/1
    # Exit code 1 (something invalid or failed) is brought home all the same: merge says what is missing.
    ssh -o BatchMode=yes "$board" "jetbench $flags --shard $shard --out $name" >"$name/$board.log" 2>&1 \
        || echo "$board: exit code $?, see $name/$board.log" >&2
    rsync -a "$board:$name/" "$name/$board/"
}
export -f one_board
export name count flags
parallel --will-cite --jobs 0 one_board {1} {#} ::: "${boards[@]}"
exec "${JETBENCH:-jetbench}" merge "$name"
