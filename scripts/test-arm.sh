#!/usr/bin/env bash
# Does the program run on Arm? Builds it for aarch64 and runs it under an emulator, child processes included: doctor, then some frames of
# edgetam_mini in fp32, whose masks must equal this machine's to the bit. It says nothing about speed, sensors, GPUs or half precisions.
# Says that it skipped, and why, where something is missing; JETBENCH_TEST_NO_ARM=1 skips on purpose.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "Arm test skipped: $1"; exit 0; }
fail() { echo "Arm test: $1" >&2; exit 1; }
[ -z "${JETBENCH_TEST_NO_ARM:-}" ] || skip "JETBENCH_TEST_NO_ARM is set"
[ "$(uname -sm)" = "Linux x86_64" ] || skip "it emulates an Arm processor on x86-64 Linux, and this is $(uname -sm)"
triple=aarch64-unknown-linux-gnu
libraries=/usr/aarch64-linux-gnu
packages="Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross libstdc++6-arm64-cross qemu-user-static"
for tool in aarch64-linux-gnu-gcc qemu-aarch64-static; do
    command -v $tool >/dev/null || skip "there is no $tool ($packages)"
done
for file in libc.so libstdc++.so.6; do
    [ -e $libraries/lib/$file ] || skip "there is no $libraries/lib/$file ($packages)"
done
[ -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ] || skip "Rust has no standard library for Arm (rustup target add $triple)"

# 1.26.0 and not the version of runtime.txt: 1.28 and newer read the processor's topology below /sys while they are loaded, which under the
# emulator is the host's, and crash.
runtime=${XDG_CACHE_HOME:-$HOME/.cache}/jetbench/ort-emulated/1.26.0
arm_runtime=$runtime/libonnxruntime.so.1.26.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ ! -e "$arm_runtime" ]; then
    wheel=onnxruntime==1.26.0
    echo "$wheel --hash=sha256:35c7c7b0ac2e02001d28fab6c9fc24e9abc5e6faa35e6e19c63cecf1406ba89f" >"$work/runtime.txt"
    python3 -m pip --version >/dev/null 2>&1 || skip "there is no python3 with pip, which fetches ONNX Runtime"
    status=0
    python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
        --python-version 3.11 --implementation cp --abi cp311 --platform manylinux_2_28_aarch64 --requirement "$work/runtime.txt" \
        --dest "$work" 2>"$work/said.txt" || status=$?
    # Another file under that name is no reason to skip.
    ! grep -q "DO NOT MATCH THE HASHES" "$work/said.txt" || fail "$wheel for aarch64 is not the one that is pinned: $(cat "$work/said.txt")"
    [ "$status" = 0 ] || skip "pip cannot fetch $wheel for aarch64: $(tail -n 1 "$work/said.txt")"
    mkdir -p "$runtime"
    python3 scripts/from_wheel.py "$work" "$runtime" '*/libonnxruntime.so*' '*/libonnxruntime.so*' onnxruntime/LICENSE
fi
scripts/get-runtime.sh || { [ $? = 3 ] || fail "scripts/get-runtime.sh failed"; skip "ONNX Runtime for this machine cannot be fetched"; }

# The profile and features of the tests, whose build scripts and procedural macros are there already. Nothing of it is optimised but a few
# crates: without these the emulator loses more than the compiler gains. Names of lines would be hashed with the program, again and again.
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
[ -x "$target/debug/jetbench" ] || cargo build --workspace --locked
CARGO_PROFILE_DEV_DEBUG=false CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    cargo build --quiet --workspace --locked --target "$triple"
aarch64-linux-gnu-gcc -O1 -Wall -Werror -shared -fPIC -o "$work/emulated_exec.so" scripts/arm/emulated_exec.c -ldl
EMULATOR=$(command -v qemu-aarch64-static)
EMULATED=$target/$triple/debug/jetbench
# The emulator's nearest to the Cortex-A78AE of an Orin, without SVE as that is. Under the emulator's default, which has SVE, the same frames
# took many times the CPU on an Intel host: one of them outlasted --event-timeout, and the worker was ended for giving no sign of life.
export EMULATOR EMULATED QEMU_CPU=neoverse-n1 QEMU_LD_PREFIX=$libraries QEMU_SET_ENV="LD_PRELOAD=$work/emulated_exec.so"
# Locks of its own: it measures nothing that another run could disturb.
mkdir "$work/locks" "$work/arm" "$work/here"
export JETBENCH_LOCKS="$work/locks"

# Frames of the first clip with one object: the prompted frame, and two that read the memory of those before.
frames=3
job=(run --models edgetam_mini_points --dtype fp32 --packs assets/packs --data assets/demo --limit-videos 1 --limit-objects 1
    --limit-frames "$frames" --min-frames 1 --save-masks --event-timeout 1800)
# 1 of a run: its figures may not be quoted, which on a busy machine says nothing about its masks.
tried() {
    local status=0
    echo "$1 ..."
    # The emulator takes seconds; one that hangs ends with 124.
    timeout -k 10 480 "${@:3}" >"$work/said.txt" 2>&1 || status=$?
    [ "$status" -le "$2" ] || { cat "$work/said.txt" >&2; fail "$1 ended with $status"; }
}
tried "doctor under the emulator" 0 "$EMULATOR" "$EMULATED" doctor --packs assets/packs --data assets/demo --ort-lib "$arm_runtime" --out "$work/arm"
tried "$frames frames under the emulator" 1 "$EMULATOR" "$EMULATED" "${job[@]}" --ort-lib "$arm_runtime" --out "$work/arm"
tried "$frames frames on this machine" 1 "$target/debug/jetbench" "${job[@]}" --out "$work/here"

for side in arm here; do
    count=$(find "$work/$side" -path '*/masks/*' -name '*.png' | wc -l)
    [ "$count" = "$frames" ] || fail "$count masks of $frames frames (run \"$side\")"
done
arm_masks=$(echo "$work"/arm/*/*/masks) here_masks=$(echo "$work"/here/*/*/masks)
diff -r "$arm_masks" "$here_masks" || fail "the masks under the emulator are not this machine's"
echo "Arm test: $frames masks under the emulator, each equal to this machine's to the bit"
