"""Weights that a CPU form takes out of the plain graph's file."""
from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from jetbench_models.export.borrowed import borrow


def model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[int]) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(v, n) for n, v in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


class Borrowed(unittest.TestCase):
    def test_what_both_have_lies_in_one_file_and_computes_the_same(self) -> None:
        rng = np.random.default_rng(0)
        first, second, third, other = (rng.standard_normal((64, 64), np.float32) for _ in range(4))
        plain = model([helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["i"]),
                       helper.make_node("Gemm", ["i", "c"], ["y"], transB=1)], dict(a=first, b=second, c=third), [1, 64])
        weights = {"p": first.T.copy(), "q": other, "r": third}
        form = model([helper.make_node("Conv", ["x", "p"], ["h"]), helper.make_node("Conv", ["h", "q"], ["i"]),
                      helper.make_node("Conv", ["i", "r"], ["y"])],
                     {**{name: value.reshape(64, 64, 1, 1) for name, value in weights.items()}, "unused": second[:8, :8].copy()},
                     [1, 64, 1, 1])
        x = rng.standard_normal((1, 64, 1, 1), np.float32)
        with tempfile.TemporaryDirectory() as folder:
            file, path = Path(folder) / "g.onnx", Path(folder) / "g.cpu.onnx"
            file.write_bytes(plain.SerializeToString(deterministic=True))
            wanted = ort.InferenceSession(form.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
            before = len(form.SerializeToString())
            self.assertEqual(borrow(form, file), first.nbytes + third.nbytes)
            path.write_bytes(form.SerializeToString(deterministic=True))
            self.assertLess(path.stat().st_size, before - first.nbytes - third.nbytes + 400)
            kept = {t.name: t.data_location for t in form.graph.initializer}
            self.assertEqual(kept, {"p_plain": TensorProto.EXTERNAL, "q": TensorProto.DEFAULT, "r": TensorProto.EXTERNAL,
                                    "unused": TensorProto.DEFAULT})
            found = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
            self.assertTrue(np.array_equal(found, wanted))
            again = onnx.load(path)                             # with what lies in the other file
            self.assertTrue(np.array_equal(numpy_helper.to_array(again.graph.initializer[0])[:, :, 0, 0], first))


if __name__ == "__main__":
    unittest.main()
