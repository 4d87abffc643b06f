"""Shows that a pack's graphs are ones that the runtimes of JetPack 6 take: ONNX Runtime 1.18 to 1.23 and TensorRT 10.3.

Four things are looked at. Operators: all in ONNX's own domain, all in TensorRT's list, with the restrictions of that list that
can be read from a file. Opset and IR version against the limits. ONNX's own checker with strict shape inference. And old
ONNX Runtimes themselves, when they are at hand: each loads every graph in a process of its own, and its outputs on
the same inputs are compared with those of the installed runtime.

With --tensorrt, NVIDIA's compiler is asked instead: TensorRT for RTX builds every graph ahead of time, which needs no GPU (x86-64 Linux,
cargo, libclang, and a package index the first time). docs/gpu.md says what that shows.

Examples:
    pip install --target ort/1.18.1 onnxruntime==1.18.1 "numpy<2"
    python -m jetbench_models check --pack packs/edgetam --runtime ort/1.18.1
    python -m jetbench_models check --tensorrt packs/edgetam packs/sam2.1_tiny --dtype bf16
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx

from ..command import existing_folder, existing_pack, parser
from ..pack import DTYPES, half
from . import kernels, placement, tensorrt

# Opset and IR version that a precision may have at most. ONNX Runtime 1.18 knows opset 21 and IR 10, TensorRT 10 parses
# opsets 9 to 20. Convolutions in bfloat16 exist only from opset 22 on, which ONNX Runtime 1.20 still refuses.
LIMITS = {"fp32": (20, 9), "fp16": (20, 9), "bf16": (22, 10)}

# The part of TensorRT's operator table (onnx-tensorrt 10.1, docs/operators.md; later versions add to it) that these graphs
# use. All take FP32, FP16 and BF16 where they take floats.
TENSORRT = frozenset({
    "Add", "Cast", "Clip", "Concat", "Constant", "Conv", "Cos", "Div", "Equal", "Erf", "Expand",
    "Gather", "GatherElements", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "GridSample", "Identity", "LayerNormalization", "Less",
    "LessOrEqual", "Log", "MatMul", "Max", "MaxPool", "Mul", "Neg", "Pad", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape",
    "Resize", "Shape", "Sigmoid", "Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "TopK", "Transpose",
    "Unsqueeze", "Where"})
# Operators of ONNX Runtime itself that the forms for its CPU provider may use: 1.18 has kernels for them.
RUNTIME_OPERATORS = {("com.microsoft", "MultiHeadAttention"), ("com.microsoft", "RotaryEmbedding")}
# Inputs that the table wants as constants: operator -> positions.
CONSTANT_INPUTS = {"Conv": (1,), "Pad": (3,), "Slice": (3,), "Squeeze": (1,), "Unsqueeze": (1,)}
# Run in the process of an old runtime: graph files and inputs from a JSON list, outputs into an npz file each.
_LOADER = """
import json, sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.intra_op_num_threads = 1
print(json.dumps(onnxruntime.__version__))
for task in json.load(open(sys.argv[1])):
    try:
        session = onnxruntime.InferenceSession(task["file"], options, providers=["CPUExecutionProvider"])
        if task["inputs"]:
            names = [o.name for o in session.get_outputs()]
            numpy.savez(task["outputs"], **dict(zip(names, session.run(None, dict(numpy.load(task["inputs"]))))))
        print(json.dumps("ok"))
    except Exception as error:
        print(json.dumps(" ".join(str(error).split())))
"""


def faults(model: onnx.ModelProto, kind: str) -> list[str]:
    """What the limits and TensorRT's table do not allow in one graph, or else what would not run on a GPU; empty if nothing."""
    return _beyond_limits(model, kind) or [*placement.boolean_faults(model), *placement.transposed_faults(model)]


def _beyond_limits(model: onnx.ModelProto, kind: str) -> list[str]:
    found = []
    opset, ir = LIMITS["fp32" if kind == "cpu" else kind]
    versions = {o.domain: o.version for o in model.opset_import}
    if kind == "cpu":       # only ONNX Runtime's CPU provider gets it
        found += [f"{n.name}: operator {n.domain}.{n.op_type}, which ONNX Runtime 1.18 has not" for n in model.graph.node
                  if n.domain and (n.domain, n.op_type) not in RUNTIME_OPERATORS]
        return found + [f"opset {versions['']}, at most {opset}"] * (versions.get("", 0) > opset)
    if list(versions) != [""]:
        found.append(f"operator sets {sorted(versions)}: only ONNX's own is allowed")
    if versions.get("", 0) > opset:
        found.append(f"opset {versions['']}, at most {opset}")
    if model.ir_version > ir:
        found.append(f"IR version {model.ir_version}, at most {ir}")
    constants = {t.name for t in model.graph.initializer} | {
        o for n in model.graph.node if n.op_type == "Constant" for o in n.output}
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.domain:
            found.append(f"{node.name}: custom operator {node.domain}.{node.op_type}")
        elif node.op_type not in TENSORRT:
            found.append(f"{node.name}: {node.op_type} is not in the list for TensorRT")
        if node.op_type == "Resize" and (attributes.get("mode", b"nearest") not in (b"nearest", b"linear")
                                         or attributes.get("antialias", 0)):
            found.append(f"{node.name}: Resize with mode {attributes.get('mode')} or antialiasing")
        for i in CONSTANT_INPUTS.get(node.op_type, ()):
            if i < len(node.input) and node.input[i] and node.input[i] not in constants:
                found.append(f"{node.name}: input {i} of {node.op_type} is not a constant")
        if node.op_type == "LayerNormalization" and len(node.output) > 1:
            found.append(f"{node.name}: a second output of LayerNormalization")
    return found


def inputs_for(graph: dict, objects: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of the shapes that a manifest declares, with flags and labels that mean something."""
    rng = np.random.default_rng(seed)
    values: dict[str, np.ndarray] = {}
    for port in graph["inputs"]:
        shape = [n if isinstance(n, int) else objects for n in port["shape"]]
        if port["dtype"] == "i32":
            values[port["name"]] = np.tile(np.array([1, -10, -10, -10], np.int32)[:shape[1]], (shape[0], 1))
        elif port["name"] in ("has_mask", "is_prompt"):
            values[port["name"]] = np.zeros(shape, np.float32)
        elif port["name"] == "multimask":
            values[port["name"]] = np.ones(shape, np.float32)
        elif port["name"] == "age":
            values[port["name"]] = np.full(shape, 5, np.float32)
        elif port["name"] == "mask":
            values[port["name"]] = (rng.random(shape) > 0.5).astype(np.float32)
        else:
            values[port["name"]] = rng.standard_normal(shape, np.float32)
    return values


def _gap(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], rounded: bool) -> tuple[float, float]:
    """Largest difference of the outputs, relative to the largest value of the output: (all but a rounded memory bank, that
    bank). A bank of bfloat16 values differs by a whole step, 1/256, where a value lies between two of them."""
    gaps = {n: float(np.abs(found[n].astype(np.float64) - w).max() / max(np.abs(w).max(), 1e-30)) for n, w in wanted.items()}
    bank = gaps.pop("bank_out", 0.0) if rounded else 0.0
    return max(gaps.values()), bank


def with_cpu_form(about: dict) -> list[dict]:
    """The graphs of a manifest that have a form for the CPU provider."""
    return [graph for graph in about["graph"] if "cpu" in graph]


def try_runtime(folder: Path | None, root: Path, about: dict, work: Path) -> tuple[str, dict[str, list[str]]]:
    """(version, precision -> answers in the order of the graphs). ``folder``: where ``pip install --target`` put the
    runtime; None for the installed one. Outputs of the fp32 graphs lie in ``work``/VERSION_GRAPH.npz afterwards."""
    label = folder.name if folder else "installed"
    tasks = []
    for kind in DTYPES:
        for graph in about["graph"]:
            if kind in graph["files"]:
                given = str(work / f"{graph['name']}.npz") if kind == "fp32" else ""
                tasks.append({"file": str(root / graph["files"][kind]), "inputs": given,
                              "outputs": str(work / f"{label}_{graph['name']}.npz"), "kind": kind})
    tasks += [{"file": str(root / graph["cpu"]["file"]), "inputs": str(work / f"{graph['name']}.npz"),
               "outputs": str(work / f"{label}_{graph['name']}.cpu.npz"), "kind": "cpu"} for graph in with_cpu_form(about)]
    (work / "tasks.json").write_text(json.dumps(tasks))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if folder:
        environment["PYTHONPATH"] = str(folder.resolve())
    ran = subprocess.run([sys.executable, "-c", _LOADER, str(work / "tasks.json")], env=environment, text=True,
                         capture_output=True, check=False)
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('"')]
    if ran.returncode or len(lines) != len(tasks) + 1:
        raise RuntimeError(f"{label}: the runtime ended with {ran.returncode} after {max(len(lines) - 1, 0)} of {len(tasks)} "
                           f"graphs: {' '.join(ran.stderr.split())[-400:]}")
    answers: dict[str, list[str]] = {}
    for task, answer in zip(tasks, lines[1:]):
        answers.setdefault(task["kind"], []).append(answer)
    return lines[0], answers


def main(argv: list[str]) -> int:
    options = parser("check", __doc__)
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument("--pack", type=existing_pack)
    which.add_argument("--tensorrt", type=existing_pack, nargs="+", metavar="PACK", help="build the packs' graphs with NVIDIA's compiler")
    options.add_argument("--runtime", type=existing_folder, action="append", default=[], metavar="DIR",
                        help="folder with another onnxruntime, from pip install --target; may be repeated")
    tensorrt.add_arguments(options)
    args = options.parse_args(argv)
    if args.tensorrt:
        if args.runtime:
            options.error("--runtime goes with --pack, not with --tensorrt")
        return tensorrt.check(args.tensorrt, args)
    if tensorrt.given(args):
        options.error(f"{' '.join(tensorrt.given(args))} goes with --tensorrt, not with --pack")
    about = tomllib.loads((args.pack / "pack.toml").read_text(encoding="utf-8"))
    bad = False
    for kind in DTYPES:
        operators: Counter[str] = Counter()
        since: list[str] = []
        opsets: set[int] = set()
        for graph in about["graph"]:
            if kind not in graph["files"]:
                continue
            path = args.pack / graph["files"][kind]
            model = onnx.load(path)
            for fault in faults(model, kind):
                bad = True
                print(f"FAULT {path.relative_to(args.pack)}: {fault}")
            half.check(model)
            if (first := kernels.first_release(model)) is None:
                bad = True
                print(f"FAULT {path.relative_to(args.pack)}: ONNX Runtime {kernels.RELEASES[-1]} has no CUDA kernel for "
                      + ", ".join(kernels.missing(model, kernels.RELEASES[-1])))
            since.append(first or "")
            opsets.add(model.opset_import[0].version)
            operators.update(n.op_type for n in model.graph.node)
        if operators:
            if all(since):
                print(f"{kind}: CUDA kernels for every node from ONNX Runtime {max(since, key=kernels.RELEASES.index)} on, by its lists")
            print(f"{kind}: opset {', '.join(map(str, sorted(opsets)))}, IR {model.ir_version}, {sum(operators.values())} operators of "
                  f"{len(operators)} kinds: {' '.join(sorted(operators))}")
    for graph in with_cpu_form(about):
        model = onnx.load(args.pack / graph["cpu"]["file"])
        found = faults(model, "cpu")
        bad |= bool(found)
        own = sum(bool(n.domain) for n in model.graph.node)
        print("\n".join(f"FAULT {graph['cpu']['file']}: {fault}" for fault in found) or
              f"cpu: {graph['cpu']['file']}, {len(model.graph.node)} operators, {own} of them ONNX Runtime's own")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for graph in about["graph"]:
            np.savez(work / f"{graph['name']}.npz", allow_pickle=False, **inputs_for(graph, objects=2))
        if args.runtime:
            newest, _ = try_runtime(None, args.pack, about, work)
        for folder in args.runtime:
            version, answers = try_runtime(folder, args.pack, about, work)
            for kind, row in answers.items():
                loaded = row.count("ok")
                text = f"ONNX Runtime {version}, {kind}: {loaded} of {len(row)} graphs load"
                if kind in ("fp32", "cpu") and loaded == len(row):
                    # forms for the CPU are held against the plain graphs in the installed runtime
                    graphs, form = (about["graph"], "") if kind == "fp32" else (with_cpu_form(about), ".cpu")
                    rounded = about["memory"]["storage"] == "bf16_rounded"
                    plain, bank = (max(pair) for pair in zip(*(
                        _gap(dict(np.load(work / f"{folder.name}_{g['name']}{form}.npz")),
                             dict(np.load(work / f"installed_{g['name']}.npz")), rounded) for g in graphs)))
                    text += f" and run with two objects; largest relative difference from {newest} is {plain:.1e}"
                    text += f", of the bfloat16-rounded bank {bank:.1e}" if rounded else ""
                    bad |= plain > 1e-3 or bank > 2.0 ** -8
                if loaded < len(row):
                    refusals = {a if len(a) < 180 else "…" + a[-180:] for a in row if a != "ok"}
                    text += ": " + "; ".join(sorted(refusals))
                    bad |= kind != "bf16"      # no CPU has bfloat16 kernels, and opset 22 is younger than the oldest runtimes
                print(text)
    print("check: " + ("FAIL" if bad else "pass"))
    return int(bad)
