#!/usr/bin/env bash
# Does the program run on Arm? Builds it for aarch64, runs it under an emulator (doctor, six frames of a pack in fp32), and compares the masks
# with this machine's, to the bit. It says nothing about speed, sensors or GPUs. Needs root or the packages named below, and an x86-64
# machine; where something is missing it says so and ends with 0.
# Usage: scripts/arm_test.sh [JETBENCH], the program of this machine (target/debug/jetbench, built when it is not there).
set -euo pipefail
cd "$(dirname "$0")/.."
skip() {
    echo "Arm test skipped: $1"
    exit 0
}
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || skip "it emulates an Arm processor on an x86-64 machine"
packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross libstdc++6-arm64-cross qemu-user-static"
if ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64-static >/dev/null; then
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || skip "install $packages"
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=180 $packages \
        >/dev/null 2>&1 || skip "apt-get could not install $packages"
fi
target=aarch64-unknown-linux-gnu
rustup target add "$target" >/dev/null 2>&1 || skip "rustup cannot add $target"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# 1.26.0 and not the version of runtime.txt: the constructors of 1.28 and newer read the processor's topology below /sys, which under this
# emulator is that of the host, and crash.
cat >"$work/runtime.txt" <<'TXT'
onnxruntime==1.26.0 --hash=sha256:35c7c7b0ac2e02001d28fab6c9fc24e9abc5e6faa35e6e19c63cecf1406ba89f
TXT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes --python-version 3.11 \
    --implementation cp --abi cp311 --platform manylinux_2_28_aarch64 --requirement "$work/runtime.txt" --dest "$work" \
    || skip "pip cannot fetch ONNX Runtime 1.26.0 for aarch64"
python3 -m zipfile -e "$work"/onnxruntime-*.whl "$work/wheel"
arm_runtime=$(echo "$work"/wheel/onnxruntime/capi/libonnxruntime.so.*)

CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc cargo build --release --locked --target "$target"
EMULATED="$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/$target/release/jetbench"
EMULATOR=$(command -v qemu-aarch64-static)
here=${1:-target/debug/jetbench}
[ -x "$here" ] || cargo build --locked
aarch64-linux-gnu-gcc -O1 -Wall -shared -fPIC -o "$work/emulated_exec.so" scripts/arm/emulated_exec.c -ldl
export EMULATED EMULATOR QEMU_LD_PREFIX=/usr/aarch64-linux-gnu QEMU_SET_ENV="LD_PRELOAD=$work/emulated_exec.so"
# Its device lock is its own: it measures nothing that another run could disturb.
export JETBENCH_LOCKS="$work/locks"
arm() { "$EMULATOR" "$EMULATED" "$@"; }

job=(run --models edgetam_mini_points --dtype fp32 --packs assets/packs --data assets/demo --limit-videos 1 --limit-objects 1
    --limit-frames 6 --min-frames 1 --save-masks --quiet)
arm doctor --packs assets/packs --data assets/demo --ort-lib "$arm_runtime" --out "$work/arm"
echo "six frames under the emulator ..."
arm "${job[@]}" --ort-lib "$arm_runtime" --out "$work/arm" >"$work/arm.txt" || { cat "$work/arm.txt"; exit 1; }
echo "six frames on this machine ..."
"$here" "${job[@]}" --out "$work/here" >"$work/here.txt" || { cat "$work/here.txt"; exit 1; }
masks() { find "$work/$1" -path '*/masks/*' -name '*.png' | wc -l; }
[ "$(masks arm)" -gt 0 ] || { echo "no masks were written under the emulator" >&2; exit 1; }
[ "$(masks arm)" = "$(masks here)" ] || { echo "$(masks arm) masks under the emulator, $(masks here) here" >&2; exit 1; }
diff -r "$work"/arm/*/*/masks "$work"/here/*/*/masks || { echo "the masks differ between Arm and this machine" >&2; exit 1; }
echo "Arm: $(masks arm) masks, equal to this machine's to the bit"
