"""ONNX Runtime's quantiser: ranges of values first, then as many quantised models as wanted.

Ensures: the same model, samples and options give the same bytes; the ranges come from one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    create_calibrator,
    quantize_static,
)
from onnxruntime.quantization.calibrate import save_tensors_data

from mlopsc.errors import QuantizationError
from mlopsc.quantizer.layers import FOLLOWERS, LAYER_OPS
from mlopsc.schema.quantize import QuantizeOptions

Arrays = dict[str, np.ndarray[Any, Any]]
_ACTIVATIONS: Final = {
    "int8": QuantType.QInt8,
    "uint8": QuantType.QUInt8,
    "int16": QuantType.QInt16,
}
_WEIGHTS: Final = {"int8": QuantType.QInt8, "int4": QuantType.QInt4}
_METHODS: Final = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
# Of histograms; as many as steps of a value, and the entropy method would have no choice.
_BINS: Final = {"entropy": {"num_bins": 1024, "num_quantized_bins": 128}}
_AT_ONCE = 16  # samples whose values are in memory together
_OPS = sorted(LAYER_OPS | FOLLOWERS)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the quantiser has no types
    """Gives samples to the calibrator one by one."""

    def __init__(self, samples: Iterable[Arrays]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Arrays:
        """Return a sample, or nothing at the end."""
        return next(self._samples, {})


def collect_ranges(
    model: Path, samples: Iterable[Arrays], options: QuantizeOptions, work: Path
) -> Path:
    """Run ``samples`` through the float model and return a file with the range of every value.

    Raises:
        QuantizationError: The model computes NaN or infinity.
    """
    logging.getLogger().setLevel(logging.ERROR)  # advice for users of the quantiser's own tool
    augmented = work / "augmented.onnx"
    calibrator = create_calibrator(
        model,
        _OPS,
        str(augmented),
        _METHODS[options.method],
        extra_options={
            "symmetric": False,
            "percentile": options.percentile,
            **_BINS.get(options.method, {}),
        },
    )
    calibrator.infer_session = _one_thread(augmented)
    for part in _parts(samples):
        calibrator.collect_data(_Reader(part))
    ranges = calibrator.compute_data()
    for name, found in ranges.items():
        if not all(np.isfinite(bound).all() for bound in found.range_value):
            raise QuantizationError(
                f"the float model computes NaN or infinity on the calibration data, in '{name}'",
                hint="take such samples out of the data, or mend the model",
            )
    path = work / "ranges.json"
    save_tensors_data(ranges, path)
    return path


def _parts(samples: Iterable[Arrays]) -> Iterator[Iterator[Arrays]]:
    rest = iter(samples)
    while (first := next(rest, None)) is not None:
        yield chain([first], islice(rest, _AT_ONCE - 1))


def _one_thread(model: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def quantize(
    model: Path,
    ranges: Path,
    options: QuantizeOptions,
    output: Path,
    *,
    without: Collection[str],
) -> onnx.ModelProto:
    """Write the quantised model to ``output`` and return it.

    Args:
        model: The float model.
        ranges: As ``collect_ranges`` gave them.
        options: How.
        output: A path to write to.
        without: Nodes that stay in float.
    """
    quantize_static(
        model,
        output,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=_OPS,
        per_channel=options.per_channel,
        activation_type=_ACTIVATIONS[options.activations],
        weight_type=_WEIGHTS[options.weights],
        nodes_to_exclude=sorted(without),
        calibrate_method=_METHODS[options.method],
        calibration_cache_path=ranges,
        extra_options={
            "ActivationSymmetric": options.activations == "int16",
            "ForceQuantizeNoInputCheck": True,
            "WeightSymmetric": True,
        },
    )
    return onnx.load(output)
