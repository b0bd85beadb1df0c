"""How far a quantised model is from the float one: tensors, layers, decisions by class.

Both models run in the reference runtime, operator by operator: ``QuantizeLinear`` and
``DequantizeLinear`` as ONNX defines them, no integer kernels of a runtime in their place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from mlopsc.errors import QuantizationError
from mlopsc.reference import Reference
from mlopsc.schema.graph import StageGraph
from mlopsc.schema.quantize import ClassRecall, ErrorFigures, LabelledReport

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


@dataclass
class Difference:
    """Energies of a float tensor and of what quantisation changes in it, over all samples."""

    signal: float = 0.0
    noise: float = 0.0
    largest: float = 0.0

    def add(self, expected: Array, got: Array) -> None:
        """Take one sample into account."""
        wanted = np.asarray(expected, np.float64)
        apart = np.asarray(got, np.float64) - wanted
        self.signal += float(np.vdot(wanted, wanted))
        self.noise += float(np.vdot(apart, apart))
        self.largest = max(self.largest, float(np.abs(apart).max(initial=0.0)))

    @property
    def relative(self) -> float:
        """Root of noise over signal; 1 where there is noise and no signal."""
        if self.noise == 0.0:
            return 0.0
        return math.sqrt(self.noise / self.signal) if self.signal else 1.0

    def figures(self) -> ErrorFigures:
        """Return what a report says."""
        relative = self.relative
        sqnr = -20 * math.log10(relative) if relative and self.signal else None
        return ErrorFigures(relative_error=relative, sqnr_db=sqnr, max_absolute=self.largest)


def tapped(model: onnx.ModelProto, tensors: Iterable[str]) -> Reference:
    """Return a runtime that gives ``tensors`` beside the outputs of ``model``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {value.name for value in copy.graph.output}
    for name in dict.fromkeys(tensors):
        if name not in there:
            copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return Reference([StageGraph("model", copy.SerializeToString())], literal=True)


def compare_tensors(
    expected: Iterable[Arrays], got: Iterable[Arrays], pairs: Mapping[str, tuple[str, str]]
) -> dict[str, Difference]:
    """Return how far the tensors of two models are apart, by the keys of ``pairs``.

    Args:
        expected: What the float model computes, sample by sample.
        got: What the quantised model does.
        pairs: Names of the tensors to compare, in the first and in the second.

    Raises:
        QuantizationError: The float model gives values that are not finite.
    """
    found = {key: Difference() for key in pairs}
    for number, (wanted, answer) in enumerate(zip(expected, got, strict=True)):
        for key, (first, second) in pairs.items():
            if not np.isfinite(wanted[first]).all():
                raise QuantizationError(
                    f"the float model computes NaN or infinity for sample {number}, in '{first}'",
                    hint="take such samples out of the data, or mend the model",
                )
            found[key].add(wanted[first], answer[second])
    return found


@dataclass
class Decisions:
    """What two models decide on labelled samples."""

    labels: Sequence[int]
    expected: list[int] = field(default_factory=list)
    got: list[int] = field(default_factory=list)

    def report(self) -> LabelledReport:
        """Return accuracy, agreement and recall by class."""
        rows = list(zip(self.labels, self.expected, self.got, strict=True))
        classes = [
            ClassRecall(
                label=label,
                samples=sum(row[0] == label for row in rows),
                float_correct=sum(row[:2] == (label, label) for row in rows),
                quantized_correct=sum(row[::2] == (label, label) for row in rows),
            )
            for label in sorted(set(self.labels))
        ]
        return LabelledReport(
            samples=len(rows),
            float_correct=sum(c.float_correct for c in classes),
            quantized_correct=sum(c.quantized_correct for c in classes),
            agreeing=sum(row[1] == row[2] for row in rows),
            classes=tuple(classes),
        )
