#!/usr/bin/env bash
# A real plugin library of execution providers on a real device: WebGPU's, in a plain build of ONNX Runtime, on the Vulkan driver that
# scripts/test-webgpu.sh uses. A plugin takes the hardware that ONNX Runtime finds, on Linux below /sys/class/drm. Where there is none,
# one card is shown to it in a mount namespace of its own, which needs no rights beyond it (unshare -rm); the driver then runs on
# the processor. Says that it skipped, and why, where something is missing; JETBENCH_TEST_NO_WEBGPU=1 skips on purpose.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "test of a plugin library skipped: $1"; exit 0; }
[ -z "${JETBENCH_TEST_NO_WEBGPU:-}" ] || skip "JETBENCH_TEST_NO_WEBGPU is set"
[ "$(uname -s)" = Linux ] || skip "it needs Linux"
swiftshader=/usr/lib/chromium/vk_swiftshader_icd.json
if [ -z "${VK_DRIVER_FILES:-}" ]; then
    [ -e "$swiftshader" ] || skip "VK_DRIVER_FILES names no driver, and there is no $swiftshader (Debian: apt-get install chromium libvulkan1)"
    export VK_DRIVER_FILES=$swiftshader VK_ICD_FILENAMES=$swiftshader
fi
{ scripts/get-runtime.sh && scripts/get-runtime.sh --webgpu-plugin; } || { [ $? = 3 ] || exit 1; skip "onnxruntime-ep-webgpu cannot be fetched"; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/jetbench
version=$(sed -n 's/^onnxruntime-ep-webgpu==\([^ ]*\).*/\1/p' scripts/runtime-webgpu-plugin.txt)
export JETBENCH_TEST_EP_LIBRARY="$cache/ep-webgpu/$version/libonnxruntime_providers_webgpu.so"
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_RUNTIME_DIR="$work" JETBENCH_LOCKS="$work/locks"

# Small packs take this driver tenths of a second a frame, the miniatures some seconds.
packs=${JETBENCH_TEST_PACKS:-}
if [ -z "$packs" ] && [ -x "$target/python/bin/python" ]; then
    OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=scripts "$target/python/bin/python" -m jetbench_models small --out "$work/small" >/dev/null
    packs=$work/small/packs
fi
[ -n "$packs" ] || skip "scripts/test-python.sh has made no environment to export small packs with"
# One pack: what differs between them is tested with the provider that is built in.
pack=$(cd "$(find "$packs" -mindepth 1 -maxdepth 1 -type d | sort | head -1)" && pwd)
mkdir "$work/packs"
ln -s "$pack" "$work/packs/$(basename "$pack")"
export JETBENCH_TEST_PACKS="$work/packs"

# Built outside the namespace, in which cargo may not write.
built=$(cargo test --workspace --locked --test webgpu --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*webgpu-[^"]*\)".*/\1/p' | tail -1)
[ -x "$built" ] || { echo "the test webgpu was not built" >&2; exit 1; }
[ -x "$target/debug/jetbench" ] || cargo build --workspace --locked
jetbench=$(cd "$target/debug" && pwd)/jetbench

# Shows ONNX Runtime one graphics card, and runs a command.
with_card() {
    if compgen -G '/sys/class/drm/card*/device/vendor' >/dev/null; then "$@"; return; fi
    unshare -rm bash -euc '
        mount -t tmpfs tmpfs /sys/class
        mkdir -p /sys/class/drm/card0/device
        echo 0x1ae0 >/sys/class/drm/card0/device/vendor
        echo 0xc0de >/sys/class/drm/card0/device/device
        echo 0x030000 >/sys/class/drm/card0/device/class
        exec "$@"' -- "$@"
}
with_card true 2>/dev/null || skip "there is no graphics card below /sys/class/drm, and no mount namespace can be made to show one in"

# It is the plugin that runs: the build of ONNX Runtime has no such provider.
with_card "$jetbench" doctor --json --device webgpu:0 --ep-library "$JETBENCH_TEST_EP_LIBRARY" >"$work/doctor.json" || true
python3 - "$work/doctor.json" <<'PYTHON'
import json, sys
answer = json.load(open(sys.argv[1]))
facts, checks = answer["device"]["facts"], {check["name"]: check for check in answer["checks"]}
assert "WebGpu" not in facts["onnxruntime_providers"], facts
assert checks["plugin library"]["ok"] and checks["device webgpu:0"]["ok"], checks
assert facts["plugins"].startswith("webgpu:0: WebGpuExecutionProvider "), facts
PYTHON
# Scores and masks against PyTorch; every node on the plugin's provider, and memory that stays on the device.
with_card "$built" the_device_reproduces_pytorch what_goes_up_and_down
# A whole run: what it says of where it ran. Its verdict is not judged: it is short.
"$jetbench" data synth "$work/data" --videos 1 --frames 3 >/dev/null
with_card "$jetbench" --models "$(basename "$pack")_mask" --packs "$work/packs" --dtype fp32 --device webgpu:0 --data "$work/data" \
    --ep-library "$JETBENCH_TEST_EP_LIBRARY" --out "$work/results" --min-frames 1 --quiet || [ $? = 1 ]
python3 - "$work"/results/*/*/run.json "$JETBENCH_TEST_EP_LIBRARY" <<'PYTHON'
import hashlib, json, pathlib, sys
record = json.loads(pathlib.Path(sys.argv[1]).read_text())
cell, library = record["cells"][0], pathlib.Path(sys.argv[2])
assert cell["verdict"]["kind"] != "failed" and not cell["fallbacks"], cell["verdict"]
plugin = cell["runtime"]["plugin"]
assert plugin["sha256"] == hashlib.sha256(library.read_bytes()).hexdigest(), plugin
assert plugin["provider"] == "WebGpuExecutionProvider" and plugin["version"], plugin
assert cell["effective_dtype"] == "fp32" and record["settings"]["ep_library"] == [str(library)], cell["effective_dtype"]
print(f"a run on {cell['device']} by {plugin['provider']} {plugin['version']} of a plugin library: {cell['verdict']['kind']}")
PYTHON
