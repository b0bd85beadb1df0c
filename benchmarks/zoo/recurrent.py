"""Taggers of sequences: ONNX's LSTM, in both directions, and GRU."""

from __future__ import annotations

from typing import Literal

import onnx

from zoo.graph import Graph

LENGTH, WORDS, EMBEDDED, HIDDEN, TAGS = 64, 10000, 128, 256, 20


def _tagger(kind: Literal["LSTM", "GRU"], directions: int, layers: int) -> onnx.ModelProto:
    g = Graph(f"{kind.lower()}_tagger")
    gates = {"LSTM": 4, "GRU": 3}[kind]
    ids = g.input("input_ids", (1, LENGTH), "int64")
    x = g.op("Gather", g.normal((WORDS, EMBEDDED), 1.0), ids)
    x = g.op("Transpose", x, perm=[1, 0, 2])
    size = EMBEDDED
    attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
    for _ in range(layers):
        rows = gates * HIDDEN
        y = g.op(
            kind,
            x,
            g.weight((directions, rows, size), size),
            g.weight((directions, rows, HIDDEN), HIDDEN),
            g.normal((directions, 2 * rows)),
            direction="bidirectional" if directions == 2 else "forward",
            hidden_size=HIDDEN,
            **attributes,
        )
        size = directions * HIDDEN
        # [length, directions, 1, hidden]
        x = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), g.integers(LENGTH, 1, size))
    x = g.op("Transpose", x, perm=[1, 0, 2])
    g.output(g.linear(x, (size, TAGS)), "scores", (1, LENGTH, TAGS))
    return g.model()


def lstm_tagger() -> onnx.ModelProto:
    """Return one bidirectional LSTM layer of 256 and a dense layer, for 64 tokens."""
    return _tagger("LSTM", 2, 1)


def gru_tagger() -> onnx.ModelProto:
    """Return two GRU layers of 256 and a dense layer, for 64 tokens."""
    return _tagger("GRU", 1, 2)
