#!/usr/bin/env bash
# The device path on WebGPU: tests of the tracker and of the program on webgpu:0, on small packs, and a few frames of the miniature
# packs. VK_DRIVER_FILES names the Vulkan driver; else SwiftShader's is taken, which runs on the processor and which Debian's
# package chromium brings (with libvulkan1). Says that it skipped, and why, where something is missing;
# JETBENCH_TEST_NO_WEBGPU=1 skips on purpose.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "tests on WebGPU skipped: $1"; exit 0; }
[ -z "${JETBENCH_TEST_NO_WEBGPU:-}" ] || skip "JETBENCH_TEST_NO_WEBGPU is set"
[ "$(uname -sm)" = "Linux x86_64" ] || skip "onnxruntime-webgpu is published for Linux on x86-64"
swiftshader=/usr/lib/chromium/vk_swiftshader_icd.json
if [ -z "${VK_DRIVER_FILES:-}" ]; then
    [ -e "$swiftshader" ] || skip "VK_DRIVER_FILES names no driver, and there is no $swiftshader (Debian: apt-get install chromium libvulkan1)"
    export VK_DRIVER_FILES=$swiftshader VK_ICD_FILENAMES=$swiftshader
fi
scripts/get-runtime.sh --webgpu || { [ $? = 3 ] || exit 1; skip "onnxruntime-webgpu cannot be fetched"; }
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_RUNTIME_DIR="$work" JETBENCH_LOCKS="$work"

# A frame of a miniature pack takes this driver some seconds; small packs a tenth of that.
packs=assets/packs
if [ -x "$target/python/bin/python" ]; then
    OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=scripts "$target/python/bin/python" -m jetbench_models small --out "$work/small" >/dev/null
    packs=$work/small/packs
else
    echo "scripts/test-python.sh has made no environment: the tests run on the miniature packs and take longer"
fi
export JETBENCH_TEST_PACKS="$packs"
[ "$packs" = assets/packs ] && JETBENCH_TEST_PACKS="$PWD/assets/packs"
# Of the whole workspace, as scripts/test.sh has built it: for one crate alone cargo would choose other features, and build all again.
cargo test --workspace --locked --test webgpu
cargo test --workspace --locked --test it webgpu::
# Every graph of the miniature packs, no node on the CPU: a session that needs one is refused.
"$target/debug/jetbench" audit --models sam2_points,edgetam_points --packs assets/packs --device webgpu:0 --dtype fp32 --frames 2
# The same provider from a plugin library.
if [ "$packs" = assets/packs ]; then unset JETBENCH_TEST_PACKS; fi
scripts/test-plugin.sh
