"""``RNN``, ``GRU``, ``LSTM``, ``Scan`` and ``ReverseSequence`` become loops that mean the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mlopsc.errors import UnsupportedOpError
from mlopsc.importer.normalise import normalise
from mlopsc.reference import run_graph

Array = np.ndarray[Any, Any]
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 2


def draw(key: str, *shape: int) -> Array:
    rng = np.random.default_rng(list(key.encode()))
    return rng.uniform(-1.5, 1.5, shape).astype(np.float32)


def recurrent(
    op: str,
    *,
    direction: str = "forward",
    layout: int = 0,
    steps: int = STEPS,
    bias: bool = True,
    initial: bool = False,
    peepholes: bool = False,
    lengths: Array | None = None,
    constant_lengths: bool = False,
    outputs: tuple[int, ...] = (0, 1, 2),
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return a model of one node and its inputs."""
    two = 2 if direction == "bidirectional" else 1
    gates = GATES[op]
    state = (BATCH, two, HIDDEN) if layout else (two, BATCH, HIDDEN)
    x = draw("x", *((BATCH, steps, INPUT) if layout else (steps, BATCH, INPUT)))
    values: dict[str, Array | None] = {
        "x": x,
        "w": draw("w", two, gates * HIDDEN, INPUT),
        "r": draw("r", two, gates * HIDDEN, HIDDEN),
        "b": draw("b", two, 2 * gates * HIDDEN) if bias else None,
        "lengths": lengths,
        "h": draw("h", *state) if initial else None,
    }
    if op == "LSTM":
        values["c"] = draw("c", *state) if initial else None
        values["p"] = draw("p", two, 3 * HIDDEN) if peepholes else None
    number = 3 if op == "LSTM" else 2
    names = [f"y{k}" if k in outputs else "" for k in range(number)]
    node = helper.make_node(
        op,
        [name if value is not None else "" for name, value in values.items()],
        names,
        hidden_size=HIDDEN,
        direction=direction,
        layout=layout,
        **attributes,
    )
    fixed = {"w", "r", "b", "p"} | ({"lengths"} if constant_lengths else set())
    given = {n: v for n, v in values.items() if v is not None and n not in fixed}
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in given.items()
        ],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names if n],
        [numpy_helper.from_array(v, n) for n, v in values.items() if v is not None and n in fixed],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model), given


def same(model: onnx.ModelProto, inputs: dict[str, Array]) -> onnx.GraphProto:
    """Normalise, compare with the original in the reference runtime, return the normal form."""
    done = normalise(model, {})
    wanted = run_graph(model.SerializeToString(), inputs)
    given = run_graph(done.model, inputs)
    assert list(wanted) == list(given)
    for name, array in wanted.items():
        assert given[name].shape == array.shape
        np.testing.assert_allclose(given[name], array, rtol=2e-5, atol=2e-6, err_msg=name)
    return onnx.load_model_from_string(done.model).graph


LENGTHS = np.array([2, 5, 0], np.int32)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("run_time_lengths", [None, True, False])
def test_recurrent_operators(op: str, direction: str, run_time_lengths: bool | None) -> None:
    lengths = None if run_time_lengths is None else LENGTHS
    model, inputs = recurrent(
        op,
        direction=direction,
        initial=True,
        peepholes=True,
        lengths=lengths,
        constant_lengths=run_time_lengths is False,
    )
    graph = same(model, inputs)
    loops = [n for n in graph.node if n.op_type == "Loop"]
    assert len(loops) == (2 if direction == "bidirectional" else 1)
    body = loops[0].attribute[0].g
    assert sum(n.op_type == "MatMul" for n in body.node) == (2 if op == "GRU" else 1)


@pytest.mark.parametrize("op", GATES)
def test_defaults(op: str) -> None:
    same(*recurrent(op, bias=False))


@pytest.mark.parametrize("op", GATES)
def test_one_step_needs_no_loop(op: str) -> None:
    graph = same(*recurrent(op, steps=1, initial=True, direction="bidirectional"))
    assert all(n.op_type != "Loop" for n in graph.node)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("outputs", [(0,), (1,), (0, 1)])
def test_outputs_may_be_left_out(op: str, outputs: tuple[int, ...]) -> None:
    graph = same(*recurrent(op, outputs=outputs))
    (loop,) = [n for n in graph.node if n.op_type == "Loop"]
    assert len(loop.output) == len(loop.input) - 2 + (0 in outputs)


@pytest.mark.parametrize("steps", [2, 500])
def test_size_of_the_graph_does_not_depend_on_the_number_of_steps(steps: int) -> None:
    model, _ = recurrent("LSTM", steps=steps)
    sizes = normalise(model, {}).nodes
    assert sizes == normalise(recurrent("LSTM", steps=7)[0], {}).nodes


def test_all_sequences_of_full_length_need_no_mask() -> None:
    lengths = np.full(BATCH, STEPS, np.int32)
    model, inputs = recurrent("GRU", lengths=lengths, constant_lengths=True)
    (loop,) = [n for n in same(model, inputs).node if n.op_type == "Loop"]
    assert all(n.op_type != "Where" for n in loop.attribute[0].g.node)


@pytest.mark.parametrize("clip", [0.1, 0.7])
@pytest.mark.parametrize("op", GATES)
def test_clip(op: str, clip: float) -> None:
    same(*recurrent(op, clip=clip, initial=True, peepholes=True))


def test_coupled_gates() -> None:
    same(*recurrent("LSTM", input_forget=1, initial=True))
    same(*recurrent("LSTM", input_forget=1, peepholes=True, direction="bidirectional"))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_linear_before_reset(direction: str, bias: bool) -> None:
    model, inputs = recurrent(
        "GRU", direction=direction, linear_before_reset=1, bias=bias, initial=True
    )
    same(model, inputs)


@pytest.mark.parametrize(
    ("name", "alpha", "beta"),
    [
        ("Relu", [], []),
        ("Tanh", [], []),
        ("Sigmoid", [], []),
        ("Affine", [0.5], [0.25]),
        ("LeakyRelu", [0.3], []),
        ("ThresholdedRelu", [0.4], []),
        ("ScaledTanh", [0.7], [1.3]),
        ("HardSigmoid", [0.3], [0.6]),
        ("HardSigmoid", [], []),
        ("Elu", [0.8], []),
        ("Softsign", [], []),
        ("Softplus", [], []),
    ],
)
def test_activations(name: str, alpha: list[float], beta: list[float]) -> None:
    factors = {
        key: value
        for key, value in (("activation_alpha", alpha), ("activation_beta", beta))
        if value
    }
    same(*recurrent("RNN", activations=[name], initial=True, **factors))


def test_factors_are_taken_in_order_by_the_activations_that_have_them() -> None:
    model, inputs = recurrent(
        "LSTM",
        direction="bidirectional",
        activations=["Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid", "Affine", "ScaledTanh"],
        activation_alpha=[0.1, 0.3, 0.9, 0.8],
        activation_beta=[0.4, 0.2, 0.7],
    )
    same(model, inputs)


def test_unknown_activation_is_named() -> None:
    model, _ = recurrent("RNN", activations=["Swish"])
    with pytest.raises(UnsupportedOpError, match="Swish"):
        normalise(model, {})


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_batch_first(op: str, direction: str) -> None:
    """The reference runtime does not know this layout; so it gets the other one."""
    model, inputs = recurrent(op, layout=1, direction=direction, initial=True)
    plain, _ = recurrent(op, direction=direction, initial=True)
    swapped = {name: array.swapaxes(0, 1).copy() for name, array in inputs.items()}
    wanted = run_graph(plain.SerializeToString(), swapped)
    given = run_graph(normalise(model, {}).model, inputs)
    y = wanted.pop("y0").transpose(2, 0, 1, 3)
    np.testing.assert_allclose(given.pop("y0"), y, rtol=2e-5, atol=2e-6)
    for name, array in wanted.items():
        np.testing.assert_allclose(given[name], array.swapaxes(0, 1), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0)])
@pytest.mark.parametrize("rest", [(), (2,), (2, 3)])
def test_reverse_sequence(time: int, batch: int, rest: tuple[int, ...], constant: bool) -> None:
    lengths = np.array([1, 4, 2], np.int64)
    x = draw("rs", *((4, 3) if time == 0 else (3, 4)), *rest)
    node = helper.make_node("ReverseSequence", ["x", "n"], ["y"], time_axis=time, batch_axis=batch)
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)]
    fixed = [numpy_helper.from_array(lengths, "n")] if constant else []
    if not constant:
        inputs.append(helper.make_tensor_value_info("n", onnx.TensorProto.INT64, lengths.shape))
    graph = helper.make_graph(
        [node], "g", inputs, [helper.make_tensor_value_info("y", 1, x.shape)], fixed
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    left = same(model, {"x": x} if constant else {"x": x, "n": lengths})
    if constant:
        assert [n.op_type for n in left.node] == ["GatherND"]


@pytest.mark.parametrize("directions", [(0, 0, 0), (1, 0, 1), (0, 1, 0), (1, 1, 1)])
@pytest.mark.parametrize("axes", [(0, 0, 0), (1, 0, 1), (0, 1, -1), (1, 1, 2)])
def test_scan(directions: tuple[int, int, int], axes: tuple[int, int, int]) -> None:
    body = onnx.parser.parse_graph(
        """body (float[3] s, float[3] a, float[3] b)
        => (float[3] so, float[3] o, float[3,2] p) {
            t = Add(s, a)
            so = Mul(t, b)
            o = Sub(a, b)
            one = Constant <value_ints = [1]> ()
            two = Constant <value_ints = [3, 2]> ()
            u = Unsqueeze(so, one)
            p = Expand(u, two)
        }"""
    )
    node = helper.make_node(
        "Scan",
        ["s", "a", "b"],
        ["y", "o", "p"],
        body=body,
        num_scan_inputs=2,
        scan_input_directions=directions[:2],
        scan_output_directions=[directions[2], 1 - directions[2]],
        scan_input_axes=axes[:2],
        scan_output_axes=[axes[2] if axes[2] < 2 else 1, axes[2]],
    )
    arrays = {
        "s": draw("s", 3),
        "a": draw("a", *((4, 3) if axes[0] == 0 else (3, 4))),
        "b": draw("b", *((4, 3) if axes[1] == 0 else (3, 4))),
    }
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, 1, a.shape) for n, a in arrays.items()],
        [helper.make_tensor_value_info(n, 1, None) for n in ("y", "o", "p")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    same(onnx.shape_inference.infer_shapes(model), arrays)


def test_scan_of_opset_8_runs_over_a_batch() -> None:
    body = onnx.parser.parse_graph(
        """body (float[3] s, float[3] a) => (float[3] so, float[3] o) {
            so = Add(s, a)
            o = Mul(so, a)
        }"""
    )
    node = helper.make_node(
        "Scan", ["", "s", "a"], ["y", "o"], body=body, num_scan_inputs=1, directions=[1]
    )
    arrays = {"s": draw("s", 2, 3), "a": draw("a", 2, 4, 3)}
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, 1, a.shape) for n, a in arrays.items()],
        [helper.make_tensor_value_info(n, 1, s) for n, s in (("y", [2, 3]), ("o", [2, 4, 3]))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=8)
    left = same(model, arrays)
    assert [n.op_type for n in left.node] == ["Loop"]


@pytest.mark.parametrize("op", GATES)
def test_half_precision_is_computed_in_float32(op: str) -> None:
    """The reference runtime has no kernel for it; so it computes the same in float32."""
    model, inputs = recurrent(op, direction="bidirectional", initial=True, lengths=LENGTHS)
    wanted = run_graph(model.SerializeToString(), inputs)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    halves = {n: a if a.dtype == np.int32 else a.astype(np.float16) for n, a in inputs.items()}
    given = run_graph(normalise(model, {}).model, halves)
    for name, array in wanted.items():
        assert given[name].dtype == np.float16
        np.testing.assert_allclose(given[name].astype(np.float32), array, atol=5e-3)
