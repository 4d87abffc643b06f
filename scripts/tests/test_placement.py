"""Tests that no node of a shipped graph leaves the device, and that each fault is seen."""
from __future__ import annotations

import importlib.util
import unittest
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from jetbench_models.check import kernels, placement

torch = None
if importlib.util.find_spec("torch"):
    import torch

    from jetbench_models.export import convert, gaps
    from jetbench_models.export.graphs import geometry, layers, signatures
    from jetbench_models.models import miniature

PACKS = Path(__file__).parents[2] / "assets" / "packs"
GRAPHS = sorted(PACKS.glob("*/*/*.onnx"))


def model(*nodes: onnx.NodeProto, output: int = TensorProto.FLOAT, weights: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """Inputs a, b [2], output y [2]."""
    value = lambda name, kind: helper.make_tensor_value_info(name, kind, [2])
    return helper.make_model(helper.make_graph(
        list(nodes), "g", [value("a", TensorProto.FLOAT), value("b", TensorProto.FLOAT)], [value("y", output)],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def node(op: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=outputs, **attributes)


GREATER, WHERE = node("Greater", "a b", "c"), node("Where", "c a b", "y")


class Booleans(unittest.TestCase):
    def test_the_shipped_graphs_have_none_beside_conditions(self):
        self.assertEqual(len(GRAPHS), 42)
        seen = 0
        for path in GRAPHS:
            graph = onnx.load(path)
            seen += sum(n.op_type in placement.COMPARISONS for n in graph.graph.node)
            self.assertEqual(placement.boolean_faults(graph), [], path)
            self.assertEqual(placement.transposed_faults(graph), [], path)
        self.assertGreater(seen, 100)

    def test_a_comparison_that_where_reads_is_allowed(self):
        self.assertEqual(placement.boolean_faults(model(GREATER, WHERE)), [])

    def test_each_fault_is_named(self):
        cases = {
            "c: input 0 of Cast": model(GREATER, node("Cast", "c", "y", to=TensorProto.FLOAT)),
            "d: Not makes a boolean": model(GREATER, node("Not", "c", "d"), node("Where", "d a b", "y")),
            "d: input 0 of Not": model(GREATER, node("Not", "c", "d"), node("Where", "d a b", "y")),
            "k is a boolean constant": model(node("Where", "k a b", "y"), weights={"k": np.array([True, False])}),
            "c is a boolean output": model(GREATER, output=TensorProto.BOOL),
        }
        cases["c is a boolean output"].graph.output[0].name = "c"
        for text, graph in cases.items():
            self.assertIn(text.split(":")[-1].strip(), " ".join(placement.boolean_faults(graph)), text)

    def test_inner_graphs_are_walked(self):
        branch = helper.make_graph([node("Not", "c", "d"), node("Where", "d a b", "e")], "inner", [],
                                   [helper.make_tensor_value_info("e", TensorProto.FLOAT, [2])])
        other = helper.make_graph([node("Identity", "a", "f")], "other", [],
                                  [helper.make_tensor_value_info("f", TensorProto.FLOAT, [2])])
        graph = model(GREATER, node("Slice", "c k0 k1", "s"), node("Squeeze", "s", "one"),
                      node("If", "one", "y", then_branch=branch, else_branch=other),
                      weights={"k0": np.array([0]), "k1": np.array([1])})
        text = " ".join(placement.boolean_faults(graph))
        self.assertIn("Not makes a boolean", text)
        self.assertIn("input 0 of If", text)

    def test_transposed_convolutions_are_seen(self):
        graph = model(node("ConvTranspose", "a w", "y"), weights={"w": np.ones((1, 1, 2), np.float32)})
        self.assertEqual(len(placement.transposed_faults(graph)), 1)


class Kernels(unittest.TestCase):
    def test_no_node_of_a_shipped_graph_leaves_cuda(self):
        """By the published lists: fp32 and fp16 from 1.18 on, bf16 from 1.24 on, the release that has its convolutions; the
        detector's from the list that has GridSample for their operator set."""
        seen = 0
        for path in GRAPHS:
            if path.suffixes == [".onnx"]:
                graph = onnx.load(path)
                convolutions = any(n.op_type == "Conv" for n in graph.graph.node)
                samples = any(n.op_type == "GridSample" for n in graph.graph.node)
                newest = "1.31" if samples else "1.24"
                wanted = newest if path.parent.name == "bf16" and convolutions else "1.18"
                self.assertEqual(kernels.first_release(graph), wanted, f"{path}: {kernels.missing(graph, wanted)}")
                seen += 1
        self.assertEqual(seen, 40)

    def test_an_open_kernel_serves_its_own_version_only(self):
        self.assertTrue(kernels.has_kernel("Pad", 18, TensorProto.FLOAT, "1.20"))
        self.assertFalse(kernels.has_kernel("Pad", 19, TensorProto.FLOAT, "1.24"))
        self.assertTrue(kernels.has_kernel("Cast", 21, TensorProto.FLOAT, "1.24"))
        self.assertFalse(kernels.has_kernel("Cast", 21, TensorProto.FLOAT, "1.22"))
        self.assertFalse(kernels.has_kernel("Conv", 11, TensorProto.BFLOAT16, "1.24"))
        self.assertFalse(kernels.has_kernel("NonMaxSuppression", 11, TensorProto.FLOAT, "1.24"))

    def test_what_is_missing_is_named(self):
        graph = model(node("Equal", "a b", "c"), WHERE)
        self.assertEqual(kernels.missing(graph, "1.24"), ["Equal (version 19) in float"])
        self.assertIsNone(kernels.first_release(graph))
        graph.opset_import[0].version = 18
        self.assertEqual(kernels.first_release(graph), "1.18")

    def test_what_depends_on_no_input_needs_no_kernel(self):
        graph = model(node("Equal", "k k", "c"), WHERE, weights={"k": np.zeros(2, np.float32)})
        self.assertEqual(kernels.missing(graph, "1.18"), [])


@unittest.skipIf(torch is None, "torch is not installed")
class Gaps(unittest.TestCase):
    def closed(self, made: onnx.NodeProto, shape: list[int], weights: dict[str, np.ndarray], step: float = 0) -> list[str]:
        """Replaces the operator, shows that the result is the same, and gives the operators that stand there now."""
        value = lambda name, sizes: helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
        plain = helper.make_model(helper.make_graph([made], "g", [value("x", shape)], [value("y", None)], [
            numpy_helper.from_array(array, name) for name, array in weights.items()]), opset_imports=[helper.make_opsetid("", 22)],
            ir_version=10)
        other = onnx.ModelProto()
        other.CopyFrom(plain)
        gaps.close(other)
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        x = np.round(8 * x) * np.float32(step) if step else x
        results = [ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
                   for m in (plain, other)]
        np.testing.assert_array_equal(*results)
        return [n.op_type for n in other.graph.node]

    def test_the_same_values(self):
        pads = {"p": np.array([0, 1, 0, 0, 0, 2, 3, 0])}
        self.assertEqual(self.closed(node("Pad", "x p", "y"), [1, 4, 5, 6], pads)[-1], "Concat")
        pool = node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[2, 2])
        self.assertEqual(self.closed(pool, [2, 3, 4, 6], {})[-1], "Max")
        nearest = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        resize = helper.make_node("Resize", ["x", "", "s"], ["y"], name="y", **nearest)
        self.assertEqual(self.closed(resize, [1, 3, 4, 5], {"s": np.array([1, 1, 2, 2], np.float32)}), ["Reshape", "Expand", "Reshape"])

        linear = helper.make_node("Resize", ["x", "", "s"], ["y"], name="y", mode="linear", coordinate_transformation_mode="half_pixel")
        for shape in ([1, 1, 4, 5], [3, 2, 2, 7]):
            self.assertEqual(self.closed(linear, shape, {"s": np.array([1, 1, 4, 4], np.float32)}, step=1.25)[-1], "Reshape")

    def test_graphs_that_follow_the_official_code_are_written_in_bfloat16_too(self):
        """They are what official checkpoints become by default."""
        for architecture in miniature.ARCHITECTURES:
            model = convert.fuse(miniature.build(architecture, 256).eval())
            wanted = signatures.signatures(geometry.Geometry.of(model), official=True)["mask_prompt"]     # whose operators differ
            graph = convert.in_precision(convert.export_graph(model, "mask_prompt", wanted), "bf16")
            self.assertEqual(kernels.missing(graph, "1.24"), [])

    def test_others_are_refused(self):
        cases = [(node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2]), "2 x 2"),
                 (node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1]), "2 x 2"),
                 (node("ReduceMax", "x", "y"), "one axis"),
                 (node("Pad", "x p", "y", mode="edge"), "zeros"),
                 (helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear"), "nearest")]
        for made, text in cases:
            with self.assertRaisesRegex(ValueError, text):
                self.closed(made, [1, 2, 4, 4], {"p": np.array([0, 0, 0, 0, 0, 0, 1, 1]), "s": np.array([1, 1, 2, 2], np.float32)})


@unittest.skipIf(torch is None, "torch is not installed")
class Layers(unittest.TestCase):
    def test_doubled_is_the_transposed_convolution(self):
        torch.manual_seed(0)
        plain = torch.nn.ConvTranspose2d(6, 5, 2, 2)
        maps = torch.randn(3, 6, 4, 7)
        found = layers.Doubled(plain)(maps.permute(0, 2, 3, 1)) + plain.bias
        torch.testing.assert_close(found.permute(0, 3, 1, 2), plain(maps))

    def test_doubled_refuses_other_convolutions(self):
        for changed in (dict(kernel_size=3), dict(stride=1), dict(padding=1), dict(groups=2)):
            with self.assertRaisesRegex(ValueError, "two pixels"):
                layers.Doubled(torch.nn.ConvTranspose2d(4, 4, **{"kernel_size": 2, "stride": 2, **changed}))

    def test_rounding_is_that_of_a_cast(self):
        """Every mantissa, in four binades and both signs: ties go to even."""
        for exponent in (1, 100, 127, 237):
            bits = torch.arange(1 << 23, dtype=torch.int32) | exponent << 23
            for values in (bits.view(torch.float32), -bits.view(torch.float32)):
                self.assertTrue(torch.equal(layers.as_bfloat16(values), values.to(torch.bfloat16).float()), exponent)
        self.assertEqual(str(layers.as_bfloat16(torch.tensor([0.0, -0.0, torch.nan])).tolist()), "[0.0, -0.0, nan]")


if __name__ == "__main__":
    unittest.main()
