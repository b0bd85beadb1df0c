"""What steps are written with: nodes of a graph, made of values.

Ensures: the same calls give the same graph, byte for byte; every value has a type and a shape whose
sizes are known, but for the first, which may be the name of the batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

from mlopsc.dtypes import BY_ONNX_CODE, DTYPES
from mlopsc.labels import METADATA_KEY
from mlopsc.schema.step_types import OWN
from mlopsc.steps.value import STRING, Refusal, Shape, Value

Array = np.ndarray[Any, Any]
OPSET: Final = 21  # of the importer's normal form
ML: Final = "ai.onnx.ml"
_ML_OPSET: Final = 4
_IR_VERSION: Final = 10  # what every reference runtime accepts that knows the opset
_OPSETS: Final = (helper.make_opsetid("", OPSET), helper.make_opsetid(ML, _ML_OPSET))
# What the schemas of operators call types, where that is not NumPy's name.
_ONNX_NAMES: Final = {"float32": "float", "float64": "double", "float8_e4m3fn": "float8e4m3fn",
    "float8_e4m3fnuz": "float8e4m3fnuz", "float8_e5m2": "float8e5m2",
    "float8_e5m2fnuz": "float8e5m2fnuz", "float8_e8m0fnu": "float8e8m0",
    "float4_e2m1fn": "float4e2m1"}  # fmt: skip


Operand = Value | Array | int | float | None


class Graph:
    """A graph under construction.

    Attributes:
        prefix: What the names of new nodes begin with.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.prefix = "graph"
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._count = 0

    def input(self, name: str, dtype: str, shape: Shape, layout: str | None) -> Value:
        """Add an input."""
        value = Value(name, dtype, shape, layout)
        self._inputs.append(_info(value))
        return value

    def constant(self, elements: Any, dtype: str | None = None) -> Value:
        """Return a constant of ``elements``, in their own type by default."""
        array = np.array(elements, None if dtype is None else np.dtype(dtype), order="C")
        name = self._name("constant")
        self._constants[name] = numpy_helper.from_array(array, name)
        return Value(name, array.dtype.name, array.shape)

    def op(
        self, op_type: str, *inputs: Operand, layout: str | None = None, **attributes: Any
    ) -> Value:
        """Add a node and return its first output, with ``layout`` or that of the first input.

        Numbers become constants of the type of the first input; arrays keep their type. The layout
        of the first input is kept where the rank is.
        """
        return self.several(op_type, inputs, 1, layout=layout, **attributes)[0]

    def several(
        self,
        op_type: str,
        inputs: Sequence[Operand],
        count: int,
        *,
        domain: str = "",
        layout: str | None = None,
        **attributes: Any,
    ) -> list[Value]:
        """Add a node and return its first ``count`` outputs, as ``op`` does."""
        first = next(x for x in inputs if isinstance(x, Value))
        given = [self._value(x, first.dtype) for x in inputs]
        name = self._name(op_type.lower())
        outputs = [name] if count == 1 else [f"{name}_{k}" for k in range(count)]
        names = [x.name if x else "" for x in given]
        node = helper.make_node(op_type, names, outputs, name, domain=domain, **attributes)
        self._nodes.append(node)
        schema = onnx.defs.get_schema(op_type, _ML_OPSET if domain else OPSET, domain)
        _check_types(schema.inputs, given)
        types = infer_node_outputs(
            schema,
            node,
            {x.name: _type(x) for x in given if x},
            {x.name: self._constants[x.name] for x in given if x and x.name in self._constants},
            opset_imports=list(_OPSETS),
            ir_version=_IR_VERSION,
        )
        made = [_from_type(output, types[output], first) for output in outputs]
        _check_types(schema.outputs, made)
        return [
            replace(v, layout=layout or (first.layout if v.rank == first.rank else None))
            for v in made
        ]

    def loop(self, count: int, carried: Value, names: Sequence[str], stacked: Sequence[Value],
             nodes: Sequence[onnx.NodeProto]) -> list[Value]:  # fmt: skip
        """Add a ``Loop`` of ``count`` iterations; return what it stacks.

        Args:
            count: Iterations.
            carried: The value before the first.
            names: Of the carried value at the beginning and at the end of an iteration.
            stacked: What an iteration gives, with its shape.
            nodes: The iteration.
        """
        name = self._name("loop")
        before, after = (Value(n, carried.dtype, carried.shape) for n in names)
        ends = [f"{name}_{what}" for what in ("number", "going", "still")]
        number, going, still = (
            Value(n, kind, ()) for n, kind in zip(ends, ("int64", "bool", "bool"), strict=True)
        )
        body = helper.make_graph(
            [helper.make_node("Identity", [going.name], [still.name], f"{name}_go"), *nodes],
            f"{name}_body",
            [_info(v) for v in (number, going, before)],
            [_info(v) for v in (still, after, *stacked)],
        )
        outputs = [f"{name}_{k}" for k in range(len(stacked))]
        inputs = [self.constant(count, "int64").name, self.constant(True).name, carried.name]
        self._nodes.append(
            helper.make_node("Loop", inputs, [f"{name}_last", *outputs], name, body=body)
        )
        return [
            Value(output, v.dtype, (count, *v.shape))
            for output, v in zip(outputs, stacked, strict=True)
        ]

    @contextmanager
    def body(self) -> Iterator[list[onnx.NodeProto]]:
        """Yield a list; the nodes that are added in the block go there, constants to the graph."""
        outer, self._nodes = self._nodes, []
        try:
            yield self._nodes
        finally:
            self._nodes = outer

    def placeholder(self, like: Value) -> Value:
        """Return a value of a new name: what an iteration of a loop begins with."""
        return Value(self._name("carried"), like.dtype, like.shape)

    def finish(
        self,
        outputs: Sequence[tuple[str, Value]],
        metadata: dict[str, str],
        producer: str,
        version: str,
    ) -> bytes:
        """Return the serialised model; ``outputs`` are names with values."""
        named = []
        for name, value in outputs:
            self._nodes.append(helper.make_node("Identity", [value.name], [name], f"give_{name}"))
            named.append(_info(Value(name, value.dtype, value.shape, labels=value.labels)))
        graph = helper.make_graph(
            self._nodes, "steps", self._inputs, named, list(self._constants.values())
        )
        domains = {"", *(node.domain for node in self._nodes)}
        model = helper.make_model(
            graph,
            opset_imports=[entry for entry in _OPSETS if entry.domain in domains],
            ir_version=_IR_VERSION,
            producer_name=producer,
            producer_version=version,
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _value(self, operand: Operand, dtype: str) -> Value | None:
        if operand is None or isinstance(operand, Value):
            return operand
        return self.constant(operand if isinstance(operand, np.ndarray) else exact(operand, dtype))

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{OWN}{self.prefix}/{what}_{self._count}"

    # What several families of steps need.

    def cast(self, x: Value, dtype: str) -> Value:
        """Return ``x`` in another type.

        Raises:
            Refusal: It holds strings.
        """
        if x.dtype == STRING:
            raise Refusal(f"the value is {x}; expected numbers", "leave out the labels before")
        return x if x.dtype == dtype else self.op("Cast", x, to=DTYPES[dtype].onnx)

    def as_float(self, x: Value) -> Value:
        """Return ``x`` in the type that steps compute in: float32, or float64 if it is that."""
        return x if x.dtype == "float64" else self.cast(x, "float32")

    def number_like(self, x: Value, number: float, what: str) -> Array:
        """Return ``number`` in the type of ``x``.

        Raises:
            Refusal: The type has no such number.
        """
        if x.dtype == "bool":
            raise Refusal(f"the value is {x}; expected numbers", "cast it first")
        if x.is_integer:
            limits = ml_dtypes.iinfo(x.dtype)  # type: ignore[no-untyped-call]
            if number != int(number) or not limits.min <= number <= limits.max:
                raise Refusal(
                    f"{what} is {number:g} and the value is {x}; expected an integer from "
                    f"{limits.min} to {limits.max}",
                    "cast it to float32 first",
                )
            return np.array(int(number), x.dtype)
        return exact(number, x.dtype)

    def part(self, x: Value, axis: int, start: int, stop: int) -> Value:
        """Return ``start`` to ``stop`` along an axis."""
        axis = x.axis(axis)
        if (start, stop) == (0, x.size(axis)):
            return x
        return self.op("Slice", x, *(np.array([n], np.int64) for n in (start, stop, axis)))

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """Return the axes in another order."""
        layout = x.layout and "".join(x.layout[a] for a in order)
        if list(order) == list(range(x.rank)):
            return x
        return self.op("Transpose", x, perm=list(order), layout=layout)

    def reshape(self, x: Value, shape: Shape, layout: str | None = None) -> Value:
        """Return the elements in another shape; a name at the front stays what it is."""
        sizes = [0 if isinstance(size, str) else size for size in shape]
        made = self.op("Reshape", x, np.array(sizes, np.int64))
        return Value(made.name, made.dtype, shape, layout)

    def look_up(self, places: Value, labels: Sequence[str], default: str = "") -> Value:
        """Return the string for each place; ``default`` for places that have none."""
        (made,) = self.several(
            "LabelEncoder", [places], 1, domain=ML, keys_int64s=list(range(len(labels))),
            values_strings=list(labels), default_string=default,
        )  # fmt: skip
        table = tuple(dict.fromkeys((*labels, default)))
        return Value(made.name, made.dtype, made.shape, places.layout, table)


def exact(numbers: Any, dtype: str) -> Array:
    """Return ``numbers`` in a type that has the range for them.

    Raises:
        Refusal: It has not.
    """
    wide = np.array(numbers)
    with np.errstate(over="ignore", under="ignore"):
        made = wide.astype(np.dtype(dtype))
    if not np.isfinite(made).all() or ((made == 0) & (wide != 0)).any():
        raise Refusal(f"{numbers} is beyond what {dtype} holds", "cast to float64 first")
    return made


def _check_types(
    formal: Sequence[onnx.defs.OpSchema.FormalParameter], values: Sequence[Value | None]
) -> None:
    """Refuse an element type that the operator does not take or give.

    Raises:
        Refusal: There is one.
    """
    for place, value in enumerate(values):
        allowed = formal[min(place, len(formal) - 1)].types  # the last may stand for several
        if value is None:
            continue
        if f"tensor({_ONNX_NAMES.get(value.dtype, value.dtype)})" not in allowed:
            raise Refusal(f"the value is {value}, a type that it cannot be done with",
                          "cast it to float32 or int32 first")  # fmt: skip


def _type(value: Value) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(_code(value.dtype), value.shape)


def _code(dtype: str) -> int:
    return int(onnx.TensorProto.STRING) if dtype == STRING else DTYPES[dtype].onnx


def _info(value: Value) -> onnx.ValueInfoProto:
    info = helper.make_tensor_value_info(value.name, _code(value.dtype), value.shape)
    if value.labels is not None:
        entry = info.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, json.dumps(value.labels)
    return info


def _from_type(name: str, kind: onnx.TypeProto, first: Value) -> Value:
    """Return a value; where ONNX's inference loses the name of the batch, it is that of ``first``.

    Raises:
        ValueError: Another size is unknown.
    """
    code = kind.tensor_type.elem_type
    dtype = STRING if code == onnx.TensorProto.STRING else BY_ONNX_CODE[code].name
    shape: list[int | str] = []
    for axis, dim in enumerate(kind.tensor_type.shape.dim):
        batch = first.shape[0] if not axis and first.shape else 0
        size = dim.dim_value if dim.HasField("dim_value") else dim.dim_param
        if size == "" and not isinstance(batch, str):
            raise ValueError(f"the size of axis {axis} of '{name}' is unknown")
        shape.append(size if size != "" else batch)
    return Value(name, dtype, tuple(shape))
