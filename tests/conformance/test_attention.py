"""Attention over long sequences is computed in blocks, with the results of the whole matrix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from support import X86_WITH_AVX2

import mlopsc

TARGETS = (
    "host",
    pytest.param("x86-64-v3", marks=[*X86_WITH_AVX2.marks, pytest.mark.slow]),
    pytest.param("aarch64-generic", marks=pytest.mark.slow),
    "wasm32-simd",
)
HEADS = (2, 3)  # batch and heads
DEPTH = 16
# A small cache, so that sequences need not be long; wasm32-simd says nothing of any.
L2_BYTES = 32768


def small_target(base: str, folder: Path) -> str:
    """Write a target like ``base`` with a small second-level cache; return its path."""
    path = folder / "small.toml"
    path.write_text(
        f'name = "small"\nextends = "{base}"\n'
        f'[compile]\ngenerator = "llvm"\n[hardware]\nl2_bytes = {L2_BYTES}\n'
    )
    return str(path)


def attention(queries: int, keys: int, *, masks: bool = False, keep: bool = False) -> Any:
    """Return one attention; with ``masks`` every kind of operand is in the chain.

    Args:
        queries: Rows.
        keys: Columns of the scores.
        masks: Whether to mask by row, by key and batch, by head and by constants.
        keep: Whether the probabilities are an output, too.
    """
    lead = list(HEADS)
    weights = {"scale": np.array([[0.25]], np.float32)}
    inputs = [
        models.value("q", [*lead, queries, DEPTH]),
        models.value("k", [HEADS[0], keys, HEADS[1], DEPTH]),
        models.value("v", [*lead, keys, DEPTH + 4]),
    ]
    nodes = [
        models.node("Transpose", ["k"], ["kt"], perm=[0, 2, 3, 1]),
        models.node("MatMul", ["q", "kt"], ["scores"]),
        models.node("Mul", ["scores", "scale"], ["scaled"]),
    ]
    last = "scaled"
    if masks:
        weights["causal"] = np.tri(queries, keys, dtype=bool)
        weights["far"] = np.array(-1e4, np.float32)
        weights["slopes"] = models.random(HEADS[1], 1, 1)
        inputs += [
            models.value("bias", [queries, keys]),
            models.value("padding", [HEADS[0], 1, 1, keys]),
            models.value("temperature", [1, HEADS[1], queries, 1]),
        ]
        for op, *operands in (
            ("Where", "causal", last, "far"),
            ("Add", "bias", "%"),
            ("Add", "%", "padding"),
            ("Mul", "%", "slopes"),
            ("Sub", "temperature", "%"),
            ("Tanh", "%"),
        ):
            name = f"chain{len(nodes)}"
            nodes.append(models.node(op, [last if o == "%" else o for o in operands], [name]))
            last = name
    nodes += [
        models.node("Softmax", [last], ["shares"], axis=-1),
        models.node("MatMul", ["shares", "v"], ["mixed"]),
        models.node("Relu", ["mixed"], ["y"]),
    ]
    outputs = [models.value("y", [*lead, queries, DEPTH + 4])]
    if keep:
        outputs.append(models.value("shares", [*lead, queries, keys]))
    return models.model(nodes, inputs, outputs, weights)


def broadcast_heads() -> Any:
    """Return an attention whose heads share keys and values, over a batch of two."""
    nodes = [
        models.node("MatMul", ["q", "kt"], ["scores"]),
        models.node("Softmax", ["scores"], ["shares"]),
        models.node("MatMul", ["shares", "v"], ["y"]),
    ]
    inputs = [
        models.value("q", [2, 3, 128, DEPTH]),
        models.value("kt", [2, 1, DEPTH, 128]),
        models.value("v", [128, DEPTH]),
    ]
    return models.model(nodes, inputs, [models.value("y", [2, 3, 128, DEPTH])])


MODELS: dict[str, tuple[Callable[[], Any], int]] = {  # and the number of scores
    "plain": (lambda: attention(128, 128), 6 * 128 * 128),
    "masks": (lambda: attention(128, 160, masks=True), 6 * 128 * 160),
    "blocks that overlap": (lambda: attention(101, 131, masks=True), 6 * 101 * 131),
    "shared keys": (broadcast_heads, 6 * 128 * 128),
}


def build(model: Any, target: str, folder: Path) -> tuple[Any, Path]:
    """Build for ``target`` with a small cache; return the descriptor and the package's folder."""
    models.save(model, folder / "net.onnx")
    path = small_target(target, folder)
    packages = mlopsc.build(folder / "net.onnx", path, folder)
    return packages["small"], folder / "small"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", TARGETS)
def test_blocks_conform_without_memory_for_the_scores(
    tmp_path: Path, target: str, name: str
) -> None:
    make, scores = MODELS[name]
    package, folder = build(make(), target, tmp_path)
    assert package.memory.arena < 4 * scores
    report = mlopsc.conform(folder)
    assert report.verdict == "pass", report.outputs


def test_short_sequences_and_scores_that_are_needed_stay(tmp_path: Path) -> None:
    for number, model in enumerate((attention(64, 64), attention(128, 128, keep=True))):
        package, folder = build(model, "host", tmp_path / str(number))
        assert any("softmax" in kernel.symbol for kernel in package.kernels)
        assert mlopsc.conform(folder).verdict == "pass"


def test_any_number_of_threads_gives_the_same_bits(tmp_path: Path) -> None:
    package, folder = build(attention(1024, 1024), "host", tmp_path)
    assert package.memory.arena < 4 * 6 * 1024 * 1024
    inputs = {
        "q": models.random(*HEADS, 1024, DEPTH),
        "k": models.random(HEADS[0], 1024, HEADS[1], DEPTH),
        "v": models.random(*HEADS, 1024, DEPTH + 4),
    }
    results = [mlopsc.load(folder, threads=n)(**inputs)["y"].tobytes() for n in (1, 2, 3)]
    assert results[0] == results[1] == results[2]
