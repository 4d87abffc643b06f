#!/usr/bin/env bash
# From a fresh clone to a report: builds, finds or fetches ONNX Runtime, tracks the demo clips with both miniature
# models. Arguments are passed on to jetbench in place of the demo job's. On a Jetson nothing is fetched: the CPU build that the
# package index has would measure the wrong processor.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo >/dev/null || { echo "quickstart: cargo is missing; install Rust 1.95 or newer (rustup.rs)" >&2; exit 3; }
command -v python3 >/dev/null || { echo "quickstart: python3 is missing; it fetches ONNX Runtime" >&2; exit 3; }

cargo build --release --locked
jetbench="${CARGO_TARGET_DIR:-target}/release/jetbench"
jetson() { grep -qs 'nvidia,tegra' "/proc/device-tree/compatible"; }
# doctor exits 3 when it finds no usable runtime: then, and only then, one is fetched.
if ! "$jetbench" doctor >/dev/null 2>&1; then
    if jetson; then
        "$jetbench" doctor || true
        echo "quickstart: give this board an ONNX Runtime with its GPU first (docs/jetson.md), then run this again;" \
            "scripts/get-runtime.sh fetches one for the CPU, to measure with --device cpu" >&2
        exit 3
    fi
    scripts/get-runtime.sh
fi
if [ "$#" -eq 0 ]; then
    set -- --models sam2_points,edgetam_points --dtype bf16
fi
"$jetbench" doctor
code=0
"$jetbench" "$@" || code=$?
binary=$(realpath "$jetbench")
cat <<END

jetbench is $binary
  put it on the PATH:  ln -s $binary ~/.local/bin/jetbench
  your own clips:      jetbench data check DIR && jetbench --models edgetam_points --data DIR; without masks: docs/footage.md
  released models:     docs/models.md; your own: docs/exporting.md
END
exit "$code"
