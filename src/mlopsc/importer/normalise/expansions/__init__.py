"""The expansions of composite operators, one file per family, in one table.

An expansion takes a ``Builder`` and returns a tensor per output (or the only one); it returns None
to leave the node alone and raises ``Refusal`` if it never can expand it.
"""

from __future__ import annotations

from typing import Final

from mlopsc.importer.normalise.expansions import (
    arithmetic,
    ml_features,
    ml_labels,
    ml_linear,
    ml_svm,
    ml_trees,
    resize,
)
from mlopsc.importer.normalise.expansions.builder import Expansion

# By domain and operator.
EXPANSIONS: Final[dict[tuple[str, str], Expansion]] = {
    (domain, name): expansion
    for domain, families in (
        ("", (arithmetic, resize)),
        ("ai.onnx.ml", (ml_features, ml_labels, ml_linear, ml_svm, ml_trees)),
    )
    for family in families
    for name, expansion in family.EXPANSIONS.items()
}
