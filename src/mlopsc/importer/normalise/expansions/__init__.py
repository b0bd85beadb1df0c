"""The expansions of composite operators, one file per family, in one table.

An expansion takes a ``Builder`` and returns a tensor per output (or the only one); it returns None
to leave the node alone and raises ``Refusal`` if it never can expand it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlopsc.importer.normalise.expansions import (
    arithmetic,
    determinant,
    grid,
    ml_features,
    ml_labels,
    ml_linear,
    ml_svm,
    ml_trees,
    movement,
    normalization,
    quantised,
    resize,
    selection,
    spectral,
    text,
    training,
)
from mlopsc.importer.normalise.expansions.builder import Expansion

Table = Mapping[tuple[str, str], Expansion]  # by domain and operator


def _table(*families: Mapping[str, Expansion], domain: str = "") -> Table:
    return {(domain, name): e for family in families for name, e in family.items()}


QUANTISED: Final[Table] = _table(quantised.EXPANSIONS)
COMPOSITE: Final[Table] = {
    **_table(
        arithmetic.EXPANSIONS,
        determinant.EXPANSIONS,
        grid.EXPANSIONS,
        movement.EXPANSIONS,
        normalization.EXPANSIONS,
        resize.EXPANSIONS,
        selection.EXPANSIONS,
        spectral.EXPANSIONS,
        text.EXPANSIONS,
    ),
    **_table(
        ml_features.EXPANSIONS,
        ml_labels.EXPANSIONS,
        ml_linear.EXPANSIONS,
        ml_svm.EXPANSIONS,
        ml_trees.EXPANSIONS,
        domain="ai.onnx.ml",
    ),
    **_table(training.EXPANSIONS, domain=training.DOMAIN),
}
EXPANSIONS: Final[Table] = {**COMPOSITE, **QUANTISED}
