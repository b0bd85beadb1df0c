"""The parts of a quantisation: samples, layers, biases, edges, figures."""

from __future__ import annotations

import os
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from models import model, node, random, value

from mlopsc.errors import InputError, MissingToolError, QuantizationError
from mlopsc.quantizer.biases import join_biases
from mlopsc.quantizer.cones import cone_nodes
from mlopsc.quantizer.edges import cut_inputs, cut_outputs, to_integers
from mlopsc.quantizer.layers import layers_of, neighbours, nodes_in_float
from mlopsc.quantizer.measure import Decisions, Difference
from mlopsc.quantizer.samples import of_path
from mlopsc.reference import run_graph
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.quantize import IntegerTensor

PIXELS = TensorSpec(name="image", dtype="uint8", shape=(1, 4, 6))
FLOATS = TensorSpec(name="x", dtype="float32", shape=(1, 3))


def network() -> onnx.ModelProto:
    """Return two convolutions with what moves and clamps around them."""
    made = model(
        [
            node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            node("Conv", ["t", "w1"], ["c1"], pads=[1, 1, 1, 1]),
            node("Relu", ["c1"], ["r1"]),
            node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["p1", "w2"], ["c2"]),
            node("Flatten", ["c2"], ["f"]),
            node("MatMul", ["f", "w3"], ["m"]),
            node("Add", ["b3", "m"], ["y"]),
        ],
        [value("x", [1, 8, 8, 2])],
        [value("y", [1, 5])],
        {"w1": random(4, 2, 3, 3), "w2": random(3, 4, 4, 4), "w3": random(3, 5), "b3": random(5)},
    )
    return onnx.shape_inference.infer_shapes(made)


# Layers ------------------------------------------------------------------------------------------


def test_layers_take_their_activation_along() -> None:
    found = layers_of(network().graph)
    assert [(layer.op, layer.tensor, layer.activated) for layer in found] == [
        ("Conv", "c1", "r1"),
        ("Conv", "c2", "c2"),
        ("MatMul", "m", "m"),
        ("Add", "y", "y"),
    ]
    assert neighbours(network().graph, found) == [
        ("make_c1", "make_c2"),
        ("make_c2", "make_m"),
        ("make_m", "make_y"),
    ]


def test_what_moves_elements_goes_with_the_layers_around_it() -> None:
    graph = network().graph
    first = {"make_c1", "make_t", "make_r1", "make_p1"}
    assert nodes_in_float(graph, {"make_c1"}) == first
    assert nodes_in_float(graph, {"make_c2"}) == {"make_c2", "make_f", "make_p1", "make_r1"}
    assert nodes_in_float(graph, {"make_y"}) == {"make_y"}


def test_an_activation_of_an_output_stays_in_float() -> None:
    graph = onnx.shape_inference.infer_shapes(models.several()).graph
    assert nodes_in_float(graph, ()) == {"make_positive"}


def test_an_activation_that_others_read_too_is_no_part_of_a_layer() -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["y"]), node("Tanh", ["m"], ["z"])],
        [value("x", [1, 3])],
        [value("y", [1, 3]), value("z", [1, 3])],
        {"w": random(3, 3)},
    )
    found = layers_of(onnx.shape_inference.infer_shapes(made).graph)
    assert [layer.activated for layer in found] == ["m", "z"]


def test_normalisations_and_gelu_stay_functions_of_one_tensor() -> None:
    graph = onnx.shape_inference.infer_shapes(
        model(
            [
                node("ReduceMean", ["x", "axes"], ["mean"]),
                node("Sub", ["x", "mean"], ["centred"]),
                node("Mul", ["centred", "centred"], ["square"]),
                node("ReduceMean", ["square", "axes"], ["variance"]),
                node("Add", ["variance", "one"], ["safe"]),
                node("Sqrt", ["safe"], ["root"]),
                node("Div", ["centred", "root"], ["normal"]),
                node("Mul", ["normal", "gamma"], ["scaled"]),
                node("MatMul", ["scaled", "w"], ["m"]),
                node("Add", ["m", "x"], ["sum"]),
                node("Erf", ["sum"], ["erf"]),
                node("Mul", ["erf", "sum"], ["gelu"]),
                node("ReduceMean", ["gelu", "axes"], ["y"]),
            ],
            [value("x", [1, 3, 4])],
            [value("y", [1, 3, 1])],
            {"axes": np.int64([-1]), "one": np.float32(1), "gamma": random(4), "w": random(4, 4)},
        )
    ).graph
    inside = ("mean", "centred", "square", "variance", "safe", "root", "normal", "scaled",
              "erf", "gelu")  # fmt: skip
    assert cone_nodes(graph) == {f"make_{name}" for name in inside}
    assert [layer.tensor for layer in layers_of(graph)] == ["m", "sum", "y"]
    assert cone_nodes(network().graph) == set()


# Biases ------------------------------------------------------------------------------------------


def test_a_bias_joins_its_product_and_nothing_else_changes() -> None:
    made = network()
    before = run_graph(made.SerializeToString(), {"x": random(1, 8, 8, 2)})["y"]
    join_biases(made)
    onnx.checker.check_model(made, full_check=True)
    assert [n.op_type for n in made.graph.node][-2:] == ["Flatten", "Gemm"]
    after = run_graph(made.SerializeToString(), {"x": random(1, 8, 8, 2)})["y"]
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_a_bias_joins_a_convolution() -> None:
    made = onnx.shape_inference.infer_shapes(
        model(
            [node("Conv", ["x", "w"], ["c"]), node("Add", ["c", "b"], ["y"])],
            [value("x", [1, 2, 5, 5])],
            [value("y", [1, 4, 3, 3])],
            {"w": random(4, 2, 3, 3), "b": random(1, 4, 1, 1)},
        )
    )
    before = run_graph(made.SerializeToString(), {"x": random(1, 2, 5, 5)})["y"]
    join_biases(made)
    assert [n.op_type for n in made.graph.node] == ["Conv"]
    after = run_graph(made.SerializeToString(), {"x": random(1, 2, 5, 5)})["y"]
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_a_bias_joins_a_product_of_three_axes() -> None:
    made = onnx.shape_inference.infer_shapes(
        model(
            [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])],
            [value("x", [2, 3, 4])],
            [value("y", [2, 3, 5])],
            {"w": random(4, 5), "b": random(1, 5)},
        )
    )
    before = run_graph(made.SerializeToString(), {"x": random(2, 3, 4)})["y"]
    join_biases(made)
    onnx.checker.check_model(made, full_check=True)
    assert [n.op_type for n in made.graph.node] == ["Reshape", "Gemm", "Reshape"]
    assert "b" not in {tensor.name for tensor in made.graph.initializer}
    after = run_graph(made.SerializeToString(), {"x": random(2, 3, 4)})["y"]
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (4, 5), (4, 1), (1, 1, 5)], ids=str)
def test_what_is_no_bias_stays_a_sum(shape: tuple[int, ...]) -> None:
    made = onnx.shape_inference.infer_shapes(
        model(
            [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])],
            [value("x", [4, 3])],
            [value("y", [1, 4, 5] if len(shape) == 3 else [4, 5])],
            {"w": random(3, 5), "b": random(*shape)},
        )
    )
    join_biases(made)
    assert [n.op_type for n in made.graph.node] == ["MatMul", "Add"]


def test_a_product_that_others_read_keeps_its_sum() -> None:
    made = onnx.shape_inference.infer_shapes(
        model(
            [
                node("MatMul", ["x", "w"], ["m"]),
                node("Add", ["m", "b"], ["y"]),
                node("Tanh", ["m"], ["z"]),
            ],
            [value("x", [1, 3])],
            [value("y", [1, 5]), value("z", [1, 5])],
            {"w": random(3, 5), "b": random(5)},
        )
    )
    join_biases(made)
    assert [n.op_type for n in made.graph.node] == ["MatMul", "Add", "Tanh"]


# Edges -------------------------------------------------------------------------------------------


def quantised() -> onnx.ModelProto:
    """Return y = relu(x) between Q and DQ on both sides."""
    return model(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
            node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
            node("Relu", ["xd"], ["r"]),
            node("QuantizeLinear", ["r", "t", "z"], ["rq"]),
            node("DequantizeLinear", ["rq", "t", "z"], ["y"]),
        ],
        [value("x", [4])],
        [value("y", [4])],
        {"s": np.float32(0.5), "t": np.float32(0.25), "z": np.int8(-3)},
    )


def test_edges_are_cut_to_the_same_integers() -> None:
    x = np.float32([-70.0, -0.24, 0.76, 40.0])
    made = quantised()
    whole = run_graph(made.SerializeToString(), {"x": x})["y"]
    (entry,), (leave,) = cut_inputs(made, {"x"}), cut_outputs(made, {"y"})
    assert entry == IntegerTensor(name="x", dtype="int8", scale=0.5, zero_point=-3)
    assert leave == IntegerTensor(name="y", dtype="int8", scale=0.25, zero_point=-3)
    onnx.checker.check_model(made, full_check=True)
    got = run_graph(made.SerializeToString(), {"x": to_integers(x, entry)})["y"]
    assert got.dtype == np.int8
    np.testing.assert_array_equal((got.astype(np.float32) + 3) * np.float32(0.25), whole)


def test_an_output_that_is_read_inside_is_cut_all_the_same() -> None:
    made = quantised()
    made.graph.node.append(node("Neg", ["y"], ["n"]))
    made.graph.output.append(value("n", [4]))
    x = {"x": np.float32([-3.0, 0.3, 0.76, 4.0])}
    before = run_graph(made.SerializeToString(), x)
    cut_outputs(made, {"y"})
    after = run_graph(made.SerializeToString(), x)
    np.testing.assert_array_equal(after["n"], before["n"])
    np.testing.assert_array_equal((after["y"].astype(np.float32) + 3) * 0.25, before["y"])


def test_an_edge_in_float_cannot_be_cut() -> None:
    made = quantised()
    made.graph.node.append(node("Neg", ["x"], ["n"]))
    with pytest.raises(QuantizationError, match="'x' cannot be made integer"):
        cut_inputs(made, {"x"})
    with pytest.raises(QuantizationError, match="'y' cannot be made integer"):
        cut_outputs(models.one_op("Relu"), {"y"})


# Figures -----------------------------------------------------------------------------------------


def test_errors_add_up_over_samples() -> None:
    found = Difference()
    found.add(np.float32([3, 4]), np.float32([3, 4]))
    assert found.figures().sqnr_db is None and found.figures().relative_error == 0
    found.add(np.float32([0, 5]), np.float32([0.3, 4.6]))
    figures = found.figures()
    assert figures.relative_error == pytest.approx(0.5 / 50**0.5)
    assert figures.sqnr_db == pytest.approx(10 * np.log10(50 / 0.25), rel=1e-6)
    assert figures.max_absolute == pytest.approx(0.4)


def test_a_class_that_is_lost_shows() -> None:
    found = Decisions([0, 0, 0, 7], expected=[0, 0, 1, 7], got=[0, 0, 0, 0]).report()
    assert (found.float_correct, found.quantized_correct, found.agreeing) == (3, 3, 2)
    rows = [(c.label, c.samples, c.float_correct, c.quantized_correct) for c in found.classes]
    assert rows == [(0, 3, 2, 3), (7, 1, 1, 0)]


# Samples -----------------------------------------------------------------------------------------


def test_a_folder_gives_all_its_files_in_the_order_of_names(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.float32([[1, 2, 3], [4, 5, 6]]))
    np.save(tmp_path / "a.npy", np.float32([7, 8, 9]))
    (tmp_path / "more").mkdir()
    np.savez(tmp_path / "more" / "c.npz", x=np.float32([[[0, 1, 0]]]))
    (tmp_path / "notes.txt").write_text("not data")
    found = of_path(tmp_path, [FLOATS])
    rows = [sample["x"].ravel().tolist() for sample in found]
    assert rows == [[7, 8, 9], [1, 2, 3], [4, 5, 6], [0, 1, 0]]
    assert (found.used.origin, found.used.samples) == ("folder", 4)
    assert all(sample["x"].shape == (1, 3) for sample in found)


def test_fewer_samples_are_spread_over_all(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(30, dtype=np.float32).reshape(10, 3),
             label=np.arange(10))  # fmt: skip
    found = of_path(tmp_path / "d.npz", [FLOATS], limit=3)
    assert [sample["x"][0, 0] for sample in found] == [0, 9, 18]
    assert found.labels == (0, 3, 6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_what_is_not_finite_is_refused(tmp_path: Path, bad: float, suffix: str) -> None:
    array = np.float32([[1, bad, 3]])
    path = tmp_path / f"bad{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    else:
        np.savez(path, x=array)
    with pytest.raises(QuantizationError, match="NaN or infinity"):
        list(of_path(path, [FLOATS]))


def test_data_that_is_of_no_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"nothing.*No such file"):
        of_path(tmp_path / "nothing", [FLOATS])
    with pytest.raises(QuantizationError, match="too long"):
        of_path(tmp_path / ("x" * 3000), [FLOATS])
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(QuantizationError, match="no regular file"):
        of_path(tmp_path / "pipe.npy", [FLOATS])
    with pytest.raises(QuantizationError, match="holds no samples"):
        of_path(tmp_path, [FLOATS])
    (tmp_path / "data.csv").write_text("1,2,3")
    with pytest.raises(QuantizationError, match="no known kind"):
        of_path(tmp_path / "data.csv", [FLOATS])
    np.savez(tmp_path / "several.npz", x=np.zeros((1, 3)))
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    fakes = {"text": b"no array", "empty": b"", "zip": (tmp_path / "several.npz").read_bytes(),
             "objects": (tmp_path / "objects.npy").read_bytes()}  # fmt: skip
    for name, data in fakes.items():
        (tmp_path / f"{name}.npy").write_bytes(data)
        with pytest.raises(InputError, match=rf"cannot read .*{name}\.npy"):
            of_path(tmp_path / f"{name}.npy", [FLOATS])
    np.save(tmp_path / "wide.npy", np.zeros((1, 4), np.float32))
    with pytest.raises(InputError, match=r"wide\.npy.*float32\[1, 4\], expected float32\[1, 3\]"):
        list(of_path(tmp_path / "wide.npy", [FLOATS]))
    np.save(tmp_path / "double.npy", np.zeros((1, 3)))
    with pytest.raises(InputError, match="float64"):
        list(of_path(tmp_path / "double.npy", [FLOATS]))
    with pytest.raises(InputError, match="one array"):
        of_path(tmp_path / "wide.npy", [FLOATS, PIXELS])


def test_an_image_needs_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(MissingToolError, match="pillow"):
        of_path(tmp_path, [PIXELS])


def test_images_become_the_raw_input(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    image.fromarray(pixels).save(tmp_path / "grey.png")
    (found,) = of_path(tmp_path / "grey.png", [PIXELS])
    np.testing.assert_array_equal(found["image"], pixels[np.newaxis])
    colour = TensorSpec(name="image", dtype="uint8", shape=(1, 4, 6, 3))
    (found,) = of_path(tmp_path / "grey.png", [colour])
    np.testing.assert_array_equal(found["image"], np.stack([pixels] * 3, -1)[np.newaxis])
    small = TensorSpec(name="image", dtype="uint8", shape=(1, 4, 5))
    with pytest.raises(InputError, match="4 rows of 6 pixels"):
        list(of_path(tmp_path / "grey.png", [small]))
    with pytest.raises(InputError, match="uint8 pixels"):
        list(of_path(tmp_path / "grey.png", [FLOATS]))
    (tmp_path / "grey.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="as an image"):
        list(of_path(tmp_path / "grey.png", [PIXELS]))
