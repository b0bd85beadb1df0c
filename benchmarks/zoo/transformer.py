"""Transformers: ViT-Tiny, BERT in two sizes, and a step of a decoder like GPT-2 with its cache."""

from __future__ import annotations

import onnx

from zoo.graph import Graph

SEQUENCE = 128
PAST = 128
BERT_WORDS, GPT_WORDS = 30522, 50257


def _heads(g: Graph, x: str, length: int, heads: int, depth: int, perm: list[int]) -> str:
    """Split ``[1, length, heads * depth]`` into heads and order the axes by ``perm``."""
    split = g.op("Reshape", x, g.integers(1, length, heads, depth))
    return g.op("Transpose", split, perm=perm)


def _joined(g: Graph, x: str, length: int, size: int) -> str:
    """Put ``[1, heads, length, depth]`` together again."""
    return g.op("Reshape", g.op("Transpose", x, perm=[0, 2, 1, 3]), g.integers(1, length, size))


def vit_tiny() -> onnx.ModelProto:
    """Return ViT-Tiny: pictures of 224 x 224 in patches of 16, width 192, 12 layers, 3 heads."""
    g = Graph("vit_tiny")
    size, heads, layers, length = 192, 3, 12, 197
    x = g.input("image", (1, 3, 224, 224))
    x = g.conv(x, (3, size), 16, stride=16, padding=0, bias=True, gain=1.0)
    x = g.op("Transpose", g.op("Reshape", x, g.integers(1, size, 196)), perm=[0, 2, 1])
    x = g.op("Concat", g.normal((1, 1, size), 0.5), x, axis=1)
    x = g.op("Add", x, g.normal((1, length, size), 0.5))
    for _ in range(layers):
        y = g.linear(g.layer_norm(x, size, "op"), (size, 3 * size))
        y = g.op("Reshape", y, g.integers(1, length, 3, heads, size // heads))
        y = g.op("Transpose", y, perm=[2, 0, 3, 1, 4])
        query, key, value = (g.op("Gather", y, g.constant(i, "int64"), axis=0) for i in range(3))
        query = g.op("Mul", query, g.constant((size // heads) ** -0.5))
        scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
        y = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
        x = g.op("Add", x, g.linear(_joined(g, y, length, size), (size, size)))
        y = g.gelu(g.linear(g.layer_norm(x, size, "op"), (size, 4 * size)))
        x = g.op("Add", x, g.linear(y, (4 * size, size), gain=2.0))
    x = g.layer_norm(x, size, "op")
    first = g.op("Gather", x, g.constant(0, "int64"), axis=1)
    g.output(g.gemm(first, (size, 1000)), "logits", (1, 1000))
    return g.model()


def _bert(name: str, size: int, layers: int, heads: int) -> onnx.ModelProto:
    g = Graph(name)
    shape = (1, SEQUENCE)
    ids, kinds, mask = (
        g.input(n, shape, "int64") for n in ("input_ids", "token_type_ids", "attention_mask")
    )
    x = g.op("Gather", g.normal((BERT_WORDS, size), 1.0), ids)
    x = g.op("Add", x, g.op("Gather", g.normal((2, size), 1.0), kinds))
    x = g.op("Add", x, g.normal((1, SEQUENCE, size), 1.0))
    x = g.layer_norm(x, size, "decomposed")
    wide = g.op("Unsqueeze", mask, g.integers(1, 2))
    kept = g.op("Cast", wide, to=onnx.TensorProto.FLOAT)
    bias = g.op("Mul", g.op("Sub", g.constant(1.0), kept), g.constant(-10000.0))
    depth = size // heads
    for _ in range(layers):
        query = _heads(g, g.linear(x, (size, size)), SEQUENCE, heads, depth, [0, 2, 1, 3])
        key = _heads(g, g.linear(x, (size, size)), SEQUENCE, heads, depth, [0, 2, 3, 1])
        value = _heads(g, g.linear(x, (size, size)), SEQUENCE, heads, depth, [0, 2, 1, 3])
        scores = g.op("Div", g.op("MatMul", query, key), g.constant(depth**0.5))
        weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
        y = _joined(g, g.op("MatMul", weights, value), SEQUENCE, size)
        x = g.layer_norm(g.op("Add", g.linear(y, (size, size)), x), size, "decomposed")
        y = g.linear(g.gelu(g.linear(x, (size, 4 * size))), (4 * size, size), gain=2.0)
        x = g.layer_norm(g.op("Add", y, x), size, "decomposed")
    first = g.op("Gather", x, g.constant(0, "int64"), axis=1)
    g.output(x, "last_hidden_state", (1, SEQUENCE, size))
    g.output(g.op("Tanh", g.gemm(first, (size, size))), "pooler_output", (1, size))
    return g.model()


def bert_base() -> onnx.ModelProto:
    """Return BERT-base, uncased, for 128 tokens."""
    return _bert("bert_base", 768, 12, 12)


def bert_small() -> onnx.ModelProto:
    """Return a BERT of 6 layers, 384 wide, for 128 tokens."""
    return _bert("bert_6x384", 384, 6, 12)


def gpt2_step() -> onnx.ModelProto:
    """Return a decoder like GPT-2 small: one token, and keys and values of 128 before it."""
    g = Graph("gpt2_step")
    size, layers, heads = 768, 12, 12
    depth = size // heads
    ids, positions = (g.input(n, (1, 1), "int64") for n in ("input_ids", "position_ids"))
    x = g.op("Gather", g.normal((GPT_WORDS, size), 1.0), ids)
    x = g.op("Add", x, g.op("Gather", g.normal((1024, size), 0.5), positions))
    shape = (1, heads, PAST, depth)
    presents = []
    for layer in range(layers):
        y = g.linear(g.layer_norm(x, size, "op"), (size, 3 * size))
        parts = g.op("Split", y, g.integers(size, size, size), outputs=3, axis=2)
        query, *new = (_heads(g, p, 1, heads, depth, [0, 2, 1, 3]) for p in parts)
        past = [g.input(f"past_{layer}_{kind}", shape) for kind in ("key", "value")]
        key, value = (g.op("Concat", old, one, axis=2) for old, one in zip(past, new, strict=True))
        presents += [(f"present_{layer}_key", key), (f"present_{layer}_value", value)]
        scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = g.op("Div", scores, g.constant(depth**0.5))
        y = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
        x = g.op("Add", g.linear(_joined(g, y, 1, size), (size, size)), x)
        y = _gelu_by_tanh(g, g.linear(g.layer_norm(x, size, "op"), (size, 4 * size)))
        x = g.op("Add", x, g.linear(y, (4 * size, size), gain=2.0))
    x = g.layer_norm(x, size, "op")
    g.output(g.linear(x, (size, GPT_WORDS), bias=False), "logits", (1, 1, GPT_WORDS))
    for name, value in presents:
        g.output(value, name, (1, heads, PAST + 1, depth))
    return g.model()


def _gelu_by_tanh(g: Graph, x: str) -> str:
    """Add GELU as GPT-2 approximates it."""
    cube = g.op("Mul", g.op("Pow", x, g.constant(3.0)), g.constant(0.044715))
    inside = g.op("Mul", g.op("Add", x, cube), g.constant((2 / 3.141592653589793) ** 0.5))
    twice = g.op("Add", g.op("Tanh", inside), g.constant(1.0))
    return g.op("Mul", g.op("Mul", x, g.constant(0.5)), twice)
