"""Runs a TFLite file in TensorFlow's interpreter.

TFLite has sets of kernels that round differently. What users get by default (XNNPACK where it has
the operator) rounds once, as mlopsc does; the reference kernels round twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mlopsc.frontends.base import Array, CannotRun
from mlopsc.frontends.tensorflow.library import import_tensorflow
from mlopsc.frontends.tflite.file import Tensor, TfliteFile


class Interpreter:
    """The original."""

    def __init__(self, file: TfliteFile, *, reference: bool = False) -> None:
        """Open ``file``, which was verified, with the default or the reference kernels."""
        tf = import_tensorflow()
        kinds = tf.lite.experimental.OpResolverType
        self._file = file
        self._interpreter = tf.lite.Interpreter(
            model_content=file.path.read_bytes(),
            experimental_op_resolver_type=kinds.BUILTIN_REF if reference else kinds.BUILTIN,
            num_threads=1,
        )
        self._shapes: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def of_reference(cls, file: TfliteFile) -> Interpreter | None:
        """Open ``file`` with the reference kernels; None if they lack an operator's version."""
        try:
            return cls(file, reference=True)
        except (ValueError, RuntimeError):  # the default kernels run it: it is not damaged
            return None

    def run(self, inputs: Mapping[str, Array], *, real: bool) -> dict[str, Array]:
        """Return the outputs.

        Args:
            inputs: By name.
            real: Whether quantised inputs and outputs are real values, float32.

        Raises:
            CannotRun: The interpreter fails.
        """
        arrays = [inputs[tensor.name] for tensor in self._file.inputs]
        try:
            self._resize([array.shape for array in arrays])
            for tensor, array in zip(self._file.inputs, arrays, strict=True):
                quantised = real and tensor.scale is not None
                value = quantise(array, tensor) if quantised else array
                self._interpreter.set_tensor(tensor.index, value)
            self._interpreter.invoke()
            found = {t.name: self._interpreter.get_tensor(t.index) for t in self._file.outputs}
        except (ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise CannotRun(f"TensorFlow Lite fails: {text[:200]}") from error
        if real:
            for tensor in self._file.outputs:
                if tensor.scale is not None:
                    found[tensor.name] = dequantise(found[tensor.name], tensor)
        return found

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        if self._shapes == tuple(shapes):
            return
        for tensor, shape in zip(self._file.inputs, shapes, strict=True):
            self._interpreter.resize_tensor_input(tensor.index, list(shape))
        self._interpreter.allocate_tensors()
        self._shapes = tuple(shapes)


def quantise(array: Array, tensor: Tensor) -> Array:
    """Return integers of real values, as ``QuantizeLinear`` makes them."""
    info = np.iinfo(tensor.dtype)
    scaled = np.rint(array / np.float32(tensor.scale)) + tensor.zero_point
    made: Array = np.clip(scaled, info.min, info.max).astype(tensor.dtype)
    return made


def dequantise(array: Array, tensor: Tensor) -> Array:
    """Return the real values of integers."""
    return (array.astype(np.int32) - tensor.zero_point).astype(np.float32) * np.float32(
        tensor.scale
    )
