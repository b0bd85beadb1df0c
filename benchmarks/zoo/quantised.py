"""Models of 8-bit integers that are quantised here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
    shape_inference,
)

from zoo import light
from zoo.inputs import draw_inputs

Array = np.ndarray[Any, Any]
_OPSET = 17
_SAMPLES = 4


def resnet50() -> onnx.ModelProto:
    """Return ResNet-50 with drawn weights, quantised statically, a scale for each channel.

    Batch normalisation is folded into the convolutions first. Scales are calibrated on drawn
    pictures, as what is measured is.
    """
    model = version_converter.convert_version(light.light("resnet50"), _OPSET)
    model.ir_version = 10
    for node in model.graph.node:
        if node.op_type == "Sum" and len(node.input) == 2:
            node.op_type = "Add"  # which is what exporters write today, and what is quantised
    with tempfile.TemporaryDirectory(prefix="mlopsc-quantise-") as name:
        first, folded, last = (Path(name) / f"{n}.onnx" for n in ("float", "folded", "integer"))
        onnx.save(model, first)
        shape_inference.quant_pre_process(first, folded, skip_symbolic_shape=True)
        quantize_static(
            folded,
            last,
            _Drawn(onnx.load(folded)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(last)


class _Drawn(CalibrationDataReader):
    def __init__(self, model: onnx.ModelProto) -> None:
        self._samples: Iterator[Mapping[str, Array]] = iter(
            [draw_inputs(model, seed) for seed in range(100, 100 + _SAMPLES)]
        )

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._samples, None)
