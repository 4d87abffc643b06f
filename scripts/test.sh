#!/usr/bin/env bash
# Everything that must pass before a commit: format, lints, tests. Fetches ONNX Runtime first, so that the tests that
# need it run; JETBENCH_TEST_NO_RUNTIME=1 leaves it out, and those tests say that they were skipped and why. Then come the check with
# NVIDIA's compiler (JETBENCH_TEST_NO_TENSORRT=1 leaves it out), the model kit's tests (JETBENCH_TEST_NO_PYTHON=1) and those on WebGPU, which use
# what the model kit makes (JETBENCH_TEST_NO_WEBGPU=1), with the Arm test beside them (JETBENCH_TEST_NO_ARM=1).
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${JETBENCH_TEST_NO_RUNTIME:-}" ] || scripts/get-runtime.sh
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo test --workspace --locked
JETBENCH=${CARGO_TARGET_DIR:-target}/debug/jetbench scripts/attack.sh --short
if command -v cargo-deny >/dev/null; then
    # Advisories need a database that not every network reaches; the other three need only the crates.
    cargo deny --locked check bans licenses sources
else
    echo "cargo-deny is not installed: licence and source checks skipped (cargo install cargo-deny --locked)"
fi
scripts/test-tensorrt.sh
# The model kit's tests download, then keep one processor busy. The Arm test uses the other, shared for a while with the WebGPU tests.
arm_said=$(mktemp)
trap 'rm -f "$arm_said"; [ -z "${arm:-}" ] || kill -- "-$arm"' EXIT
setsid scripts/test-arm.sh >"$arm_said" 2>&1 & arm=$!
failed=
if ! scripts/test-python.sh; then
    failed=" model kit"
elif ! scripts/test-webgpu.sh; then
    failed=" WebGPU"
fi
wait "$arm" || failed+=" Arm"
arm=
cat "$arm_said"
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
