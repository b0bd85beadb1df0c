"""Decision trees as tables that functions of ``kernels/runtime`` walk.

Source: the ONNX operator schema ``ai.onnx.ml::TreeEnsemble``. Sums of trees that only ask whether a
feature is at most a split become words (``tree_words.py``), all others tables of three words and a
split for a comparison (``tree_tables.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from tvm import te, tirx

from mlopsc.errors import CompilerError
from mlopsc.lower.ops.node import Lowering, Node
from mlopsc.lower.ops.tree_reader import Reader, Tree
from mlopsc.lower.ops.tree_tables import tables
from mlopsc.lower.ops.tree_words import Words, pack

_RULES = {1: 0, 2: 1, 3: 2}  # aggregate_function (sum, least, largest), and the runtime's number
_SUM = 0


def _tree_ensemble(node: Node) -> Any:
    rule = _RULES[int(node.attribute("aggregate_function", 1))]
    trees = list(Reader(node).trees())
    words = pack(trees, node.result.shape[1]) if rule == _SUM else None
    return _tables(node, trees, rule) if words is None else _words(node, words, len(trees))


def _words(node: Node, words: Words, count: int) -> Any:
    """Call a function of ``mlopsc_tree_words.h`` after one that computes keys."""
    x, keys = node.operand(0), words.keys
    rows, columns = x.shape[0], len(keys.features)
    made = _call(
        keys.function,
        [x.tensor, node.table(keys.features), *map(node.table, keys.tables)],
        (rows, columns),
        "uint32",
        (rows, x.shape[-1], columns, keys.missing, *keys.numbers, words.key_shift),
    )
    sizes = (rows, columns, node.result.shape[1], count, keys.column_bits)
    return _call(
        words.function,
        [made, *(node.table(t.reshape(-1)) for t in words.tables)],
        node.result.shape,
        x.dtype,
        (*sizes, words.place_shift, words.leaf_form),
    )


def _tables(node: Node, trees: Sequence[Tree], rule: int) -> Any:
    """Call a function of ``mlopsc_trees.h``."""
    x = node.operand(0)
    rows, targets = node.result.shape
    heads, words, splits, leaves = tables(trees, targets, 0.0 if rule == _SUM else np.nan)
    narrow = max(len(words), len(leaves), targets, int(words[:, 0].max()) * 2 + 2) <= 1 << 15
    word = np.uint16 if narrow else np.uint32
    top = 1 << (15 if narrow else 31)
    if max(len(words), len(leaves)) * max(3, leaves.shape[1]) >= 1 << 31:
        raise CompilerError("TreeEnsemble: the tables would exceed 2 GB")
    nodes = np.empty((len(words), 3), word)
    nodes[:, 0] = words[:, 0] + words[:, 1] * (top // 2) + words[:, 2] * top
    nodes[:, 1:] = np.where(words[:, 3:] < 0, ~words[:, 3:] + top, words[:, 3:])
    found = [node.table(t.reshape(-1)) for t in (heads.astype(word), nodes, splits, leaves)]
    name = f"{x.dtype.replace('float', 'f')}_{np.dtype(word).name.replace('int', '')}"
    sizes = (rows, x.shape[-1], targets, len(heads), leaves.shape[1], rule)
    return _call(f"mlopsc_trees_{name}", [x.tensor, *found], node.result.shape, x.dtype, sizes)


def _call(
    function: str, inputs: list[Any], shape: tuple[int, ...], dtype: str, sizes: tuple[int, ...]
) -> Any:
    """Return what a runtime function writes that takes pointers and then numbers."""

    def call(ins: Any, outs: Any) -> Any:
        pointers = [buffer.access_ptr("r") for buffer in ins] + [outs[0].access_ptr("w")]
        numbers = [tirx.const(size, "int32") for size in sizes]
        return tirx.Evaluate(tirx.call_extern("void", function, *pointers, *numbers))

    return te.extern(
        shape,
        inputs,
        call,
        name="trees",
        dtype=dtype,
        in_buffers=[tirx.decl_buffer(t.shape, t.dtype) for t in inputs],
        out_buffers=[tirx.decl_buffer(shape, dtype)],
    )


LOWERINGS: Final[dict[str, Lowering]] = {"ai.onnx.ml::TreeEnsemble": _tree_ensemble}
