"""An ``onnx.backend.base.Backend`` whose path is the real one: bundle, package, loaded library.

ONNX's official runner tests with it what ships for the ``host`` target. Inputs that decide shapes
(axes, sizes, pads) cannot be run-time inputs of a compiled library; ``run`` binds such an input to
the value it is given, and ``bound_inputs`` names it, so that those tests can be counted apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from mlopsc import pipeline
from mlopsc.errors import MlopscError
from mlopsc.importer import ImportOptions
from mlopsc.loader import Model, load
from mlopsc.schema.target import Generator

Array = np.ndarray[Any, Any]
TARGET = "host"


class MlopscRep(BackendRep):
    """A model that is compiled, or will be when its shape-deciding inputs are known."""

    def __init__(self, model: onnx.ModelProto, generator: Generator | None = None) -> None:
        """Compile ``model``, unless an input first has to be bound."""
        self._proto = model
        self._generator = generator
        self._model: Model | None = None
        self.bound_inputs: tuple[str, ...] = ()
        constants = {tensor.name for tensor in model.graph.initializer}
        self._names = [v.name for v in model.graph.input if v.name not in constants]
        try:
            self._model = _compile(model, self._generator)
        except MlopscError as error:
            self._pending = error
            if not set(_run_time_inputs(error)) & set(self._names):
                raise

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Run on ``inputs``: a sequence in the model's order, or arrays by name.

        Returns:
            The outputs in the model's order, as a named tuple.
        """
        del kwargs
        if isinstance(inputs, Mapping):
            arrays = {name: np.asarray(value) for name, value in inputs.items()}
        else:
            given = inputs if isinstance(inputs, Sequence) else [inputs]
            arrays = dict(zip(self._names, (np.asarray(a) for a in given), strict=True))
        if self._model is None:
            self._bind(arrays)
        if self._model is None:
            raise self._pending
        outputs = self._model({k: v for k, v in arrays.items() if k not in self.bound_inputs})
        names = [value.name for value in self._proto.graph.output]
        return tuple(namedtupledict("Outputs", names)(*(outputs[name] for name in names)))

    def _bind(self, arrays: Mapping[str, Array]) -> None:
        """Turn the inputs that decide shapes into constants, one after the other, and compile."""
        model = onnx.ModelProto()
        model.CopyFrom(self._proto)
        while self._model is None:
            wanted = [n for n in _run_time_inputs(self._pending) if n in arrays]
            fresh = [name for name in wanted if name not in self.bound_inputs]
            if not fresh:
                return
            for name in fresh:
                kept = [value for value in model.graph.input if value.name != name]
                del model.graph.input[:]
                model.graph.input.extend(kept)
                model.graph.initializer.append(numpy_helper.from_array(arrays[name], name))
            self.bound_inputs += tuple(fresh)
            try:
                self._model = _compile(model, self._generator)
            except MlopscError as error:
                self._pending = error


def _run_time_inputs(error: MlopscError) -> tuple[str, ...]:
    """Return the inputs that would have to be constants."""
    found = [n for e in (error, *error.also) for n in getattr(e, "run_time_inputs", ())]
    return tuple(dict.fromkeys(found))


def _compile(model: onnx.ModelProto, generator: Generator | None) -> Model:
    """Import, build for the host and load, all in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="mlopsc-backend-") as name:
        folder = Path(name)
        source = folder / "model.onnx"
        source.write_bytes(model.SerializeToString())
        pipeline.build(
            source,
            [TARGET],
            folder / "out",
            options=ImportOptions(name="model"),
            generator=generator,
        )
        return load(folder / "out" / TARGET)


class MlopscBackend(Backend):
    """See the module's docstring."""

    @classmethod
    def prepare(
        cls,
        model: onnx.ModelProto,
        device: str = "CPU",
        generator: Generator | None = None,
        **kwargs: Any,
    ) -> MlopscRep:
        """Compile ``model`` for this machine, with the target's kernel generator or another."""
        del device, kwargs
        return MlopscRep(model, generator)

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Array, ...]:
        """Compile and run once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether ``device`` is the CPU."""
        return bool(Device(device).type == DeviceType.CPU)


prepare = MlopscBackend.prepare
run_model = MlopscBackend.run_model
supports_device = MlopscBackend.supports_device
