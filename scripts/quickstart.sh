#!/usr/bin/env bash
# From a fresh clone to a report: finds or fetches ONNX Runtime, builds, tracks the demo clips with both miniature
# models. Arguments are passed on to jetbench in place of the demo job's.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo >/dev/null || { echo "quickstart: cargo is missing; install Rust 1.95 or newer (rustup.rs)" >&2; exit 3; }
command -v python3 >/dev/null || { echo "quickstart: python3 is missing; it fetches ONNX Runtime" >&2; exit 3; }

cargo build --release --locked
jetbench="${CARGO_TARGET_DIR:-target}/release/jetbench"
# doctor exits 3 when it finds no usable runtime: then, and only then, one is fetched.
"$jetbench" doctor >/dev/null 2>&1 || scripts/get-runtime.sh
if [ "$#" -eq 0 ]; then
    set -- --models sam2_points,edgetam_points --dtype bf16
fi
"$jetbench" doctor
exec "$jetbench" "$@"
