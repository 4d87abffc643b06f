#!/usr/bin/env bash
# Scores saved masks of runs without prompts with the original tools, in an environment of its own (target/rescore); see scripts/rescore.py.
# TrackEval and pycocotools come from the Python package index. Not part of CI.
#
#   jetbench --models sam2_dfine --save-masks            # likewise =mots, =ytvis and =vipseg
#   scripts/rescore.sh results/*/RUN … [--davis davis2017-evaluation] [--ytvis cocoapi] [--vipseg VIPSeg-Dataset]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${JETBENCH_RESCORE:-$here/../target/rescore}
packages="trackeval==1.3.0 pycocotools==2.0.11 numpy scipy pillow scikit-image opencv-python-headless pandas tqdm"
if [ "$(cat "$home/made-from" 2>/dev/null)" != "$packages" ]; then
    python3 -m venv "$home"
    # shellcheck disable=SC2086
    "$home/bin/pip" install --quiet --disable-pip-version-check $packages
    echo "$packages" >"$home/made-from"
fi
exec "$home/bin/python" "$here/rescore.py" "$@"
