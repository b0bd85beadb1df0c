"""Rounding errors of convolutions that trade accuracy for speed, layer by layer, against float64.

Usage: ``python benchmarks/accuracy.py [--model REGEX] [--json FILE]``. Takes every different
convolution of the models of ``benchmarks/zoo`` with its own weights, feeds it the positive part of
normal numbers, and compares ONNX Runtime and packages for ``host`` of both accuracies with the
same sum in float64. Errors are relative to the largest value of the layer. Layers in which
``fast`` does not trade accuracy are not shown. Exits with 1 if an error is over its limit.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
from cpu import chosen_models
from onnx import helper, numpy_helper, shape_inference
from store import Store
from zoo import MODELS

import mlopsc
from mlopsc.cli.render import echo_table
from mlopsc.schema.target import Accuracy

Array = np.ndarray[Any, Any]
FAST_LIMIT = 1e-5  # of the largest value of a layer
STRICT_LIMIT = 2.0  # times ONNX Runtime's error
ACCURACIES: tuple[Accuracy, ...] = ("fast", "strict")


def convolutions(path: Path) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield the different convolutions of a model, each as a model of its own, and what it is."""
    model = shape_inference.infer_shapes(onnx.load(path))
    weights = {t.name: t for t in model.graph.initializer}
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    }
    seen = set()
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights or node.input[0] not in shapes:
            continue
        weight, x, y = weights[node.input[1]], shapes[node.input[0]], shapes[node.output[0]]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        name = f"{x[1]} to {y[1]}, {'x'.join(map(str, weight.dims[2:]))}, {x[2]}x{x[3]}"
        key = (name, str(sorted(attributes.items())))
        if key in seen:
            continue
        seen.add(key)
        graph = helper.make_graph(
            [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)], "layer",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, y)],
            [numpy_helper.from_array(numpy_helper.to_array(weight), "w")],
        )  # fmt: skip
        yield (
            name,
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
        )


def exact(x: Array, w: Array, result: Array, node: onnx.NodeProto) -> Array:
    """Return the convolution in float64; ``result`` has its shape."""
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    strides = found.get("strides") or [1, 1]
    dilations = found.get("dilations") or [1, 1]
    groups = found.get("group", 1)
    _, features, height, width = result.shape
    reach = [
        (o - 1) * s + (k - 1) * d + 1
        for o, s, k, d in zip((height, width), strides, w.shape[2:], dilations, strict=True)
    ]
    totals = [max(0, r - n) for r, n in zip(reach, x.shape[2:], strict=True)]
    upper = found.get("auto_pad", b"NOTSET") == b"SAME_LOWER"
    begins = [(t + upper) // 2 for t in totals]
    if "pads" in found:
        begins = found["pads"][:2]
    padded = np.pad(
        x[0].astype(np.float64),
        [
            (0, 0),
            *((b, max(0, r - b - n)) for b, r, n in zip(begins, reach, x.shape[2:], strict=True)),
        ],
    )
    made = np.zeros((features, height, width))
    depth, part = w.shape[1], features // groups
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            top, left = i * dilations[0], j * dilations[1]
            window = padded[
                :,
                top : top + (height - 1) * strides[0] + 1 : strides[0],
                left : left + (width - 1) * strides[1] + 1 : strides[1],
            ]
            for g in range(groups):
                matrix = w[g * part : (g + 1) * part, :, i, j].astype(np.float64)
                made[g * part : (g + 1) * part] += np.tensordot(
                    matrix, window[g * depth : (g + 1) * depth], axes=1
                )
    return made


def measure_layer(model: onnx.ModelProto, folder: Path) -> dict[str, Any] | None:
    """Return the errors of a layer, or None if no package trades accuracy in it."""
    path = folder / "layer.onnx"
    onnx.save(model, path)
    packages = {}
    for accuracy in ACCURACIES:
        built = mlopsc.build(path, "host", folder / accuracy, accuracy=accuracy, force=True)
        if accuracy == "fast" and built["host"].accuracy == "strict":
            return None
        packages[accuracy] = folder / accuracy / "host"
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.maximum(np.random.default_rng(0).standard_normal(shape), 0).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    results = {"onnxruntime": session.run(None, {"x": x})[0]}
    for accuracy, package in packages.items():
        results[accuracy] = mlopsc.load(package)({"x": x})["y"]
    weights = numpy_helper.to_array(model.graph.initializer[0])
    truth = exact(x, weights, results["onnxruntime"], model.graph.node[0])
    scale = float(np.abs(truth).max()) or 1.0
    return {name: float(np.abs(y[0] - truth).max()) / scale for name, y in results.items()}


@click.command()
@click.option("--model", "pattern", default="", metavar="REGEX", help="Only models with this name.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def main(pattern: str, output: Path | None) -> None:
    """Print a table of errors, and say which are over the limits."""
    layers: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="mlopsc-accuracy-") as name:
        store = Store(Path(name))
        for model in chosen_models(pattern, MODELS):
            try:
                path = store.model(model)
            except FileNotFoundError as error:
                click.echo(f"{model} is skipped: {error}", err=True)
                continue
            for layer, proto in convolutions(path):
                found = measure_layer(proto, Path(name))
                if found is not None:
                    layers[f"{model}: {layer}"] = found
                    click.echo(f"{model}: {layer}", err=True)
    columns = ["layer", "fast", "strict", "ONNX Runtime"]
    names = (*ACCURACIES, "onnxruntime")
    rows = [[layer, *(f"{found[n]:.1e}" for n in names)] for layer, found in layers.items()]
    echo_table("Largest error to float64, of the largest value", columns, rows)
    wrong = [
        layer
        for layer, found in layers.items()
        if found["fast"] > FAST_LIMIT or found["strict"] > STRICT_LIMIT * found["onnxruntime"]
    ]
    if output is not None:
        output.write_text(json.dumps(layers, indent=2) + "\n", encoding="utf-8")
    for layer in wrong:
        click.echo(f"over the limit: {layer}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
