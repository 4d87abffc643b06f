"""Tests of int8 graphs: their form, what is computed in int8, which products stay, and how a manifest says it."""
from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from jetbench_models.clips.prompts import derive
from jetbench_models.command import Refused
from jetbench_models.export import int8 as command
from jetbench_models.pack import int8, limits
from jetbench_models.pack.loop import Pack, run_clip, upsample

PACKS = Path(__file__).parents[2] / "assets" / "packs"
IMAGE = np.random.default_rng(6).standard_normal((1, 4, 6, 6)).astype(np.float32)
# Kernels that compute in int8, as ONNX Runtime's optimiser names them.
NATIVE = {"QLinearConv", "QGemm", "MatMulIntegerToFloat"}


def graph() -> onnx.ModelProto:
    """x [1,4,6,6] -> Conv with a bias, twice from one value -> a sum -> rows -> MatMul and a bias -> Gemm -> product of two activations."""
    rng = np.random.default_rng(5)
    arrays = {"w": (8, 4, 3, 3), "b": (8,), "w2": (8, 4, 3, 3), "m": (8, 5), "n": (5,), "g": (3, 5), "h": (3,)}
    weights = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name) for name, shape in arrays.items()]
    weights += [numpy_helper.from_array(np.array([36, 8]), "rows"), numpy_helper.from_array(np.ones((2, 2), np.float32), "ones")]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
             helper.make_node("Conv", ["x", "w2"], ["d"], pads=[1, 1, 1, 1]), helper.make_node("Add", ["c", "d"], ["cd"]),
             helper.make_node("Transpose", ["cd"], ["t"], perm=[0, 2, 3, 1]), helper.make_node("Reshape", ["t", "rows"], ["r"]),
             helper.make_node("MatMul", ["r", "m"], ["mm"]), helper.make_node("Add", ["mm", "n"], ["mn"]),
             helper.make_node("Gemm", ["mn", "g", "h"], ["gg"], transB=1), helper.make_node("Transpose", ["gg"], ["gt"], perm=[1, 0]),
             helper.make_node("MatMul", ["gt", "gg"], ["y"]), helper.make_node("MatMul", ["ones", "ones"], ["unused"])]
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    return helper.make_model(helper.make_graph(nodes, "g", [value("x", [1, 4, 6, 6])], [value("y", [3, 3])], weights),
                             opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def loaded(model: onnx.ModelProto, without: tuple[str, ...] = (), file: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if file:
        options.optimized_model_filepath = str(file)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without))


def ends(model: onnx.ModelProto, x: np.ndarray) -> dict[str, float]:
    session = loaded(int8.watched(model))
    values = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x})))
    return {name.removesuffix(int8.MOST): float(value[0]) for name, value in values.items() if name.endswith(int8.MOST)}


class Form(unittest.TestCase):
    def setUp(self):
        self.model, self.x = graph(), IMAGE
        self.ends = ends(self.model, self.x)
        self.all = [p.result for p in int8.products(self.model)[0].values()]

    def error(self, model: onnx.ModelProto) -> float:
        (wanted,), (found,) = (loaded(m).run(["y"], {"x": self.x}) for m in (self.model, model))
        return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))

    def test_products_with_stored_weights_are_candidates_and_all_that_depend_on_an_input_are_counted(self):
        found, count = int8.products(self.model)
        self.assertEqual(([p.result for p in found.values()], count), (["c", "d", "mm", "gg"], 5))

    def test_weights_have_a_scale_per_output_channel_and_zeros_do_no_harm(self):
        weight = np.random.default_rng(7).standard_normal((6, 3)).astype(np.float32) * np.array([1, 100, 0], np.float32)
        value, scales = int8.quantised(weight, 1)
        self.assertEqual((value.dtype, scales.shape, np.abs(value).max(0).tolist()), (np.int8, (3,), [127, 127, 0]))
        self.assertLessEqual(float(np.abs(value * scales - weight).max()), 0.5 * float(scales.max()) + 1e-6)

    def test_every_zero_point_is_a_zero_of_int8_and_no_constant_is_int32(self):
        quantised = int8.to_int8(self.model, self.ends, self.all)
        onnx.checker.check_model(quantised, full_check=True)
        constants = {t.name: t for t in quantised.graph.initializer}
        steps = [n for n in quantised.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
        self.assertEqual(len(steps), 4 * 2 + 2 * 2 + 4)             # operands, results of Conv, weights
        for node in steps:
            zero = numpy_helper.to_array(constants[node.input[2]])
            self.assertEqual((zero.dtype, int(np.abs(zero).max())), (np.int8, 0), node.name)
        self.assertNotIn(TensorProto.INT32, {t.data_type for t in constants.values()})
        for name in ("w", "w2", "m", "g"):
            self.assertNotIn(name, constants, "a weight is stored twice")

    def test_the_result_is_near_and_the_cpu_computes_each_product_in_int8(self):
        quantised = int8.to_int8(self.model, self.ends, self.all)
        self.assertTrue(1e-4 < self.error(quantised) < 0.05, self.error(quantised))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "optimised.onnx"
            counts = []
            for without in (int8.HIDING, ()):
                loaded(quantised, without, file)
                counts.append(sum(n.op_type in NATIVE for n in onnx.load(file).graph.node))
        self.assertEqual(counts[0], 4)
        self.assertLess(counts[1], 4, "what hides them hides them no more: HIDING can go")

    def test_only_what_is_chosen_is_quantised(self):
        self.assertIs(int8.to_int8(self.model, self.ends, []), self.model)
        part = int8.to_int8(self.model, self.ends, ["mm"])
        self.assertEqual([n.op_type for n in part.graph.node].count("DequantizeLinear"), 2)
        self.assertLess(self.error(part), self.error(int8.to_int8(self.model, self.ends, self.all)))

    def test_a_range_is_cut_where_that_leaves_less_error(self):
        x = self.x.copy()
        x[0, 0, 0, 0] = 8.0 * float(np.abs(x).max())
        session = loaded(int8.tried(self.model, ends(self.model, x)))
        values = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x})))
        squares = values["x" + int8.ERRORS]
        self.assertEqual(squares.shape, (len(int8.SHARES),))
        step = float(np.abs(x).max()) / 127
        self.assertAlmostEqual(float(squares[0]), float(((np.clip(np.rint(x / step), -128, 127) * step - x) ** 2).sum()), places=3)
        self.assertGreater(float(squares[-1]), 100 * float(squares[0]), "cutting off the large value costs much")


class Choice(unittest.TestCase):
    """Which products of a graph stay fp32."""

    def graph(self, limit: float) -> command.Graph:
        model, x = graph(), IMAGE
        spoilt = ends(model, x)
        spoilt["mn"] *= 40                                           # the range of the Gemm's operand is far too wide
        whole = command.Graph("g", model, frozenset(), spoilt)
        whole.samples = [({"x": x}, {"y": loaded(model).run(["y"], {"x": x})[0]})]
        pack = mock.Mock(session=lambda m: loaded(m, int8.HIDING))
        command.settle(pack, whole, limit)
        return whole

    def test_the_product_that_costs_most_is_given_back(self):
        found = self.graph(0.05)
        self.assertEqual(sorted(found.chosen), ["c", "d", "mm"])
        self.assertTrue(found.errors["y"] <= 0.05 < found.all_errors["y"], found)

    def test_a_graph_that_cannot_stays_fp32_as_a_whole_and_one_that_can_is_left_alone(self):
        none, all_of_it = self.graph(1e-9), self.graph(10.0)
        self.assertTrue(none.whole)
        self.assertEqual(none.errors, {"y": 0.0})
        self.assertEqual(len(all_of_it.chosen), 4)

    def test_of_a_state_only_what_is_new_counts(self):
        expected, found = np.ones(100, np.float32), np.ones(100, np.float32)
        found[0] = 1.5
        session = mock.Mock(get_outputs=lambda: [helper.make_tensor_value_info("s", TensorProto.FLOAT, [100])], run=lambda *_: [found])
        pack = mock.Mock(session=lambda _: session)
        for states, error in ((frozenset(), 0.05), (frozenset("s"), 0.5)):
            one = command.Graph("g", graph(), states, samples=[({}, {"s": expected})])
            self.assertAlmostEqual(command.errors(pack, one, [])["s"], error)


class Manifest(unittest.TestCase):
    TEXT = (PACKS / "edgetam_mini/pack.toml").read_text(encoding="utf-8")

    def files(self, digest: str) -> dict[str, tuple[str, str]]:
        return {g["name"]: (f"int8/{g['name']}.onnx", digest * 64) for g in tomllib.loads(self.TEXT)["graph"]}

    def test_int8_files_are_added_and_replaced_and_nothing_else_changes(self):
        before = tomllib.loads(self.TEXT)
        once = command.with_int8(self.TEXT, self.files("a"), "int8: first.")
        again = command.with_int8(once, self.files("b"), "int8: second.")
        after = tomllib.loads(again)
        self.assertEqual(after["provenance"]["notes"], before["provenance"]["notes"] + " int8: second.")
        for graph_, was in zip(after["graph"], before["graph"]):
            self.assertEqual(graph_["files"].pop("int8"), f"int8/{was['name']}.onnx")
            self.assertEqual(graph_["sha256"].pop("int8"), "b" * 64)
        after["provenance"]["notes"] = before["provenance"]["notes"]
        self.assertEqual(after, before)
        self.assertEqual(again.count(int8.RULES[0]), 1)

    def test_a_manifest_of_another_form_is_refused(self):
        text = self.TEXT.replace('name = "mask_prompt"\nfiles = {', 'name = "mask_prompt"\nfiles={', 1)
        with self.assertRaisesRegex(Refused, "int8 cannot be added"):
            command.with_int8(text, self.files("a"), "int8: n.")

    def test_limits_follow_what_was_found_and_refuse_what_proves_nothing(self):
        allowed = limits.int8_limits({"typical": 0.1, "mask_pixels": 0.0, "apart": 0.05})
        self.assertEqual(allowed, {"typical": 0.15, "mask_pixels": 1e-3, "apart": 0.1})
        self.assertEqual(limits.int8_beyond({"typical": 0.5, "mask_pixels": 2e-2, "apart": 0.4}), "")
        self.assertIn("typical 0.6", limits.int8_beyond({"typical": 0.6, "mask_pixels": 2e-2, "apart": 0.4}))


class Memory(unittest.TestCase):
    """What is only looked at is looked at while it is there: else all of it waits for the end of the graph."""

    def order(self, lean: bool) -> list[str]:
        """``w`` for a sum of squared errors, ``p`` for a product, as they ran in a chain of six products."""
        nodes, weights, value = [], [], "x"
        for i in range(6):
            weights.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), f"w{i}"))
            nodes += [helper.make_node("MatMul", [value, f"w{i}"], [f"m{i}"]), helper.make_node("Relu", [f"m{i}"], [f"r{i}"])]
            value = f"r{i}"
        ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4])] for name in ("x", value)]
        model = helper.make_model(helper.make_graph(nodes, "g", *ports, weights), opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        tried = int8.tried(model, dict.fromkeys(["x", *(f"r{i}" for i in range(5))], 1.0))
        pack = Pack(PACKS / "edgetam_mini", plain=True, lean=lean)
        with tempfile.TemporaryDirectory() as folder:
            pack.options.enable_profiling, pack.options.profile_file_prefix = True, f"{folder}/p"
            session = pack.session(tried)
            session.run(None, {"x": np.ones((4, 4), np.float32)})
            events = json.loads(Path(session.end_profiling()).read_text())
        ran = [e["args"]["op_name"] for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
        return ["w" if op == "ReduceSumSquare" else "p" for op in ran if op in ("ReduceSumSquare", "MatMul", "FusedMatMul")]

    def test_a_lean_pack_computes_the_errors_of_a_value_before_the_next_product(self):
        each = ["w"] * len(int8.SHARES) + ["p"]
        self.assertEqual(self.order(True), each * 6)
        self.assertNotEqual(self.order(False), each * 6)


class WholePack(unittest.TestCase):
    """The command on a miniature pack: two short clips, without its reference."""

    def test_a_pack_gets_int8_graphs_that_track(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "edgetam_mini"
            shutil.copytree(PACKS / "edgetam_mini", root, ignore=shutil.ignore_patterns("reference", "*16"))
            said = io.StringIO()
            with mock.patch.object(command, "DRAWN", (("hard", 2),)), contextlib.redirect_stdout(said):
                self.assertEqual(command.main(["--pack", str(root), "--frames", "3", "--limit", "0.3"]), 0)
            about = tomllib.loads((root / "pack.toml").read_text(encoding="utf-8"))
            self.assertIn("| `image_encoder` | 50 of 50 |", said.getvalue())
            self.assertIn("image_encoder 50 of 50", about["provenance"]["notes"])
            self.assertIn("no golden reference", said.getvalue())
            for graph_ in about["graph"]:
                self.assertEqual(graph_["files"]["int8"], f"int8/{graph_['name']}.onnx")
            (clip,) = command.drawn(256, 3)[:1]
            prompt = [derive(clip.objects[0][0], "points")]
            wanted, found = (run_clip(Pack(root, precision, plain=True), clip.frames, prompt)[0] for precision in ("fp32", "int8"))
            parts = {part: np.stack([getattr(f, part) for f in wanted]) for part in ("low_res", "obj_ptr", "object_score")}
            reference = mock.Mock(**parts, masks=np.stack([upsample(f.low_res, 256, 256) > 0 for f in wanted]))
            gap = limits.int8_figures([(reference, found)])
            self.assertTrue(1e-3 < gap["typical"] < 0.3 and gap["apart"] < 0.2, gap)

    def test_what_is_no_tracker_is_refused(self):
        with self.assertRaisesRegex(Refused, "trackers"):
            command.main(["--pack", str(PACKS / "dfine_mini")])


if __name__ == "__main__":
    unittest.main()
