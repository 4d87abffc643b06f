#!/bin/sh
# Rebuilds the shipped packs from trained weights: graphs, golden references, proof of equality with
# the PyTorch session, precision tables. Training itself is one command per model: python -m jetbench_models train --help
#
#   scripts/make_packs.sh SAM2.safetensors EDGETAM.safetensors DFINE.safetensors LABELS.safetensors VIDEOMT.safetensors DVIS.safetensors [OUT]
#
# OUT (default: assets) receives packs/sam2_mini, packs/edgetam_mini, packs/dfine_mini, packs/labels_mini, packs/videomt_mini,
# packs/dvis_mini and golden/. Needs what pip install './scripts[export]' brings; PYTHON names the interpreter (default: python3).
set -eu

if [ $# -lt 6 ]; then
    sed -n '2,9p' "$0"
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
out=${7:-$here/../assets}
export OMP_NUM_THREADS=1 PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"

mkdir -p "$out"
for pair in "sam2_mini=$1" "edgetam_mini=$2"; do
    pack=$out/packs/${pair%%=*}
    weights=${pair#*=}
    "$python" -m jetbench_models export --checkpoint "$weights" --out "$pack"
    "$python" -m jetbench_models golden --weights "$weights" --pack "$pack" --frames "$out/golden" --logits 5
    "$python" -m jetbench_models verify --weights "$weights" --pack "$pack"
    "$python" -m jetbench_models verify --pack "$pack" --negative
    "$python" -m jetbench_models precision --weights "$weights" --pack "$pack"
done
"$python" -m jetbench_models export --checkpoint "$3" --out "$out/packs/dfine_mini"
"$python" -m jetbench_models golden --weights "$3" --pack "$out/packs/dfine_mini" --frames "$out/golden"
"$python" -m jetbench_models verify --pack "$out/packs/dfine_mini" --checkpoint "$3" --negative
"$python" -m jetbench_models recall --pack "$out/packs/dfine_mini"
"$python" -m jetbench_models labels export --checkpoint "$4" --out "$out/packs/labels_mini"
"$python" -m jetbench_models export --checkpoint "$5" --dtype fp32,bf16 --out "$out/packs/videomt_mini"
"$python" -m jetbench_models golden --weights "$5" --pack "$out/packs/videomt_mini" --frames "$out/golden"
"$python" -m jetbench_models export --checkpoint "$6" --dtype fp32 --out "$out/packs/dvis_mini"
"$python" -m jetbench_models golden --weights "$6" --pack "$out/packs/dvis_mini" --frames "$out/golden"
du -sk "$out/packs" "$out/golden"
