"""Pass *ExpandFunctions*: writes operators that ONNX defines as functions as their bodies.

Requires: inferred types (bodies may depend on them). Ensures: a function of ONNX's operator set
stays only if it is itself a core operator. Source: the function bodies of the op schemas.
"""

from __future__ import annotations

import onnx
import onnx.inliner

from mlopsc.core_ops import CORE_OPS, EXPANDED_OPS

# Folded when their inputs are constant, which they always are in the normal form; their bodies hold
# loops.
_FOLDABLE = ("Range",)


def expand_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``proto`` with model-local and operator-set functions inlined.

    Functions whose body cannot be derived from what is known are left for the check to name.
    """
    kept = [("", name) for name in (*CORE_OPS, *EXPANDED_OPS, *_FOLDABLE)]
    try:
        return onnx.inliner.inline_selected_functions(
            proto, kept, exclude=True, inline_schema_functions=True
        )
    except (RuntimeError, ValueError):
        return proto
