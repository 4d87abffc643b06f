#!/usr/bin/env bash
# Puts a build of ONNX Runtime where jetbench looks for one: $XDG_CACHE_HOME/jetbench/ort/VERSION/ for the CPU,
# with --webgpu $XDG_CACHE_HOME/jetbench/ort-webgpu/VERSION/ for webgpu:0. With --webgpu-plugin it fetches WebGPU's provider as a plugin
# library instead, to $XDG_CACHE_HOME/jetbench/ep-webgpu/VERSION/, which is only used when --ep-library names it. With --system it is for
# all users: /var/lib/jetbench/ takes the place of the cache, and only root can write there.
# Takes the library out of the wheel on the Python package index; pip checks the pinned digest. Nothing is installed
# into Python, and nothing of Python is used at run time. On a Jetson use the board's own build instead (--ort-lib).
# Exit code 1: the index has another file under that name, or the library cannot be written; 3: it cannot be fetched here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
package=onnxruntime folder=ort pins="$here/runtime.txt" place= patterns=('*/libonnxruntime.so*' '*/libonnxruntime*' onnxruntime/LICENSE)
for flag in "$@"; do
    case "$flag" in
        --webgpu) package=onnxruntime-webgpu folder=ort-webgpu pins="$here/runtime-webgpu.txt" ;;
        --webgpu-plugin)
            package=onnxruntime-ep-webgpu folder=ep-webgpu pins="$here/runtime-webgpu-plugin.txt"
            patterns=('*/libonnxruntime_providers_*' '*/libonnxruntime_providers_*' '*/LICENSE') ;;
        --system) place=/var/lib/jetbench ;;
        *) echo "usage: get-runtime.sh [--webgpu|--webgpu-plugin] [--system]" >&2; exit 2 ;;
    esac
done
version=$(sed -n "s/^$package==\\([^ ]*\\).*/\\1/p" "$pins")
target="${place:-${XDG_CACHE_HOME:-$HOME/.cache}/jetbench}/$folder/$version"

library="$target/libonnxruntime.so.$version"
[ "$folder" != ep-webgpu ] || library="$target/libonnxruntime_providers_webgpu.so"
if [ -e "$library" ]; then
    echo "$package $version is already at $target"
    exit 0
fi
case "$package-$(uname -s)-$(uname -m)" in
    *-Linux-x86_64) arch=x86_64 ;;
    onnxruntime-Linux-aarch64 | onnxruntime-ep-webgpu-Linux-aarch64) arch=aarch64 ;;
    *) echo "get-runtime: no pinned $package for $(uname -s) on $(uname -m); install one and name its library" >&2; exit 3 ;;
esac
python3 -m pip --version >/dev/null 2>&1 || { echo "get-runtime: python3 with pip is needed (Debian: apt install python3-pip)" >&2; exit 3; }
mkdir -p "$target" || { echo "get-runtime: $target cannot be written${place:+; run this as root}" >&2; exit 3; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching $package $version for $arch with pip ..."
python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
    --python-version 3.11 --implementation cp --abi cp311 --abi none --platform "manylinux_2_28_$arch" \
    --requirement "$pins" --dest "$work" 2>"$work/errors" || {
    cat "$work/errors" >&2
    ! grep -q "DO NOT MATCH THE HASHES" "$work/errors" || exit 1    # there is an index, and it has something else
    echo "get-runtime: pip could not fetch the wheel that $pins names" >&2
    exit 3
}
# The provider libraries are looked up beside the library that was loaded, so they go with it. The library itself goes
# last: where it is, everything is.
python3 "$here/from_wheel.py" "$work" "$target" "${patterns[@]}"
echo "$package $version is at $target"
