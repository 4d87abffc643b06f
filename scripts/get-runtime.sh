#!/usr/bin/env bash
# Puts a build of ONNX Runtime where jetbench looks for one: $XDG_CACHE_HOME/jetbench/ort/VERSION/ for the CPU,
# with --webgpu $XDG_CACHE_HOME/jetbench/ort-webgpu/VERSION/ for webgpu:0.
# Takes the library out of the wheel on the Python package index; pip checks the pinned digest. Nothing is installed
# into Python, and nothing of Python is used at run time. On a Jetson use the board's own build instead (--ort-lib).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case "${1:-}" in
    "") package=onnxruntime folder=ort pins="$here/runtime.txt" ;;
    --webgpu) package=onnxruntime-webgpu folder=ort-webgpu pins="$here/runtime-webgpu.txt" ;;
    *) echo "usage: get-runtime.sh [--webgpu]" >&2; exit 2 ;;
esac
version=$(sed -n "s/^$package==\\([^ ]*\\).*/\\1/p" "$pins")
target="${XDG_CACHE_HOME:-$HOME/.cache}/jetbench/$folder/$version"

if [ -e "$target/libonnxruntime.so.$version" ]; then
    echo "$package $version is already at $target"
    exit 0
fi
case "$package-$(uname -s)-$(uname -m)" in
    *-Linux-x86_64) arch=x86_64 ;;
    onnxruntime-Linux-aarch64) arch=aarch64 ;;
    *) echo "get-runtime: no pinned $package for $(uname -s) on $(uname -m); install one and pass --ort-lib FILE" >&2; exit 3 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching $package $version for $arch with pip ..."
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --python-version 3.11 --implementation cp --abi cp311 --platform "manylinux_2_28_$arch" \
    --requirement "$pins" --dest "$work"
mkdir -p "$target"
# The provider libraries are looked up beside the library that was loaded, so they go with it. The library itself goes
# last: where it is, everything is.
python3 "$here/from_wheel.py" "$work" "$target" '*/libonnxruntime.so*' '*/libonnxruntime*' onnxruntime/LICENSE
echo "$package $version is at $target"
