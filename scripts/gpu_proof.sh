#!/usr/bin/env bash
# Runs every claim about a device on that device, and leaves a folder that can be committed.
#
#   scripts/gpu_proof.sh DEVICE [OUT]        DEVICE: cuda:0, tensorrt:0, webgpu:0, cpu
#
# Checks: doctor; verify of every pack in every precision that it has; audit, with the least and with the plain traffic; the demo
# clips in every precision, beside the CPU; the next frame made ready beside this one; eight objects in a batch and one after the other;
# masks with the least and with the plain traffic and with the next frame made ready, byte by byte; CUDA graphs; runs without
# prompts: trackers with each detector, their tracks named by a label pack, and video segmenters; models in PyTorch, where
# PYTORCH names any. OUT (default: gpu-proof/DEVICE) gets summary.md, one text per step, and the records.
#
#   JETBENCH   the program        [default: target/release/jetbench, else the one on the PATH]
#   PACKS      pack directories   [default: those in assets/packs]
#   STEPS      a regular expression: only steps whose names it matches [default: all]
#   LIMIT      seconds a step may take [default: 600]
#   PYTORCH    models to time in PyTorch on cuda:N or cpu, as `jetbench-models speed` names them (edgetam sam2.1_tiny); name their
#              packs in PACKS [default: none]
#   KIT        the model kit, for that [default: jetbench-models on the PATH]
#   REPEAT     times that every cell of a run is measured [default: 3]
#   VIDEOS     demo clips that runs take, the first so many, where a driver on the processor would take hours [default: all]
#
# Exit code: 0, all that can run on the device passed; 1, something failed; 2, wrong usage.
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,22p' "$0"; exit 2; }
cd "$(dirname "$0")/.."
device=$1
out=${2:-gpu-proof/${device/:/}}
jetbench=${JETBENCH:-$([ -x target/release/jetbench ] && echo target/release/jetbench || command -v jetbench)}
[ -x "$jetbench" ] || { echo "no jetbench: build it (cargo build --release) or name it with JETBENCH" >&2; exit 2; }
read -ra packs <<<"${PACKS:-$(echo assets/packs/*)}"
repeat=${REPEAT:-3}
videos=(${VIDEOS:+--limit-videos "$VIDEOS"})
export NO_COLOR=1
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
faults=0
{
    echo "# Proof on \`$device\`"
    echo
    echo "Made by \`scripts/gpu_proof.sh $device\` on $(date -u +%Y-%m-%d); $("$jetbench" --version).${VIDEOS:+ Of the demo clips only the first $VIDEOS.}"
    echo
    echo "| step | outcome | said last |"
    echo "|---|---|---|"
} >"$out/summary.md"

# said FILE: the cells of a table, by verdict; of other texts the last line.
said() {
    local cells='^[^ ]+ .* (cpu|(cuda|tensorrt|webgpu):[0-9]+) +(valid|invalid|failed|interrupted)' all
    all=$(grep -cE "$cells" "$1")
    if [ "$all" != 0 ]; then echo "$(grep -E "$cells" "$1" | grep -cE ':?[0-9u] +valid') of $all cells valid"
    else grep -v '^ *$' "$1" | tail -n1 | cut -c1-160 | tr '|' '/'; fi
}
# step NAME COMMAND…: runs it, keeps what it says, writes a row. What a device refuses (exit 3) is no fault of the proof.
step() {
    local name=$1 code outcome; shift
    [[ $name =~ ${STEPS:-} ]] || return 0
    timeout "${LIMIT:-600}" "$@" >"$out/$name.txt" 2>&1; code=$?
    case $code in
        0) outcome=passed ;;
        3) outcome=refused ;;
        124) outcome="**no end after ${LIMIT:-600} s**"; faults=$((faults + 1)) ;;
        *) outcome="**failed** ($code)"; faults=$((faults + 1)) ;;
    esac
    echo "| $name | $outcome | $(said "$out/$name.txt") |" >>"$out/summary.md"
    printf '%-40s %s\n' "$name" "$outcome"
    return "$code"
}
# record NAME DIRECTORY: keeps the record of the run in DIRECTORY.
record() {
    local run
    for run in "$2"/*/*/run.json; do
        [ -e "$run" ] || continue
        cp "$run" "$out/$1.run.json"; cp "$(dirname "$run")/summary.csv" "$out/$1.summary.csv"
    done
}
# has PACK DTYPE: does it name a graph in that precision? Where it lacks others, verify says so.
has() { grep -q "^files = .*\b$2 = " "$1/pack.toml"; }
# shared PACK…: precisions of the device that all of these packs have, with commas between.
shared() {
    local dtype pack kept=()
    for dtype in "${runs[@]}"; do
        for pack in "$@"; do has "$pack" "$dtype" || continue 2; done
        kept+=("$dtype")
    done
    (IFS=,; echo "${kept[*]}")
}
trackers=() detectors=() labels=() segmenters=() found=() tracking=() founding=() segmenting=()
for pack in "${packs[@]}"; do
    [ -e "$pack/pack.toml" ] || continue
    found+=("$pack")
    name=$(basename "$pack")
    case $(sed -n 's/^family = "\(.*\)"$/\1/p' "$pack/pack.toml") in
        dfine) detectors+=("$name"); founding+=("$pack") ;;
        clip_labels) labels+=("$pack") ;;
        videomt | dvis_daq) segmenters+=("$name"); segmenting+=("$pack") ;;
        *) trackers+=("$name"); tracking+=("$pack") ;;
    esac
done
[ ${#trackers[@]} -gt 0 ] || { echo "no packs of trackers in: ${packs[*]}" >&2; exit 2; }
runs=(fp32 fp16 bf16)
[ -n "$(shared "${tracking[@]}")" ] || { echo "the trackers' packs have no precision in common: name others in PACKS" >&2; exit 2; }
models=("${trackers[@]/%/_points}")
all=$(IFS=,; echo "${models[*]}")
places=(); for pack in "${found[@]}"; do places+=(--packs "$(dirname "$pack")"); done

step doctor "$jetbench" doctor --device "$device" "${places[@]}"
runs=()                       # precisions that a pack has and the device takes
for dtype in fp32 fp16 bf16; do
    # No WebGPU has bf16, so the program calls it wrong usage and not a refusal of this device.
    if [[ $device:$dtype == webgpu:*:bf16 ]]; then
        [[ verify_bf16 =~ ${STEPS:-} ]] && echo "| verify, bf16 | refused | WebGPU has no bf16 |" >>"$out/summary.md"
        continue
    fi
    refused=0 tried=0
    for pack in "${found[@]}"; do
        has "$pack" "$dtype" || continue
        tried=1
        name=$(basename "$pack")
        step "verify_${name}_$dtype" "$jetbench" verify "$pack" --device "$device" --dtype "$dtype"
        [ $? = 3 ] && refused=1
    done
    [ $tried = 0 ] || [ $refused = 1 ] || runs+=("$dtype")
done
dtypes=$(shared "${tracking[@]}")
if [ -z "$dtypes" ]; then
    printf '\n%s takes no precision that all trackers have: nothing else was run.\n' "$device" | tee -a "$out/summary.md" >&2
    exit 1
fi
"$jetbench" data synth --quiet --videos 1 --objects 8 --frames 48 --size 1280x720 "$work/eight"
common=(--dtype "$dtypes" --device "$device" "${places[@]}")
plain=(--option image=floats --option results=host)
# An audit starts the objects of the first frame: eight of these eleven.
"$jetbench" data synth --quiet --videos 1 --objects 11 --frames 16 --size 1280x720 "$work/together/eight"
for data in assets/demo "$work/together/eight"; do
    name=audit_$(basename "$data")
    # What crosses is the same in every precision: inputs and outputs of all graphs are fp32.
    audit=("$jetbench" audit --models "$all" --dtype "${dtypes%%,*}" --device "$device" "${places[@]}" --data "$data")
    step "$name" "${audit[@]}"
    step "${name}_plain" "${audit[@]}" "${plain[@]}"
done
step demo "$jetbench" run "${videos[@]}" --models "$all" "${common[@]}" --repeat "$repeat" --out "$work/demo"; record demo "$work/demo"
step demo_cpu "$jetbench" run "${videos[@]}" --models "$all" --dtype "${dtypes%%,*}" --device cpu "${places[@]}" --out "$work/cpu"; record demo_cpu "$work/cpu"
for ahead in off on; do
    step "ahead_$ahead" "$jetbench" run "${videos[@]}" --models "$all" "${common[@]}" --scenario offline --option "pipeline=$ahead" \
        --repeat "$repeat" --out "$work/ahead_$ahead"
    record "ahead_$ahead" "$work/ahead_$ahead"
done
for objects in batch loop; do
    step "eight_$objects" "$jetbench" run --models "$all" "${common[@]}" --data "$work/eight" --option "objects=$objects" \
        --repeat "$repeat" --out "$work/eight_$objects"
    record "eight_$objects" "$work/eight_$objects"
done
# unprompted NAME DTYPES TAG…: an audit and runs without prompts, on the device and on the CPU; the label packs' cost is in the records.
unprompted() {
    local name=$1 dtypes=$2 tags; shift 2
    [ $# -gt 0 ] || return 0
    if [ -z "$dtypes" ]; then
        step "$name" bash -c 'echo "its packs have no precision in common that the device takes"; exit 1'
        return
    fi
    tags=$(IFS=,; echo "$*")
    step "audit_$name" "$jetbench" audit --models "$tags" --dtype "${dtypes%%,*}" --device "$device" "${places[@]}"
    step "$name" "$jetbench" run "${videos[@]}" --models "$tags" --dtype "$dtypes" --device "$device" "${places[@]}" "${labels[@]/#/--labels=}" --repeat "$repeat" --out "$work/$name"
    record "$name" "$work/$name"
    step "${name}_cpu" "$jetbench" run "${videos[@]}" --models "$tags" --dtype "${dtypes%%,*}" --device cpu "${places[@]}" --out "$work/${name}_cpu"
    record "${name}_cpu" "$work/${name}_cpu"
}
tags=(); for detector in "${detectors[@]}"; do tags+=("${trackers[@]/%/_$detector}"); done
unprompted found "$(shared "${tracking[@]}" "${founding[@]}" "${labels[@]}")" "${tags[@]}"
unprompted segmenters "$(shared "${segmenting[@]}" "${labels[@]}")" "${segmenters[@]}"
# The same masks, whatever crosses to the device.
[[ masks_equal =~ ${STEPS:-} ]] && for way in least plain ahead; do
    case $way in
        least) options=() ;;
        plain) options=("${plain[@]}") ;;
        ahead) options=(--scenario offline --option pipeline=on) ;;
    esac
    "$jetbench" run "${videos[@]}" --models "$all" --dtype "${dtypes%%,*}" --device "$device" "${places[@]}" --save-masks --quiet "${options[@]}" \
        --out "$work/$way" >"$out/masks_$way.txt" 2>&1
    mkdir -p "$work/masks/$way" && cp -r "$work/$way"/*/*/masks/. "$work/masks/$way/"
done
step masks_equal bash -c 'count=$(find "$1" -type f | wc -l); [ "$count" != 0 ] || { echo "no run gave masks: see masks_least.txt"; exit 1; }
    diff -rq "$1" "$2" && diff -rq "$1" "$3" && echo "none of $count files differs"' - "$work/masks/"{least,plain,ahead}
case $device in cuda:*)
    for captured in false true; do
        step "graphs_$captured" "$jetbench" run "${videos[@]}" --models "$all" --dtype "${dtypes##*,}" --device "$device" "${places[@]}" \
            --option objects=loop --option "cuda_graph=$captured" --repeat "$repeat" --out "$work/graphs_$captured"
        record "graphs_$captured" "$work/graphs_$captured"
    done ;;
esac
# Models in PyTorch, and a run of the packs on the same clip with one object.
if [ -n "${PYTORCH:-}" ]; then
    "$jetbench" data synth --quiet --videos 1 --objects 1 --frames 48 --size 1280x720 "$work/one"
    step one "$jetbench" run --models "$all" "${common[@]}" --data "$work/one" --repeat "$repeat" --out "$work/one_run"; record one "$work/one_run"
    torch=${device/tensorrt/cuda}
    read -ra kit <<<"${KIT:-jetbench-models}"
    for model in $PYTORCH; do
        for dtype in ${dtypes//,/ }; do
            step "pytorch_${model}_$dtype" "${kit[@]}" speed --model "$model" --dtype "$dtype" --device "$torch" --frames "$(echo "$work"/one/JPEGImages*/*)"
        done
    done
fi
echo >>"$out/summary.md"
echo "$faults failed." >>"$out/summary.md"
echo "written: $out ($faults failed)"
[ "$faults" = 0 ]
