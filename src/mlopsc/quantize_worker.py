"""The part of a quantisation that runs in a worker process; writes what the import then takes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mlopsc.bundle import Bundle, read_bundle
from mlopsc.dtypes import to_file
from mlopsc.errors import BrokenBundleError, QuantizationError
from mlopsc.quantizer import Quantized, quantize_bundle
from mlopsc.schema.graph import StageGraph, weights_name
from mlopsc.schema.quantize import (
    QUANTIZED_MODEL,
    QUANTIZED_REPORT,
    QUANTIZED_VECTORS,
    QuantizeOptions,
)
from mlopsc.vectors_file import LABEL


def quantize_file(
    *,
    source: str,
    digest: str,
    options: Mapping[str, Any],
    calibration: str | None,
    evaluation: str | None,
    folder: str,
) -> None:
    """Quantise the bundle ``source``; fill ``folder``.

    It then holds ``model.onnx``, the bundle's other stages, ``vectors.npz`` and ``report.json``.

    Raises:
        MlopscError: As ``quantizer.quantize_bundle``.
        BrokenBundleError: The bundle is not the one with that digest.
    """
    bundle = read_bundle(Path(source))
    if bundle.digest != digest:
        raise BrokenBundleError(f"'{source}' was replaced while it was being quantised")
    output = Path(folder)
    try:
        with tempfile.TemporaryDirectory(prefix="mlopsc-quantize-") as work:
            made = quantize_bundle(
                bundle,
                QuantizeOptions.model_validate(options),
                Path(work),
                calibration=None if calibration is None else Path(calibration),
                evaluation=None if evaluation is None else Path(evaluation),
            )
    except MemoryError as error:
        raise QuantizationError(
            f"quantising '{source}' takes more memory than a model of its size may need"
        ) from error
    onnx.save(made.model, output / QUANTIZED_MODEL)
    for stage in bundle.stages:
        if stage.name != "model":
            _write_stage(stage, output)
    _write_vectors(bundle, made, output / QUANTIZED_VECTORS)
    (output / QUANTIZED_REPORT).write_text(made.report.to_json(), encoding="utf-8")


def _write_stage(stage: StageGraph, folder: Path) -> None:
    (folder / f"{stage.name}.onnx").write_bytes(stage.model)
    if stage.weights:
        with (folder / weights_name(stage.name)).open("wb") as file:
            for chunk in stage.weight_chunks():
                file.write(chunk)


def _write_vectors(bundle: Bundle, made: Quantized, path: Path) -> None:
    names = [spec.name for spec in bundle.manifest.inputs]
    arrays = {name: to_file(np.stack([one[name] for one in made.inputs])) for name in names}
    labels = bundle.manifest.vectors.labels
    if labels:
        arrays[LABEL] = np.array(labels, np.int64)
    np.savez(path, **arrays)  # type: ignore[arg-type]
