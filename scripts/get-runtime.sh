#!/usr/bin/env bash
# Puts a CPU build of ONNX Runtime where jetbench looks for one: $XDG_CACHE_HOME/jetbench/ort/VERSION/.
# Takes the library out of the wheel on the Python package index; pip checks the pinned digest. Nothing is installed
# into Python, and nothing of Python is used at run time. On a Jetson use the board's own build instead (--ort-lib).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^onnxruntime==\([^ ]*\).*/\1/p' "$here/runtime.txt")
target="${XDG_CACHE_HOME:-$HOME/.cache}/jetbench/ort/$version"

if [ -e "$target/libonnxruntime.so.$version" ]; then
    echo "ONNX Runtime $version is already at $target"
    exit 0
fi
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) arch=x86_64 ;;
    Linux-aarch64) arch=aarch64 ;;
    *) echo "get-runtime: no pinned ONNX Runtime for $(uname -s) on $(uname -m); install one and pass --ort-lib FILE" >&2; exit 3 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching ONNX Runtime $version for $arch with pip ..."
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --python-version 3.11 --implementation cp --abi cp311 --platform "manylinux_2_28_$arch" \
    --requirement "$here/runtime.txt" --dest "$work"
mkdir -p "$target"
# The provider libraries are looked up beside the library that was loaded, so they go with it.
python3 - "$work" "$target" <<'PY'
import glob, os, sys, zipfile
work, target = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(work, "*.whl"))
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        base = os.path.basename(name)
        if base.startswith("libonnxruntime") or name == "onnxruntime/LICENSE":
            part = os.path.join(target, base + ".part")
            with archive.open(name) as source, open(part, "wb") as sink:
                sink.write(source.read())
            os.replace(part, os.path.join(target, base))
PY
echo "ONNX Runtime $version is at $target"
