#!/usr/bin/env bash
# Attacks the built program with everything of docs/trust.md's first four sections: data, truth and packs replaced while it runs,
# forged records, stalls and thermal steps, pipes, escape sequences, full disks, 100 kills at random moments. One line per attack
# says what was done and what happened; exit 1 when one broke through. Mock packs and small drawn videos, no ONNX Runtime; under 10
# minutes. JETBENCH names another program than target/{release,debug}/jetbench.
#   scripts/attack.sh [--kills N] [--seed N] [--only WORD]   --short: some seconds, for every test run
#   scripts/attack.sh --model videomt_mini --labels labels_mini --kills 20   the same against a video segmenter and a label pack; needs ONNX
#   Runtime and takes longer (12 minutes with 10 kills on a busy machine)
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
for found in "${JETBENCH:-}" "$target/release/jetbench" "$target/debug/jetbench"; do
    [ -x "$found" ] && break
done
[ -x "$found" ] || { echo "no jetbench: cargo build first, or name it with JETBENCH" >&2; exit 2; }
PYTHONDONTWRITEBYTECODE=1 exec python3 scripts/attack "$(realpath "$found")" "$@"
