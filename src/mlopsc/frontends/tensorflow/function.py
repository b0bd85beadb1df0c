"""Functions that are in memory: concrete functions, and what becomes one with an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlopsc.errors import SourceError
from mlopsc.frontends.base import Array
from mlopsc.frontends.tensorflow.graph import (
    FrozenGraph,
    Tensor,
    dtype_name,
    readable,
    sizes_of,
)
from mlopsc.frontends.tensorflow.library import import_tensorflow
from mlopsc.frontends.tensorflow.operators import refuse_state


class Function:
    """A concrete function with flat inputs and outputs.

    Attributes:
        inputs: In the order in which it takes them.
        outputs: In the order in which it gives them.
    """

    def __init__(
        self,
        concrete: Any,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> None:
        """Take a concrete function, and names of its inputs and outputs other than its own."""
        self._concrete = concrete
        captured = {id(tensor) for tensor in concrete.graph.internal_captures}
        taken = [t for t in concrete.inputs if id(t) not in captured]
        self._taken = [tensor.name for tensor in taken]
        self.inputs = _named(taken, inputs or [readable(t.op.name) for t in taken])
        given = list(concrete.outputs)
        self.outputs = _named(given, outputs or _output_names(concrete))

    def freeze(self) -> FrozenGraph:
        """Return the graph with its variables as constants."""
        from tensorflow.python.framework import convert_to_constants

        refuse_state(self._concrete.graph.as_graph_def(), "the model")
        done = convert_to_constants.convert_variables_to_constants_v2(
            self._concrete, lower_control_flow=False, aggressive_inlining=True
        )
        places = {t.name for t in done.inputs}
        graph_def = done.graph.as_graph_def()
        inputs = []
        for tensor in self.inputs:
            if tensor.place not in places:  # nothing reads it
                _add_placeholder(graph_def, tensor)
            inputs.append(tensor)
        outputs = tuple(
            Tensor(tensor.name, found.name, tensor.dtype, tensor.shape)
            for tensor, found in zip(self.outputs, done.outputs, strict=True)
        )
        return FrozenGraph(graph_def, tuple(inputs), outputs)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs."""
        tf = import_tensorflow()
        values = [tf.constant(inputs[t.name], tf.as_dtype(t.dtype)) for t in self.inputs]
        answers = tf.nest.flatten(self._concrete(*values), expand_composites=True)
        return {t.name: answer.numpy() for t, answer in zip(self.outputs, answers, strict=True)}


def function_of(model: Any, example: Any) -> Function:
    """Return the function of a ``tf.function``, ``tf.Module`` or concrete function.

    Raises:
        SourceError: It needs an example, or cannot be called with it.
    """
    tf = import_tensorflow()
    if hasattr(model, "inputs") and hasattr(model, "graph"):
        return Function(model)
    arguments = example if isinstance(example, (tuple, list)) else (example,)
    if example is None:
        arguments = ()
        if getattr(model, "input_signature", None) is None:
            raise SourceError(
                "the function has no input signature, so an example of its inputs is needed",
                hint="give one: mlopsc.import_model(f, 'f.mlb', example=array)",
            )
    call = model if hasattr(model, "get_concrete_function") else tf.function(model.__call__)
    try:
        specs = [tf.TensorSpec.from_tensor(tf.convert_to_tensor(a)) for a in arguments]
        return Function(call.get_concrete_function(*specs))
    except (ValueError, TypeError, tf.errors.OpError) as error:
        text = " ".join(str(error).split())
        raise SourceError(f"the function does not take the example: {text[:300]}") from error


def _named(tensors: Sequence[Any], names: Sequence[str]) -> tuple[Tensor, ...]:
    unique: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in unique:
            number += 1
            candidate = f"{name}_{number}"
        unique.append(candidate)
    return tuple(
        Tensor(name, tensor.name, dtype_name(tensor.dtype), sizes_of(tensor.shape))
        for name, tensor in zip(unique, tensors, strict=True)
    )


def _output_names(concrete: Any) -> list[str]:
    """Return the keys of a dict that is given, else ``output``, ``output_2``."""
    given = concrete.structured_outputs
    if isinstance(given, dict) and len(given) == len(concrete.outputs):
        return [readable(str(key)) for key in sorted(given)]
    return ["output"] * len(concrete.outputs)


def _add_placeholder(graph_def: Any, tensor: Tensor) -> None:
    tf = import_tensorflow()
    node = graph_def.node.add(name=tensor.place.partition(":")[0], op="Placeholder")
    node.attr["dtype"].type = tf.as_dtype(tensor.dtype).as_datatype_enum
