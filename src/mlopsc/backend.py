"""An ``onnx.backend.base.Backend`` whose path is the real one: bundle, package, loaded library.

ONNX's official runner tests with it what ships for the ``host`` target. Inputs that decide shapes
(axes, sizes, pads) or are strings cannot be run-time inputs of a compiled library; ``run`` binds
such an input to the value it is given, and ``bound_inputs`` names it, so that those tests can be
counted apart. Open dimensions get the sizes of the arrays. A sequence or optional is bound to how
many tensors it holds; the tensors themselves stay inputs.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from mlopsc import pipeline
from mlopsc.errors import InputError, MlopscError
from mlopsc.importer.normalise.sequence_inputs import (
    Content,
    element_names,
    flatten_inputs,
    is_tensor,
)
from mlopsc.loader import Model, load
from mlopsc.schema.build_options import BuildOptions
from mlopsc.schema.import_options import ImportOptions
from mlopsc.schema.target import Generator

Array = np.ndarray[Any, Any]
TARGET = "host"


class MlopscRep(BackendRep):
    """A model that is compiled, or will be when what decides its shapes is known.

    Attributes:
        bound_inputs: Inputs that were bound to the values of the last run.
    """

    def __init__(self, model: onnx.ModelProto, generator: Generator | None = None) -> None:
        """Compile ``model``, unless sizes or inputs first have to be bound."""
        self._proto = model
        self._generator = generator
        self._model: Model | None = None
        self._bound: dict[str, Array] = {}
        self._contents: dict[str, Content] = {}
        self._deciding: tuple[str, ...] = ()
        constants = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [v for v in model.graph.input if v.name not in constants]
        self._containers = [v.name for v in self._inputs if not is_tensor(v)]
        open_sizes = (not d.HasField("dim_value") for v in self._inputs for d in _dimensions(v))
        if self._containers or any(open_sizes):
            return
        try:
            self._model = _compile(model, generator)
        except MlopscError as error:
            self._deciding = _run_time_inputs(error)
            if not self._deciding:
                raise

    @property
    def bound_inputs(self) -> tuple[str, ...]:
        """See the class."""
        return (*self._bound, *self._contents)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Run on ``inputs``: a sequence in the model's order, or arrays by name.

        Returns:
            The outputs in the model's order, as a named tuple.

        Raises:
            MlopscError: The inputs do not fit, or the model cannot be compiled for them.
        """
        del kwargs
        names = [value.name for value in self._inputs]
        if isinstance(inputs, Mapping):
            values = dict(inputs)
        else:
            given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
            if len(given) != len(names):
                raise InputError(f"got {len(given)} inputs; expected {len(names)}: {names}")
            values = dict(zip(names, given, strict=True))
        contents = {n: _content(values[n]) for n in self._containers if n in values}
        arrays = {n: np.asarray(v) for n, v in values.items() if n not in contents}
        for name, content in contents.items():
            held = values[name] if isinstance(content, list) else [values[name]]
            made = zip(element_names(name, content), held, strict=False)
            arrays |= {n: np.asarray(element) for n, element in made}
        model = self._model
        if model is None or contents != self._contents or not self._fits(model, arrays):
            self._contents = contents
            model = self._model = self._compile_for(arrays)
        outputs = model({k: v for k, v in arrays.items() if k not in self._bound})
        results = [_held(outputs, value) for value in self._proto.graph.output]
        names = [value.name for value in self._proto.graph.output]
        result: tuple[Array, ...] = namedtupledict("Outputs", names)(*results)
        return result

    def _fits(self, model: Model, arrays: Mapping[str, Array]) -> bool:
        """Whether what was compiled is for arrays of these shapes and for these bound values."""
        shapes = {spec.name: spec.shape for spec in model.inputs}
        fixed = {
            v.name for v in self._inputs if all(d.HasField("dim_value") for d in _dimensions(v))
        }
        return all(
            (name in fixed or name not in shapes or array.shape == shapes[name])
            and (name not in self._bound or _same(array, self._bound[name]))
            for name, array in arrays.items()
        )

    def _compile_for(self, arrays: Mapping[str, Array]) -> Model:
        """Give open dimensions the arrays' sizes, make deciding inputs constants, and compile."""
        model = flatten_inputs(self._proto, self._contents)
        for value in model.graph.input:
            shape = arrays[value.name].shape if value.name in arrays else ()
            for dim, size in zip(_dimensions(value), shape, strict=False):
                if not dim.HasField("dim_value"):
                    dim.dim_value = size
        self._bound = {}
        deciding = self._deciding
        while True:
            for name in deciding:
                if name in arrays:
                    _bind(model, name, arrays[name])
                    self._bound[name] = arrays[name].copy()
            try:
                return _compile(model, self._generator)
            except MlopscError as error:
                deciding = tuple(n for n in _run_time_inputs(error) if n not in self._bound)
                if not set(deciding) & set(arrays):
                    raise


def _content(value: Any) -> Content:
    """Return what an input holds: the types of a list's tensors, that of one, or None."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_type(np.asarray(element)) for element in value]
    return _type(np.asarray(value))


def _type(array: Array) -> onnx.TypeProto:
    dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_type_proto(dtype, array.shape)


def _held(outputs: Mapping[str, Array], value: onnx.ValueInfoProto) -> Any:
    """Return an output as the model declares it: a tensor, a list of tensors, or None."""
    if value.name in outputs or is_tensor(value):
        return outputs[value.name]
    names = (f"{value.name}_{k}" for k in itertools.count())
    held = [outputs[name] for name in itertools.takewhile(outputs.__contains__, names)]
    return held if held or value.type.HasField("sequence_type") else None


def _dimensions(value: onnx.ValueInfoProto) -> Any:
    return value.type.tensor_type.shape.dim


def _same(one: Array, two: Array) -> bool:
    if (one.dtype, one.shape) != (two.dtype, two.shape):
        return False
    if one.dtype == object:  # strings
        return bool((one == two).all())
    return one.tobytes() == two.tobytes()


def _bind(model: onnx.ModelProto, name: str, array: Array) -> None:
    kept = [value for value in model.graph.input if value.name != name]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    plain = array.astype(object) if array.dtype.kind == "U" else array
    model.graph.initializer.append(numpy_helper.from_array(plain, name))


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
            how=BuildOptions(generator=generator),
            cache=False,  # test suites bring thousands of models
            logged=False,
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
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether ``model`` can be imported, perhaps after binding what ``bound_inputs`` names."""
        del kwargs
        if not cls.supports_device(device):
            return False
        with tempfile.TemporaryDirectory(prefix="mlopsc-backend-") as folder:
            source = Path(folder) / "model.onnx"
            source.write_bytes(model.SerializeToString())
            problems = pipeline.check_model(source, ImportOptions()).problems
        return all(_run_time_inputs(problem) for problem in problems)

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Array, ...]:
        """Compile and run once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Array, ...]:
        """Compile and run a model of one node.

        Args:
            node: The node.
            inputs: An array for each input that the node names.
            device: As in ``prepare``.
            outputs_info: Type and shape of each output; inferred by default.
            kwargs: ``opset_version``, and what ``prepare`` takes.
        """
        opset = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        names = [name for name in node.input if name]
        arrays = {n: np.asarray(v) for n, v in zip(names, inputs, strict=True)}
        model = _one_node(node, arrays, outputs_info, opset)
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether ``device`` is the CPU."""
        return bool(Device(device).type == DeviceType.CPU)


def _one_node(
    node: onnx.NodeProto,
    arrays: Mapping[str, Array],
    outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None,
    opset: int,
) -> onnx.ModelProto:
    """Return a model of ``node``, whose inputs are like ``arrays``."""
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in arrays.items()
    ]
    if outputs_info is None:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            {value.name: value.type for value in inputs},
            {name: numpy_helper.from_array(array, name) for name, array in arrays.items()},
            opset_imports=[helper.make_opsetid(node.domain, opset)],
        )
        outputs = [helper.make_value_info(name, found[name]) for name in node.output if name]
    else:
        outputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
            for name, (dtype, shape) in zip(node.output, outputs_info, strict=True)
        ]
    graph = helper.make_graph([node], "node", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, opset)])


is_compatible = MlopscBackend.is_compatible
prepare = MlopscBackend.prepare
run_model = MlopscBackend.run_model
run_node = MlopscBackend.run_node
supports_device = MlopscBackend.supports_device
