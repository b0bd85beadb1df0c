"""Reads the attributes of tree operators of ``ai.onnx.ml`` into a ``Forest``."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.expansions.builder import Builder, Refusal
from mlopsc.importer.normalise.expansions.ml_forest import EQ, MEMBER, MODES, Forest, Node


def numbers(b: Builder, name: str, dtype: ir.DataType) -> list[float]:
    """Return float attribute ``name``, or the tensor ``name_as_tensor``, at the precision given."""
    tensor = b.attribute(f"{name}_as_tensor")
    if tensor is None:
        return [float(v) for v in np.array(b.attribute(name) or (), np.float32)]
    if tensor.dtype != dtype:
        raise Refusal(f"'{name}_as_tensor' is {tensor.dtype.name}, its input is {dtype.name}")
    return [float(v) for v in np.asarray(tensor.numpy()).reshape(-1)]


def _column(b: Builder, name: str, size: int) -> list[Any]:
    values = list(b.attribute(name) or ())
    if len(values) != size:
        raise Refusal(f"'{name}' has {len(values)} values; expected {size}")
    return values


def read_columns(b: Builder, prefix: str, dtype: ir.DataType) -> Forest:
    """Read a ``TreeEnsembleRegressor`` (prefix ``target``) or ``Classifier`` (``class``).

    Raises:
        Refusal: The columns contradict each other.
    """
    trees = list(b.attribute("nodes_treeids") or ())
    count = len(trees)
    names = _column(b, "nodes_nodeids", count)
    features = _column(b, "nodes_featureids", count)
    modes = [m.decode() if isinstance(m, bytes) else m for m in _column(b, "nodes_modes", count)]
    then, other = (_column(b, f"nodes_{way}nodeids", count) for way in ("true", "false"))
    splits = numbers(b, "nodes_values", dtype)
    missing = list(b.attribute("nodes_missing_value_tracks_true") or [0] * count)
    if len(splits) != count or len(missing) != count:
        raise Refusal(f"it has {count} nodes, {len(splits)} values and {len(missing)} tracks")
    places: dict[tuple[int, int], int] = {}
    nodes: list[int] = []
    leaves: list[int] = []
    for row, (key, mode) in enumerate(zip(zip(trees, names, strict=True), modes, strict=True)):
        if key in places:
            raise Refusal(f"node {key[1]} of tree {key[0]} is there twice")
        if mode != "LEAF" and mode not in MODES:
            raise Refusal(f"mode '{mode}' is unknown; expected LEAF or {', '.join(MODES)}")
        places[key] = ~len(leaves) if mode == "LEAF" else len(nodes)
        (leaves if mode == "LEAF" else nodes).append(row)
    firsts = [row for row in range(count) if row == 0 or trees[row] != trees[row - 1]]
    if len(firsts) != len(set(trees)):
        raise Refusal("the nodes of a tree are not together")

    def way(tree: int, name: int) -> int:
        if (tree, name) not in places:
            raise Refusal(f"tree {tree} has no node {name}")
        return places[tree, name]

    forest = Forest(
        [
            Node(
                features[row],
                MODES.index(modes[row]),
                splits[row],
                missing[row] == 1,
                way(trees[row], then[row]),
                way(trees[row], other[row]),
            )
            for row in nodes
        ],
        [[] for _ in leaves],
        [places[trees[row], names[row]] for row in firsts],
    )
    _read_weights(b, prefix, dtype, places, forest)
    return forest


def _read_weights(
    b: Builder, prefix: str, dtype: ir.DataType, places: dict[tuple[int, int], int], forest: Forest
) -> None:
    targets = list(b.attribute(f"{prefix}_ids") or ())
    weights = numbers(b, f"{prefix}_weights", dtype)
    trees = _column(b, f"{prefix}_treeids", len(targets))
    names = _column(b, f"{prefix}_nodeids", len(targets))
    if len(weights) != len(targets):
        raise Refusal(f"it has {len(weights)} weights for {len(targets)} '{prefix}_ids'")
    for key, target, weight in zip(zip(trees, names, strict=True), targets, weights, strict=True):
        if key not in places:
            raise Refusal(
                f"a weight is given for node {key[1]} of tree {key[0]}, which is not there"
            )
        if places[key] < 0:  # weights of other nodes count for nothing
            forest.leaves[~places[key]].append((target, weight))


def read_ensemble(b: Builder) -> Forest:
    """Read a ``TreeEnsemble``.

    Raises:
        Refusal: The columns contradict each other.
    """

    def array(name: str) -> list[float]:
        tensor = b.attribute(name)
        return [] if tensor is None else np.asarray(tensor.numpy()).reshape(-1).tolist()

    features = list(b.attribute("nodes_featureids") or ())
    count = len(features)
    modes, splits = array("nodes_modes"), array("nodes_splits")
    missing = list(b.attribute("nodes_missing_value_tracks_true") or [0] * count)
    if not len(modes) == len(splits) == len(missing) == count:
        raise Refusal(f"it has {count} features, {len(modes)} modes and {len(splits)} splits")
    if any(not 0 <= mode <= MEMBER for mode in modes):
        raise Refusal(f"its modes are {sorted(set(modes))}; expected 0 to {MEMBER}")
    ways = [
        [
            ~place if is_leaf else place
            for place, is_leaf in zip(
                _column(b, f"nodes_{way}nodeids", count),
                _column(b, f"nodes_{way}leafs", count),
                strict=True,
            )
        ]
        for way in ("true", "false")
    ]
    weights = array("leaf_weights")
    targets = _column(b, "leaf_targetids", len(weights))
    members = _sets(array("membership_values"), modes)
    columns = zip(features, modes, splits, missing, *ways, members, strict=True)
    return Forest(
        [Node(f, int(m), s, t == 1, a, o, of) for f, m, s, t, a, o, of in columns],
        [[pair] for pair in zip(targets, weights, strict=True)],
        list(b.attribute("tree_roots") or ()),
    )


def _sets(values: list[float], modes: list[float]) -> list[list[float]]:
    """Return the set of every node, empty where it asks for none; NaN ends a set."""
    found: list[list[float]] = [[]]
    for value in values:
        if value != value:
            found.append([])
        else:
            found[-1].append(value)
    if not found[-1]:
        found.pop()
    wanted = sum(mode == MEMBER for mode in modes)
    if len(found) != wanted:
        raise Refusal(f"'membership_values' holds {len(found)} sets for {wanted} nodes")
    rest = iter(found)
    return [next(rest) if mode == MEMBER else [] for mode in modes]


def join_equalities(forest: Forest) -> None:
    """Write chains of equalities that lead to one place as membership, as they were meant.

    Otherwise trees would not be trees. Members must be integers: the reference runtime has no
    other sets.
    """
    inner = {id(_follower(forest, node)) for node in forest.nodes if node.mode == EQ}
    for node in forest.nodes:
        if node.mode != EQ or id(node) in inner or not node.split.is_integer():
            continue
        members = [node.split]
        while (follower := _follower(forest, node)) is not None:
            members.append(follower.split)
            node.other = follower.other
        if len(members) > 1:
            node.mode, node.members, node.split, node.exact = MEMBER, members, 0.0, True


def _follower(forest: Forest, node: Node) -> Node | None:
    """Return the node that goes on with the chain of ``node``."""
    if node.other < 0:
        return None
    following = forest.nodes[node.other]
    same = (following.mode, following.feature, following.then, following.missing) == (
        EQ, node.feature, node.then, node.missing
    )  # fmt: skip
    return following if same and following.split.is_integer() else None
