#!/usr/bin/env bash
# Lints, types and unit tests of the model kit, in an environment that is made from requirements.lock and kept under target/.
# PyTorch's wheel comes with NVIDIA's libraries, which it loads also where there is no GPU; the first run downloads them. Says
# that it skipped, and why, where the registry cannot be reached; JETBENCH_TEST_NO_PYTHON=1 skips on purpose.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "tests of the model kit skipped: $1"; exit 0; }
[ -z "${JETBENCH_TEST_NO_PYTHON:-}" ] || skip "JETBENCH_TEST_NO_PYTHON is set"
python=${PYTHON:-python3}
command -v "$python" >/dev/null || skip "there is no $python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || skip "Python 3.11 or newer is needed; PYTHON names one"
[ "$(uname -sm)" = "Linux x86_64" ] || skip "requirements.lock is for Linux on x86-64"

home=${CARGO_TARGET_DIR:-target}/python
wanted=$(sha256sum scripts/requirements.lock)
if [ "$(cat "$home/made-from" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$home"
    "$python" -m venv "$home" || skip "$python -m venv failed (Debian: apt-get install python3-venv)"
    install() { "$home/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: "$@"; }
    # One small package says whether there is a registry; after that a failure is one.
    install --retries 1 "$(grep '^typing_extensions==' scripts/requirements.lock)" || skip "no package registry can be reached"
    # --no-deps: without what nothing loads on a CPU, which pip would add.
    sed '/^# not loaded without a GPU/,$d' scripts/requirements.lock | install -r /dev/stdin
    echo "$wanted" >"$home/made-from"
fi
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=scripts
"$home/bin/ruff" check --quiet --no-cache scripts
"$home/bin/mypy" --config-file scripts/pyproject.toml --cache-dir "$home/mypy" scripts/jetbench_models
exec "$home/bin/python" -m unittest discover -s scripts/tests
