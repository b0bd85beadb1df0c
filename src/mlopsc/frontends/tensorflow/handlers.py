"""Operators that tf2onnx does not know, in terms of ONNX's: its *custom op handlers*."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np


def _erfc(ctx: Any, node: Any, name: str, args: Any) -> None:
    """``1 - erf(x)``, which TensorFlow 2.21 makes of ``gelu``."""
    del name, args
    kind = ctx.get_dtype(node.output[0])
    one = ctx.make_const(f"{node.name}_one", np.asarray(1, _numpy(kind))).output[0]
    erf = ctx.make_node("Erf", [node.input[0]], dtypes=[kind])
    _replace(ctx, node, "Sub", [one, erf.output[0]])


def _replace(ctx: Any, node: Any, kind: str, inputs: list[str]) -> None:
    shapes, dtypes = node.output_shapes, node.output_dtypes
    ctx.remove_node(node.name)
    ctx.make_node(kind, inputs, name=node.name, outputs=node.output, shapes=shapes, dtypes=dtypes)


def _numpy(code: int) -> Any:
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(code)


HANDLERS: Final[Mapping[str, tuple[Callable[..., None], list[Any]]]] = {"Erfc": (_erfc, [])}
