"""How small element types pass in and out of the reference runtime.

NumPy has no types of its own for them, so they pass as wider ones, which hold their values exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from mlopsc.dtypes import BY_ONNX_CODE, SMALL

_SATURATING: Final = range(TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2FNUZ + 1)


@dataclass(frozen=True)
class Widened:
    """An input or output that passes as a wider type.

    Attributes:
        name: Of the value before.
        dtype: Its type.
        wide: The type that it passes as.
    """

    name: str
    dtype: str
    wide: str


def widen_signature(model: bytes) -> tuple[bytes, dict[str, Widened]]:
    """Let inputs and outputs of small types pass through a Cast to a type that NumPy knows.

    Returns:
        The model, and what was widened, by its new name.
    """
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    widened: dict[str, Widened] = {}
    constants = {tensor.name for tensor in graph.initializer}
    for values, is_input in ((graph.input, True), (graph.output, False)):
        for value in values:
            code = value.type.tensor_type.elem_type
            wide = _wider(code)
            if wide is None or value.name in constants:
                continue
            name, passed = value.name, f"{value.name}__wide"
            wide_code = helper.np_dtype_to_tensor_dtype(np.dtype(wide))
            value.name, value.type.tensor_type.elem_type = passed, wide_code
            widened[passed] = Widened(name, BY_ONNX_CODE[code].name, wide)
            if is_input:
                cast = helper.make_node("Cast", [passed], [name], to=code)
                if code in _SATURATING:
                    cast.attribute.append(helper.make_attribute("saturate", 0))  # infinities stay
                graph.node.insert(0, cast)
            else:
                graph.node.append(helper.make_node("Cast", [name], [passed], to=wide_code))
    return (proto.SerializeToString() if widened else model), widened


def run_widened(
    session: Any, widened: Mapping[str, Widened], feed: Mapping[str, np.ndarray[Any, Any]]
) -> Sequence[np.ndarray[Any, Any]]:
    """Run a session of ``widen_signature``'s model on the inputs of the model before, by name."""
    inputs = {}
    for name in (value.name for value in session.get_inputs()):
        as_is = name not in widened
        inputs[name] = feed[name] if as_is else feed[widened[name].name].astype(widened[name].wide)
    names = [value.name for value in session.get_outputs()]
    return [
        value.astype(widened[name].dtype) if name in widened else value
        for name, value in zip(names, session.run(names, inputs), strict=True)
    ]


def _wider(code: int) -> str | None:
    known = BY_ONNX_CODE.get(code)
    if known is None or known.name not in SMALL or known.name == "float16":
        return None
    return "float32" if known.is_float else known.held
