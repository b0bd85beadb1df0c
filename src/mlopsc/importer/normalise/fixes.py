"""How users can do without operators whose inputs or outputs no compiled library can have."""

from __future__ import annotations

from typing import Final

import onnx

from mlopsc.errors import UnsupportedOpError

STRINGS: Final = (
    "let encoders alone take strings, or feed integers, or make what is computed with strings "
    "constant; mlopsc.backend binds inputs that are strings"
)
LABELS: Final = (
    "let nothing take the labels but what moves, compares or encodes them, or use integers"
)
# By domain and operator.
FIXES: Final[dict[tuple[str, str], str]] = {
    ("ai.onnx.ml", "CastMap"): "feed the values of the map as a tensor",
    ("ai.onnx.ml", "CategoryMapper"): STRINGS,
    ("ai.onnx.ml", "DictVectorizer"): "feed the dense matrix that DictVectorizer makes",
    ("ai.onnx.ml", "ZipMap"): "export plain probabilities (skl2onnx: options={'zipmap': False}), "
    "or make what ZipMap takes the model's output",
}


def refuse_maps(proto: onnx.ModelProto) -> None:
    """Refuse inputs and outputs that are maps or sequences of maps.

    Raises:
        UnsupportedOpError: There is one.
    """
    for value in (*proto.graph.input, *proto.graph.output):
        kind = value.type
        while kind.HasField("sequence_type"):
            kind = kind.sequence_type.elem_type
        if not kind.HasField("map_type"):
            continue
        around = [n for n in proto.graph.node if value.name in (*n.input, *n.output)]
        found = (FIXES.get((n.domain, n.op_type)) for n in around)
        raise UnsupportedOpError(
            f"'{value.name}' holds maps"
            + "".join(f", as {n.op_type} has them" for n in around[:1])
            + "; expected a tensor",
            hint=next((fix for fix in found if fix is not None), "export the model with tensors"),
        )
