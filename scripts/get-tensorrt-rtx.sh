#!/usr/bin/env bash
# Puts NVIDIA's compiler, TensorRT for RTX, into $XDG_CACHE_HOME/jetbench/tensorrt-rtx/VERSION/ and prints that path. Takes the two
# libraries out of a wheel on the Python package index (146 MB); pip checks the pinned digest. Nothing is installed into Python.
# Only scripts/tensorrt-check.sh uses them. NVIDIA's licence holds for them: https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/reference/sla.html
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^onnxruntime-ep-nv-tensorrt-rtx-cu13==\([^ ]*\).*/\1/p' "$here/tensorrt-rtx.txt")
target="${XDG_CACHE_HOME:-$HOME/.cache}/jetbench/tensorrt-rtx/$version"

# The parser is written last, so that half a set counts as none.
if ! compgen -G "$target/libtensorrt_onnxparser_rtx.so.*.*.*[0-9]" >/dev/null; then
    [ "$(uname -sm)" = "Linux x86_64" ] \
        || { echo "get-tensorrt-rtx: NVIDIA's compiler is pinned for Linux on x86-64 only, this is $(uname -sm)" >&2; exit 3; }
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    echo "fetching TensorRT for RTX (wheel $version, 146 MB) with pip ..." >&2
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --python-version 3.11 --platform manylinux_2_28_x86_64 --requirement "$here/tensorrt-rtx.txt" --dest "$work" >&2 2>"$work/errors" || {
        cat "$work/errors" >&2
        ! grep -q "DO NOT MATCH THE HASHES" "$work/errors" || exit 1    # there is an index, and it has something else
        echo "get-tensorrt-rtx: pip could not fetch the wheel that scripts/tensorrt-rtx.txt names" >&2
        exit 3
    }
    mkdir -p "$target"
    python3 "$here/from_wheel.py" "$work" "$target" '*/libtensorrt_onnxparser_rtx.so*' '*/libtensorrt_rtx.so*' '*/libtensorrt_onnxparser_rtx.so*'
fi
echo "$target"
