"""Frontend *tflite*: TensorFlow Lite (LiteRT) files, float and integer.

Source: ``schema.fbs`` of TensorFlow Lite and its quantisation specification,
https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlopsc.frontends.base import (
    Array,
    Exported,
    LoadOptions,
    Original,
    RawInput,
    versions_of,
)
from mlopsc.frontends.content import Content
from mlopsc.frontends.tensorflow import library
from mlopsc.frontends.tensorflow.indices import draw_indices, index_limits
from mlopsc.frontends.tflite.convert import to_onnx
from mlopsc.frontends.tflite.file import TfliteFile, read
from mlopsc.frontends.tflite.interpreter import Interpreter
from mlopsc.frontends.tflite.stages import split_ends
from mlopsc.schema.export import MODEL_FILE
from mlopsc.schema.lineage import Framework

TITLE = "TFLite (LiteRT)"
EXTRA = "tflite"
MODULES = ("tensorflow", "tf2onnx")
# Of the largest value of an output. A step of difference in a layer becomes a few in the outputs,
# and where weights alone are integers, TFLite rounds activations to 8 bits on the way. TFLite's own
# sets of kernels differ from each other: where they differ by more, twice that is the tolerance.
_TOLERANCE: Final = 0.05


def recognise(content: Content) -> str | None:
    """Return what it is: a flatbuffer with the identifier ``TFL3``."""
    return "TFLite model" if content.head[4:8] == b"TFL3" else None


def load(path: Path, options: LoadOptions) -> Original:
    """Load a file.

    Raises:
        SourceError: It is damaged, or is no model of inference alone.
        UnsafeSourceError: It calls operators that are code of its own.
    """
    return _Model(read(path, options.signature))


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return None: a TFLite model in memory is the bytes of a file."""
    del model, example, options
    return None


class _Model(Original):
    """A file, in TensorFlow's interpreter with the kernels that users get."""

    def __init__(self, file: TfliteFile) -> None:
        self.version = f"TensorFlow Lite of TensorFlow {library.import_tensorflow().__version__}"
        self.written_by = file.producer
        self.frameworks = (Framework(name="TFLite converter", version=file.producer),)
        self.configuration = file.facts
        self.tolerance = _TOLERANCE if file.is_quantised else None
        self._file = file
        self._interpreter = Interpreter(file)
        self._reference = Interpreter.of_reference(file)
        self._split = False
        self._limits: dict[str, int] = {}

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        path = folder / MODEL_FILE
        to_onnx(self._file, path)
        self._limits = index_limits(path)
        notes = self._file.notes
        converter = versions_of("tf2onnx")
        if not options.split:
            return Exported(path, notes=notes, converter=converter)
        ends = split_ends(self._file, folder)
        self._split = True
        return Exported(
            path,
            ends.preprocess,
            ends.postprocess,
            preprocessing=ends.preprocessing,
            postprocessing=ends.postprocessing,
            notes=notes,
            converter=converter,
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``; notes how far TFLite's reference kernels are."""
        found = self._interpreter.run(inputs, real=self._split)
        if self.tolerance is not None and self._reference is not None:
            other = self._reference.run(inputs, real=self._split)
            apart = max(_apart(found[name], other[name]) for name in found)
            self.tolerance = max(self.tolerance, 2 * apart)
        return found

    def draw(
        self, rng: np.random.Generator, inputs: Sequence[RawInput], *, last: bool
    ) -> dict[str, Array]:
        """Draw real values over the range that the integers of an input can hold."""
        drawn = draw_indices(rng, super().draw(rng, inputs, last=last), self._limits)
        quantised = {t.name: t for t in self._file.inputs if t.scale is not None}
        for given in inputs:
            tensor = quantised.get(given.name)
            if tensor is not None and given.dtype == "float32":
                drawn[given.name] = _over_range(rng, tensor, given.shape)
        return drawn


def _apart(one: Array, other: Array) -> float:
    """Return the largest difference, relative to the largest value of ``one``."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(a).max(initial=0.0), 1e-30))


def _over_range(rng: np.random.Generator, tensor: Any, shape: tuple[int, ...]) -> Array:
    low, high = tensor.range
    return rng.uniform(low, high, shape).astype(np.float32)
