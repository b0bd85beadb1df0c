"""The MLPerf Tiny models, which are not part of the project."""

from __future__ import annotations

from pathlib import Path

import onnx

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY.parent / "shared" / "models" / "mlperf-tiny"
NAMES = ("ad01", "kws", "resnet8", "vww")


def load(name: str, precision: str = "fp32") -> onnx.ModelProto:
    """Return one of ``NAMES`` for one sample, in float32 or, with precision ``int8``, integers.

    Raises:
        FileNotFoundError: The model is not there.
    """
    path = FOLDER / f"{name}_{precision}.onnx"
    if not path.is_file():
        raise FileNotFoundError(f"no {path.relative_to(REPOSITORY.parent)}")
    model = onnx.load(path)
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = dim.dim_value or 1
    return model
