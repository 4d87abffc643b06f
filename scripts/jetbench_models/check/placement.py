"""Which nodes of a graph would not run on a GPU? Read from the file, with no device.

Booleans: WebGPU has them in comparisons and in the condition of Where, and puts every other operator that reads or makes
one on the CPU. ConvTranspose: NVIDIA's compiler has none in bfloat16.
"""
from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all that lie in attributes of its nodes (bodies of If, Loop, Scan)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.type == AttributeProto.GRAPH else []), *attribute.graphs):
                yield from graphs_of(inner)


def nodes_of(graph: GraphProto) -> Iterator[NodeProto]:
    """All nodes, those of inner graphs too."""
    for part in graphs_of(graph):
        yield from part.node


def types_of(model: ModelProto) -> dict[str, int]:
    """Element type of every value, inner graphs' too, by ONNX's own inference. Names are taken to be unique in a model.

    Inference ends at the operators of ONNX Runtime that forms for the CPU have. What follows them gets the type of its first
    input, which tells at least whether it is boolean.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    types: dict[str, int] = {}
    for graph in graphs_of(inferred.graph):
        types.update({value.name: value.type.tensor_type.elem_type
                      for value in (*graph.input, *graph.output, *graph.value_info)})
        types.update({tensor.name: tensor.data_type for tensor in graph.initializer})
    for node in nodes_of(model.graph):
        known = next((types[name] for name in node.input if types.get(name)), 0)
        if node.op_type == "Cast":
            known = next(a.i for a in node.attribute if a.name == "to")
        elif node.op_type in COMPARISONS:
            known = TensorProto.BOOL
        for name in node.output:
            if name and not types.get(name):
                types[name] = known
    return types


def boolean_faults(model: ModelProto) -> list[str]:
    """Boolean values that are not comparisons read by conditions of Where alone, and values whose type cannot be told."""
    types = types_of(model)
    graphs = list(graphs_of(model.graph))
    ends = {value.name for graph in graphs for value in graph.output}
    made_by = {output: node for node in nodes_of(model.graph) for output in node.output if output}
    readers: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in nodes_of(model.graph):
        for i, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, i))
    found = [f"{node.name}: the type of {name} is not known" for name, node in made_by.items() if not types.get(name)]
    for name in (name for name, kind in types.items() if kind == TensorProto.BOOL):
        maker = made_by.get(name)
        if maker is None:
            found.append(f"{name} is a boolean constant or input")
        elif maker.op_type not in COMPARISONS:
            found.append(f"{maker.name}: {maker.op_type} makes a boolean")
        if name in ends:
            found.append(f"{name} is a boolean output")
        found += [f"{reader.name}: input {i} of {reader.op_type} is the boolean {name}" for reader, i in readers.get(name, [])
                  if (reader.op_type, i) != ("Where", 0)]
    return found


def transposed_faults(model: ModelProto) -> list[str]:
    """Transposed convolutions."""
    return [f"{node.name}: ConvTranspose, which NVIDIA's compiler has not in bfloat16" for node in nodes_of(model.graph)
            if node.op_type == "ConvTranspose"]
