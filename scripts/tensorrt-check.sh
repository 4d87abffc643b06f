#!/usr/bin/env bash
# Builds every graph of packs with NVIDIA's compiler, without a GPU: fetches the compiler, builds scripts/tensorrt_check, runs it.
#
#   scripts/tensorrt-check.sh PACK… [--dtype fp32,fp16,bf16,int8] [--compute-capability 86] [--attention onnx] [--parse-only] [--json]
#
# Ends as the tool does: 0 everything was built, 1 something was refused, 2 wrong usage; and 3 where something is missing here
# (an x86-64 Linux, the wheel, cargo, libclang), which it names.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$here/tensorrt_check
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$here/../target}")/tensorrt_check
export CARGO_TARGET_DIR
missing() { echo "tensorrt-check: $1" >&2; exit 3; }

if [ ! -x "$CARGO_TARGET_DIR/debug/tensorrt_check" ]; then
    command -v cargo >/dev/null || missing "cargo is missing: the check is a Rust program (https://rustup.rs)"
    # LIBCLANG_PATH: the user knows better. The headers are clang's own (stddef.h), which Debian's libclang1 alone does not bring.
    [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null \
        || compgen -G '/usr/lib*/clang/*/include/stddef.h' >/dev/null \
        || missing "libclang with its headers is missing, which the bindings need while they are built (Debian: apt-get install libclang-dev)"
fi
libraries=$("$here/get-tensorrt-rtx.sh")
command -v cargo >/dev/null && cargo build --quiet --locked --manifest-path "$project/Cargo.toml" >&2
exec "$CARGO_TARGET_DIR/debug/tensorrt_check" --libraries "$libraries" "$@"
