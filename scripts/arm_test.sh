#!/usr/bin/env bash
# Does the program run on Arm? Builds it for aarch64 and runs it under an emulator, child processes included: doctor, then six frames of
# edgetam_mini in fp32, whose masks must equal this machine's to the bit. It says nothing about speed, sensors, GPUs or half precisions.
# Needs x86-64 Linux, rustup, python3 with pip, and Debian's packages named below, which it installs if it is root; it names what is
# missing and ends with 3. Not part of scripts/test.sh, as the second build takes longer than the tests: JETBENCH_TEST_ARM=1 adds it.
set -euo pipefail
cd "$(dirname "$0")/.."
missing() { echo "Arm test: $1" >&2; exit 3; }
[ "$(uname -sm)" = "Linux x86_64" ] || missing "it emulates an Arm processor on x86-64 Linux, and this is $(uname -sm)"
packages=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross libstdc++6-arm64-cross qemu-user-static)
if ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64-static >/dev/null; then
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || missing "install ${packages[*]}"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=180 \
        "${packages[@]}"; } >/dev/null 2>&1 || missing "apt-get could not install ${packages[*]}"
fi
triple=aarch64-unknown-linux-gnu
rustup target add "$triple" >/dev/null 2>&1 || missing "rustup cannot add $triple"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# 1.26.0 and not the version of runtime.txt: 1.28 and newer read the processor's topology below /sys while they are loaded, which under the
# emulator is the host's, and crash.
cat >"$work/runtime.txt" <<'TXT'
onnxruntime==1.26.0 --hash=sha256:35c7c7b0ac2e02001d28fab6c9fc24e9abc5e6faa35e6e19c63cecf1406ba89f
TXT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes --python-version 3.11 \
    --implementation cp --abi cp311 --platform manylinux_2_28_aarch64 --requirement "$work/runtime.txt" --dest "$work" \
    || missing "pip cannot fetch ONNX Runtime 1.26.0 for aarch64"
python3 -m zipfile -e "$work"/onnxruntime-*.whl "$work/wheel"
arm_runtime=$(echo "$work"/wheel/onnxruntime/capi/libonnxruntime.so.*)
scripts/get-runtime.sh

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo build --locked
CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc cargo build --release --locked --target "$triple"
aarch64-linux-gnu-gcc -O1 -Wall -Werror -shared -fPIC -o "$work/emulated_exec.so" scripts/arm/emulated_exec.c -ldl
EMULATOR=$(command -v qemu-aarch64-static)
EMULATED=$target/$triple/release/jetbench
# The emulator's nearest to the Cortex-A78AE of an Orin, without SVE as that is. Under the emulator's default, which has SVE, the same frames
# took many times the CPU on an Intel host: one of them outlasted --event-timeout, and the worker was ended for giving no sign of life.
export EMULATOR EMULATED QEMU_CPU=neoverse-n1 QEMU_LD_PREFIX=/usr/aarch64-linux-gnu QEMU_SET_ENV="LD_PRELOAD=$work/emulated_exec.so"
# Locks of its own: it measures nothing that another run could disturb.
mkdir "$work/locks" "$work/arm" "$work/here"
export JETBENCH_LOCKS="$work/locks"

# Six frames of the first clip with one object: the prompted frame, and five that read the memory of those before.
frames=6
job=(run --models edgetam_mini_points --dtype fp32 --packs assets/packs --data assets/demo --limit-videos 1 --limit-objects 1
    --limit-frames "$frames" --min-frames 1 --save-masks --event-timeout 1800)
tried() {
    echo "$1 ..."
    "${@:2}" >"$work/said.txt" 2>&1 || { cat "$work/said.txt" >&2; echo "Arm test: $1 failed" >&2; exit 1; }
}
tried "doctor under the emulator" "$EMULATOR" "$EMULATED" doctor --packs assets/packs --data assets/demo --ort-lib "$arm_runtime" --out "$work/arm"
tried "$frames frames under the emulator" "$EMULATOR" "$EMULATED" "${job[@]}" --ort-lib "$arm_runtime" --out "$work/arm"
tried "$frames frames on this machine" "$target/debug/jetbench" "${job[@]}" --out "$work/here"

for side in arm here; do
    count=$(find "$work/$side" -path '*/masks/*' -name '*.png' | wc -l)
    [ "$count" = "$frames" ] || { echo "Arm test: $count masks of $frames frames (run \"$side\")" >&2; exit 1; }
done
arm_masks=$(echo "$work"/arm/*/*/masks) here_masks=$(echo "$work"/here/*/*/masks)
diff -r "$arm_masks" "$here_masks" || { echo "Arm test: the masks under the emulator are not this machine's" >&2; exit 1; }
echo "Arm test: $frames masks under the emulator, each equal to this machine's to the bit"
