"""Functions of JAX and models of Flax."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from matrix import Case, Source


def _mlp(folder: Path) -> Source:
    """A classifier in plain JAX, jitted, its parameters in a closure; an open batch."""
    import jax
    from jax import numpy as jnp

    del folder
    keys = jax.random.split(jax.random.key(0), 3)
    sizes = (8, 24, 12, 3)
    weights = [
        (jax.random.normal(key, pair) / 3, jnp.full(pair[1], 0.1))
        for key, pair in zip(keys, itertools.pairwise(sizes), strict=True)
    ]

    @jax.jit
    def classify(features: Any) -> Any:
        x = features
        for weight, bias in weights[:-1]:
            x = jax.nn.gelu(x @ weight + bias)
        return jax.nn.softmax(x @ weights[-1][0] + weights[-1][1])

    (batch,) = jax.export.symbolic_shape("batch")
    return Source(classify, {"example": jax.ShapeDtypeStruct((batch, 8), "float32")})


def _linen(folder: Path) -> Source:
    """A CNN of flax.linen with BatchNorm, bound to its variables."""
    import jax
    from flax import linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, image: Any) -> Any:
            x = nn.Conv(8, (3, 3), padding="SAME")(image)
            x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
            x = nn.relu(nn.Conv(12, (3, 3), feature_group_count=4, padding="VALID")(x))
            x = nn.avg_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)
            return nn.log_softmax(nn.Dense(5)(x))

    del folder
    network = Network()
    image = jax.random.normal(jax.random.key(1), (1, 12, 12, 1))
    variables = network.init(jax.random.key(0), image)
    variables["batch_stats"] = jax.tree.map(lambda v: v + 0.3, variables["batch_stats"])
    return Source(network.bind(variables), {"example": image})


def _nnx(folder: Path) -> Source:
    """An encoder block of flax.nnx: attention, LayerNorm, MLP."""
    import jax
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.norms = nnx.List([nnx.LayerNorm(16, rngs=rngs) for _ in range(2)])
            self.attend = nnx.MultiHeadAttention(4, 16, decode=False, rngs=rngs)
            self.wide = nnx.Linear(16, 32, rngs=rngs)
            self.narrow = nnx.Linear(32, 16, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = x + self.attend(self.norms[0](x))
            return x + self.narrow(nnx.gelu(self.wide(self.norms[1](x))))

    del folder
    example = jax.random.normal(jax.random.key(1), (1, 6, 16))
    return Source(Block(nnx.Rngs(0)), {"example": (example,)})


def _scan(folder: Path) -> Source:
    """A recurrent cell in ``lax.scan``, its state as input and output, from dicts to dicts."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    del folder
    keys = jax.random.split(jax.random.key(0), 2)
    inner, outer = jax.random.normal(keys[0], (6, 6)) / 3, jax.random.normal(keys[1], (4, 6)) / 3

    def step(state: Any, frame: Any) -> tuple[Any, Any]:
        state = jnp.tanh(state @ inner + frame @ outer)
        return state, state.max()

    def filtered(frames: Any, state: Any) -> dict[str, Any]:
        state, peaks = lax.scan(step, state, frames)
        return {"peaks": peaks, "state": state}

    return Source(
        filtered, {"example": {"frames": jnp.ones((9, 4)), "state": jnp.zeros(6)}}
    )  # fmt: skip


def _tokens(folder: Path) -> Source:
    """Token numbers to scores: an embedding, masked means, where, sort and integers."""
    import jax
    from jax import numpy as jnp

    del folder
    keys = jax.random.split(jax.random.key(0), 2)
    table = jax.random.normal(keys[0], (100, 12))
    head = jax.random.normal(keys[1], (12, 4))

    def score(tokens: Any) -> tuple[Any, Any]:
        known = (tokens > 0)[:, None].astype(jnp.float32)
        mean = (table[tokens] * known).sum(0) / jnp.maximum(known.sum(), 1)
        scores = jax.nn.sigmoid(mean @ head)
        return scores, jnp.argmax(scores)

    return Source(score, {"example": (jnp.arange(0, 100, 10),)})


CASES = (
    Case("jax_mlp", "jax", "MLP (jitted function)", _mlp),
    Case("jax_linen_cnn", "jax", "CNN (flax.linen)", _linen, needs=("flax",)),
    Case("jax_nnx_attention", "jax", "transformer block (flax.nnx)", _nnx, needs=("flax",)),
    Case("jax_scan", "jax", "recurrent cell (lax.scan)", _scan),
    Case("jax_tokens", "jax", "embedding of token numbers", _tokens),
)
