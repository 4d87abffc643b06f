"""Half-precision versions of the fp32 graphs, with the numerics of torch.autocast, and their emulation on a CPU.

Native graphs are strongly typed: operands and results of MatMul, Gemm and Conv are float16 or bfloat16 (weights and biases
are stored so), a Cast stands before each activation operand and after each result, everything else stays
fp32. Inputs and outputs stay fp32, so that the tracking loop is the same for every data type.

A CPU has no kernels for such graphs (ONNX Runtime refuses bfloat16 and computes float16 without rounding the operands).
``emulate`` rewrites a native graph so that it runs there with the same operands: every half-typed operand is cast up, the
operator accumulates in fp32, its result is rounded by a Cast. The Rust runner applies the same rule when it loads a pack.
"""
from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# ConvTranspose is in other people's graphs only: see graphs.layers.Doubled.
HALF_OPERATORS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
HALF_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
OPSET, BF16_CONV_OPSET = 18, 22       # 18 is the last that ONNX Runtime's CUDA provider has whole; Conv takes bfloat16 from 22 on
IR_VERSION = {"fp32": 9, "fp16": 9, "bf16": 10}
FP16_MAX = 65504.0
# What the half precisions change and what they leave, for readers of a pack; to_half does it.
RULES = (
    "fp16 and bf16 graphs have the numerics of torch.autocast. Operands and results of MatMul, Gemm and Conv are half precision:",
    "they hold nearly all of the arithmetic, and a device sums their products in fp32. All else stays fp32:",
    "- Softmax: its exponentials span more than half precision resolves, and the -1e4 of keys that do not exist must give",
    "  exactly zero; LayerNormalization: sums of squares over a row, which overflow fp16;",
    "- Sin, Cos and the coordinates of prompts: bf16 would move a click by pixels; positions and rotary embedding likewise;",
    "- residual sums, Gelu, Sigmoid: cheap, and errors there accumulate from layer to layer;",
    "- choices (best mask, stability, presence) and the memory state: a flip is a jump in the output, and state is kept for frames;",
    "- whatever depends on no input, such as position tables: it is computed once, when the graph is loaded;",
    "- inputs and outputs of every graph, so that the tracking loop is the same in every precision.",
)


def bf16_bits(x: np.ndarray) -> np.ndarray:
    """float32 -> bfloat16 bit patterns (uint16), round to nearest, ties to even. Finite input only."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def half_tensor(name: str, value: np.ndarray, precision: str) -> TensorProto:
    """Initializer of the given precision from float32 values."""
    if not np.isfinite(value).all():
        raise ValueError(f"{name}: weights are not finite")
    if precision == "fp16":
        if np.abs(value).max(initial=0.0) > FP16_MAX:
            raise ValueError(f"{name}: a weight is larger than float16 can hold ({FP16_MAX})")
        return numpy_helper.from_array(value.astype(np.float16), name)
    return helper.make_tensor(name, TensorProto.BFLOAT16, value.shape, bf16_bits(value).tobytes(), raw=True)


def last_products(graph: onnx.GraphProto, outputs: tuple[str, ...]) -> frozenset[str]:
    """First outputs of the products from which these outputs of the graph come without another product between."""
    makers = {name: node for node in graph.node for name in node.output}
    found, asked, seen = set(), list(outputs), set()
    while asked:
        name = asked.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in HALF_OPERATORS:
            found.add(node.output[0])
        else:
            asked.extend(node.input)
    return frozenset(found)


def to_half(model: onnx.ModelProto, precision: str, kept: frozenset[str] = frozenset()) -> onnx.ModelProto:
    """Native fp16 or bf16 graph from an fp32 graph whose constants are initializers. ``kept``: first outputs of products that stay
    fp32."""
    half = HALF_TYPES[precision]
    out = onnx.ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    weights = {t.name: t for t in graph.initializer}
    ready: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    stored: list[TensorProto] = []
    varying = {port.name for port in graph.input}      # values that depend on an input
    for node in graph.node:
        constant = varying.isdisjoint(node.input)
        if not constant:
            varying.update(node.output)
        if node.op_type not in HALF_OPERATORS or constant or node.output[0] in kept:
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if not name:
                continue
            if name not in ready:
                ready[name] = f"{name}_{precision}"
                if name in weights:
                    stored.append(half_tensor(ready[name], numpy_helper.to_array(weights[name]), precision))
                else:
                    nodes.append(helper.make_node("Cast", [name], [ready[name]], name=f"c{len(nodes)}", to=half))
            node.input[i] = ready[name]
        result = node.output[0]
        node.output[0] = f"{result}_h"
        nodes.append(node)
        nodes.append(helper.make_node("Cast", [node.output[0]], [result], name=f"c{len(nodes)}", to=TensorProto.FLOAT))
    graph.ClearField("node")
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {o.name for o in graph.output}
    needed = [t for t in [*graph.initializer, *stored] if t.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(needed)
    set_versions(out, precision)
    return out


def set_versions(model: onnx.ModelProto, precision: str) -> None:
    """Opset and IR version of a graph. The operators used mean the same from opset 18 to 22; only types and modes were added, and
    the bilinear mode of GridSample is called linear from 20 on."""
    convolutions = precision == "bf16" and any(n.op_type == "Conv" for n in model.graph.node)
    for attribute in (a for n in model.graph.node if n.op_type == "GridSample" for a in n.attribute if a.name == "mode"):
        if attribute.s in (b"bilinear", b"linear"):
            attribute.s = b"linear" if convolutions else b"bilinear"
    model.ClearField("opset_import")
    model.opset_import.append(helper.make_opsetid("", BF16_CONV_OPSET if convolutions else OPSET))
    model.ir_version = IR_VERSION[precision]


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """The CPU form of a native half graph: half operands cast to fp32, fp32 operator, result cast back to half.

    Products that depend on no input are fp32 in a native graph too (see ``to_half``) and stay as they are.
    """
    out = onnx.ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    nodes: list[onnx.NodeProto] = []
    raised: dict[str, str] = {}
    kinds = {t.name: t.data_type for t in graph.initializer if t.data_type in HALF_TYPES.values()}     # of half values
    for node in graph.node:
        if node.op_type == "Cast":
            kinds[node.output[0]] = next(a.i for a in node.attribute if a.name == "to")
        half = next((kinds[n] for n in node.input if kinds.get(n) in HALF_TYPES.values()), None)
        if node.op_type not in HALF_OPERATORS or half is None:
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if not name:
                continue
            if name not in raised:
                raised[name] = f"{name}_raised"
                nodes.append(helper.make_node("Cast", [name], [raised[name]], name=raised[name], to=TensorProto.FLOAT))
            node.input[i] = raised[name]
        result = node.output[0]
        node.output[0] = f"{result}_accumulated"
        nodes.append(node)
        nodes.append(helper.make_node("Cast", [node.output[0]], [result], name=f"{result}_rounded", to=half))
    graph.ClearField("node")
    graph.node.extend(nodes)
    return out


def check(model: onnx.ModelProto) -> None:
    """onnx's own checks with strict type and shape inference; raises on the first fault."""
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
