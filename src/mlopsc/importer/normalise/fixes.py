"""How users can do without operators whose inputs or outputs no compiled library can have."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

STRINGS: Final = "encode strings as integers before the model, and export the model from there"
# By domain and operator.
FIXES: Final[dict[tuple[str, str], str]] = {
    ("ai.onnx.ml", "CastMap"): "feed the values of the map as a tensor",
    ("ai.onnx.ml", "CategoryMapper"): STRINGS,
    ("ai.onnx.ml", "DictVectorizer"): "feed the dense matrix that DictVectorizer makes",
    ("ai.onnx.ml", "ZipMap"): "export plain probabilities (skl2onnx: options={'zipmap': False}), "
    "or make what ZipMap takes the model's output",
}


def fix_for(value: ir.Value) -> str | None:
    """Return the fix for a value that is no tensor, by the operators that make or take it."""
    nodes = [value.producer(), *(node for node, _ in value.uses())]
    known = (FIXES.get((node.domain, node.op_type)) for node in nodes if node is not None)
    return next((fix for fix in known if fix is not None), None)
