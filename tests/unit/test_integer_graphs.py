"""What becomes integers and what stays: fused operators, islands of floats, values used twice."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from quantised_cases import QuantisedGraph, quantised_model
from support import run_cli

import mlopsc
from mlopsc.errors import MismatchError
from mlopsc.importer import integers
from mlopsc.integer import DOMAIN, LayerCheck, use_integers
from mlopsc.schema.bundle import Manifest


def manifest(model: onnx.ModelProto, folder: Path) -> Manifest:
    models.save(model, folder / "net.onnx")
    return mlopsc.import_model(folder / "net.onnx", folder / "net.mlb").manifest


def converted(model: onnx.ModelProto) -> ir.Model:
    made = ir.from_proto(model)
    use_integers(made)
    return made


def operators(model: ir.Model) -> list[str]:
    return [f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            for node in model.graph]  # fmt: skip


def test_nothing_in_floating_point_is_left() -> None:
    made = converted(quantised_model(["convolutions", "arithmetic", "pools"], "int8"))
    for node in made.graph:
        for value in (*node.inputs, *node.outputs):
            assert value is None or value.dtype is None or not value.dtype.is_floating_point()
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(operators(made))


def test_padding_is_the_zero_point() -> None:
    graph = QuantisedGraph()
    weight, _ = graph.weight((2, 3, 3, 3), 0)
    graph.write(graph.op("Conv", [graph.read((1, 3, 4, 4)), weight], pads=[1, 1, 1, 1]))
    node = converted(graph.model()).graph[0]
    zero = next(v for k, v in graph.weights.items() if v.dtype == np.int8 and v.ndim == 0)
    assert node.attributes["zero_in"].as_int() == int(zero)


def test_unsigned_activations_are_inverted_once_on_the_way() -> None:
    graph = QuantisedGraph(dtype="uint8")
    first = graph.op("Relu", [graph.read((1, 8))])
    weight, _ = graph.weight((8, 8), 1)
    name = graph.write(graph.op("MatMul", [first, weight]))
    graph.outputs.clear()
    graph.write(graph.op("Sigmoid", [graph.dequantize(name)]))
    made = operators(converted(graph.model()))
    assert made.count(f"{DOMAIN}::Flip") == 2, "at the input and at the output, not between"


def test_value_that_floats_use_too_stays_a_float(tmp_path: Path) -> None:
    graph = QuantisedGraph()
    weight, _ = graph.weight((8, 8), 1)
    product = graph.op("MatMul", [graph.read((1, 8)), weight])
    graph.write(product)
    graph.outputs.append(models.value(product, (1, 8)))
    found = manifest(graph.model(), tmp_path)
    assert found.vectors.arithmetic == "float"
    assert found.integers is None


def test_island_of_floats_is_mixed_and_conforms(tmp_path: Path) -> None:
    graph = QuantisedGraph()
    weight, _ = graph.weight((8, 8), 1)
    inner = graph.write(graph.op("MatMul", [graph.read((2, 8)), weight]))
    graph.outputs.clear()
    island = graph.op("CumSum", [graph.dequantize(inner), graph.constant(np.array(1, np.int64))])
    outer = graph.op("QuantizeLinear", [island, graph.constant(np.array(0.5, np.float32)),
                                        graph.constant(np.array(0, np.int8))])  # fmt: skip
    weight, _ = graph.weight((8, 4), 1)
    graph.write(graph.op("MatMul", [graph.dequantize(outer, np.float32(0.5)), weight]))
    found = manifest(graph.model(), tmp_path)
    assert found.vectors.arithmetic == "mixed"
    mlopsc.build(tmp_path / "net.mlb", "host", tmp_path)
    assert mlopsc.conform(tmp_path / "host").verdict == "pass"


def test_channel_that_is_nearly_a_bias_stays_in_integers(tmp_path: Path) -> None:
    """Its weights are of no account, and its bias has more bits in their steps than sums have."""
    graph = QuantisedGraph()
    integers = graph.rng.integers(-127, 127, (4, 8, 1, 1)).astype(np.int8)
    scales = np.array([0.005, 3e-8, 0.004, 2e-8], np.float32)
    parameters = [graph.constant(a) for a in (integers, scales, np.zeros(4, np.int8))]
    weight = graph.op("DequantizeLinear", parameters, axis=0)
    bias = graph.constant(np.array([0.1, 2.0, -0.2, -1.7], np.float32))
    y = graph.op("Conv", [graph.read((1, 8, 4, 4), np.float32(0.03)), weight, bias])
    graph.write(y, np.float32(0.02), 0)
    found = manifest(graph.model(), tmp_path)
    assert found.vectors.arithmetic == "integer"
    mlopsc.build(tmp_path / "net.mlb", "cortex-m7", tmp_path)
    assert mlopsc.conform(tmp_path / "cortex-m7").verdict == "pass"


def test_people_see_how_far_from_the_reference(tmp_path: Path) -> None:
    models.save(quantised_model(["arithmetic"], "int8"), tmp_path / "net.onnx")
    imported = run_cli("import", tmp_path / "net.onnx", "-o", tmp_path / "net.mlb").stdout
    shown = run_cli("inspect", tmp_path / "net.mlb").stdout
    for text in (imported, shown):
        words = " ".join(text.replace("│", " ").split())
        assert "5 layers, each at most 0 step" in words
        assert "100% of decisions agree (integer)" in words


def test_float_edges_stay(tmp_path: Path) -> None:
    """Quantised inside, floats outside: as most tools export."""
    graph = QuantisedGraph()
    graph.inputs.append(models.value("numbers", (1, 8)))
    scale, zero = graph.constant(np.array(0.1, np.float32)), graph.constant(np.array(3, np.int8))
    first = graph.op("QuantizeLinear", ["numbers", scale, zero])
    weight, _ = graph.weight((8, 8), 1)
    last = graph.write(graph.op("MatMul", [graph.op("DequantizeLinear", [first, scale, zero]),
                                           weight]))  # fmt: skip
    graph.outputs.clear()
    graph.outputs.append(models.value(graph.dequantize(last), (1, 8)))
    found = manifest(graph.model(), tmp_path)
    assert found.vectors.arithmetic == "integer"
    mlopsc.build(tmp_path / "net.mlb", "host", tmp_path)
    report = mlopsc.conform(tmp_path / "host")
    assert report.outputs[0].max_absolute == 0, "the same bits, though they are floats"


@pytest.mark.parametrize("signed", [False, True])
def test_fused_operators(signed: bool, tmp_path: Path) -> None:
    """QLinearConv and QLinearMatMul stay as they are in the bundle and become integers."""
    rng = np.random.default_rng(3)
    kind = np.int8 if signed else np.uint8
    middle = 0 if signed else 128
    weights = {
        "xs": np.array(0.02, np.float32), "xz": np.array(middle - 7, kind),
        "w": rng.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8),
        "ws": rng.uniform(0.002, 0.01, 4).astype(np.float32), "wz": np.zeros(4, np.int8),
        "ys": np.array(0.05, np.float32), "yz": np.array(middle + 5, kind),
        "b": rng.integers(-900, 900, 4).astype(np.int32),
        "m": rng.integers(-127, 127, (36, 5)).astype(np.int8), "ms": np.array(0.01, np.float32),
        "mz": np.array(2, np.int8), "os": np.array(0.1, np.float32), "oz": np.array(middle, kind),
        "shape": np.array([4, 36], np.int64),
    }  # fmt: skip
    nodes = [
        models.node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["c"],
                    pads=[1, 1, 1, 1]),
        models.node("Reshape", ["c", "shape"], ["r"]),
        models.node("QLinearMatMul", ["r", "ys", "yz", "m", "ms", "mz", "os", "oz"], ["y"]),
    ]  # fmt: skip
    name = np.dtype(kind).name
    model = models.model(nodes, [models.value("x", (1, 3, 6, 6), name)],
                         [models.value("y", (4, 5), name)], weights, opset=21)  # fmt: skip
    model.ir_version = 10
    found = manifest(model, tmp_path)
    assert found.vectors.arithmetic == "integer"
    assert found.integers is not None
    assert found.integers.layers == 2
    mlopsc.build(tmp_path / "net.mlb", "cortex-m7", tmp_path)
    assert mlopsc.conform(tmp_path / "cortex-m7").verdict == "pass"


def test_layer_two_steps_away_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def check_layers(self, _: object) -> list[LayerCheck]:
            return [LayerCheck("fine", "Conv", 1, 0.1), LayerCheck("wrong", "Add", 2, 0.1)]

    with pytest.raises(MismatchError, match=r"layer 'wrong' .Add. in integers is 2 steps"):
        integers.compare_integers(Wrong(), None, [], [])  # type: ignore[arg-type]
