"""What somebody should look at before a quantised model ships."""

from __future__ import annotations

from collections.abc import Iterator

from mlopsc.schema.bundle import Manifest
from mlopsc.schema.quantize import QuantizeReport

_FEW = 32  # samples below which ranges are guesses


def warnings_of(report: QuantizeReport, manifest: Manifest) -> Iterator[str]:
    """Yield what is doubtful about the data, and which classes lost most."""
    used = report.calibration
    if used.origin == "vectors" and manifest.vectors.origin == "synthesised":
        yield (
            "the ranges come from random vectors, not from data: give real samples with "
            "--calibration"
        )
    elif used.samples < _FEW:
        yield f"the ranges come from {used.samples} samples only; some hundred are usual"
    if used == report.measured:
        yield "errors are measured on the samples that the ranges come from"
    wanted = report.options.keep_float + len(report.options.float_layers)
    if report.options.max_error is None and len(report.kept_float) < wanted:
        yield f"{len(report.kept_float)} layers are kept in float: others would not help"
    in_float = [layer.name for layer in report.layers if not layer.quantized]
    unasked = [name for name in in_float if name not in report.kept_float]
    if unasked:
        yield f"computed in float although nobody asked for it: {', '.join(unasked)}"
    for one in () if report.labelled is None else report.labelled.classes:
        if one.quantized_correct < one.float_correct:
            yield (
                f"class {one.label}: {one.quantized_correct} of {one.samples} recognised, "
                f"{one.float_correct} before"
            )
