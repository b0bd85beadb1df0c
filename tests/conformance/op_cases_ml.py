"""Models of the operator set ``ai.onnx.ml``: see ``op_cases``."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import numpy_helper
from op_cases import Array, Case

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)  # of nodes_modes
AVERAGE, SUM, MIN, MAX = range(4)  # of aggregate_function
NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO, PROBIT = range(5)  # of post_transform
TREES = "ai.onnx.ml::TreeEnsemble"
FEATURES = 6


def features(key: str, rows: int, dtype: str = "float32", missing: bool = True) -> Array:
    """Return rows that often meet a split exactly, with NaN, infinities and signed zeros."""
    rng = np.random.default_rng(list(key.encode()))
    shape = (rows, FEATURES)
    x = rng.choice([0.0, -0.0, 1.0, -1.0, 2.0, 35.0, 0.3], shape)
    x = np.where(rng.random(shape) < 0.5, x, rng.normal(size=shape))
    if missing:
        x = np.where(rng.random(shape) < 0.2, rng.choice([np.nan, np.inf, -np.inf], shape), x)
    return x.astype(dtype)


class _Ensemble:
    """Random trees as the attributes of a ``TreeEnsemble``."""

    def __init__(self, key: str, modes: tuple[int, ...], targets: int) -> None:
        self._rng = np.random.default_rng(list(key.encode()))
        self._modes, self._targets = modes, targets
        self.nodes: list[list[Any]] = []  # feature, split, mode, missing, true, leaf, false, leaf
        self.leaves: list[tuple[int, float]] = []
        self.members: list[float] = []

    def grow(self, depth: int) -> tuple[int, int]:
        """Add a tree; return its root and whether that is a leaf."""
        rng = self._rng
        if depth == 0 or (self.nodes and rng.random() < 0.15):
            weight = rng.choice([rng.normal(), 0.25, -1.5])
            self.leaves.append((int(rng.integers(self._targets)), float(weight)))
            return len(self.leaves) - 1, 1
        number, mode = len(self.nodes), int(rng.choice(self._modes))
        split = rng.choice([rng.normal(), 0.0, 1.0, -1.0, 0.3])
        node = [int(rng.integers(FEATURES)), float(split), mode, int(rng.random() < 0.5)]
        self.nodes.append(node)
        if mode == MEMBER:
            some = rng.choice([0, 1, 2, 7, 30], int(rng.integers(1, 4)), replace=False)
            self.members += [*(float(v) for v in some), np.nan]
        node += [*self.grow(depth - 1), *self.grow(depth - 1)]
        return number, 0


def ensemble(
    key: str,
    trees: int,
    depth: int,
    *,
    modes: tuple[int, ...] = (LEQ,),
    targets: int = 1,
    dtype: str = "float32",
    **attributes: Any,
) -> dict[str, Any]:
    """Return the attributes of a ``TreeEnsemble`` of random trees."""
    made = _Ensemble(key, modes, targets)
    roots = []
    while len(roots) < trees:
        root, is_leaf = made.grow(depth)
        roots += [] if is_leaf else [root]
    columns = list(zip(*made.nodes, strict=True))

    def tensor(values: Any, kind: str = dtype) -> Any:
        return numpy_helper.from_array(np.array(values, kind))

    found = {
        "n_targets": targets,
        "tree_roots": roots,
        "nodes_featureids": columns[0],
        "nodes_splits": tensor(columns[1]),
        "nodes_modes": tensor(columns[2], "uint8"),
        "nodes_missing_value_tracks_true": columns[3],
        "nodes_truenodeids": columns[4],
        "nodes_trueleafs": columns[5],
        "nodes_falsenodeids": columns[6],
        "nodes_falseleafs": columns[7],
        "leaf_targetids": [target for target, _ in made.leaves],
        "leaf_weights": tensor([weight for _, weight in made.leaves]),
        **attributes,
    }
    return found | ({"membership_values": tensor(made.members)} if made.members else {})


def _trees() -> list[Case]:
    every = (LEQ, LT, GTE, GT, EQ, NEQ, MEMBER)

    def case(label: str, trees: int, depth: int, rows: int = 9, **how: Any) -> Case:
        inputs = (features(label, rows, how.get("dtype", "float32")),)
        return Case(TREES, label, inputs, attributes=ensemble(label, trees, depth, **how))

    return [
        case("hundred", 100, 4),
        case("one_row", 100, 3, rows=1),
        case("modes", 30, 4, modes=every),
        case("targets", 30, 4, modes=every, targets=3),
        case("float64", 30, 4, modes=every, targets=2, dtype="float64"),
        case("least", 9, 3, modes=every, targets=3, aggregate_function=MIN),
        case("largest", 9, 3, targets=5, aggregate_function=MAX),
        case("rarely", 1, 2, targets=7, aggregate_function=MAX, dtype="float64"),
        case("wide", 5, 13, dtype="float32"),
    ]


def cases() -> list[Case]:
    """Every case."""
    return _trees()
