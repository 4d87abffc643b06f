#!/usr/bin/env bash
# The check with NVIDIA's compiler: lints and tests of its program, then every graph of both miniature packs in every precision. Says that it
# skipped, and why, where the compiler cannot be had; JETBENCH_TEST_NO_TENSORRT=1 skips on purpose.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "check with NVIDIA's compiler skipped: $1"; exit 0; }
[ -z "${JETBENCH_TEST_NO_TENSORRT:-}" ] || skip "JETBENCH_TEST_NO_TENSORRT is set"
command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || skip "there is no python3 with pip, which fetches the compiler"

# Wrong usage (2) is what the program answers without a pack, once all that it needs is there; 3 says what is missing.
status=0
said=$(scripts/tensorrt-check.sh 2>&1 >/dev/null) || status=$?
[ "$status" != 3 ] || skip "$(tail -n 1 <<<"$said")"
[ "$status" = 2 ] || { echo "$said" >&2; exit 1; }

TENSORRT_RTX_LIBRARIES=$(scripts/get-tensorrt-rtx.sh)
export TENSORRT_RTX_LIBRARIES
project=scripts/tensorrt_check/Cargo.toml
in_its_own() { CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/tensorrt_check cargo "$@"; }
cargo fmt --check --manifest-path "$project"
in_its_own clippy --quiet --locked --all-targets --manifest-path "$project" -- -D warnings
in_its_own test --quiet --locked --manifest-path "$project"
if command -v cargo-deny >/dev/null; then
    cargo deny --locked --manifest-path "$project" check --config "$PWD/deny.toml" bans licenses sources
fi
scripts/tensorrt-check.sh assets/packs/*_mini
scripts/tensorrt-check.sh assets/packs/*_mini --dtype fp16,bf16 --attention onnx
