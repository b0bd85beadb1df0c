"""The JAX frontend: what it claims, what it refuses, and, with JAX, how things are called."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import check_words

import mlopsc
from mlopsc.errors import ConversionError, SourceError
from mlopsc.frontends import LoadOptions, RawInput, recognise, wrap

OPTIONS = LoadOptions()
needs_jax = pytest.mark.framework("jax", "jax2onnx")


@pytest.mark.parametrize(("name", "data", "words"), [
    ("m.mlirbc", b"ML\xefR\x0dStableHLO_v1.9.0\0" + bytes(32), "bytecode"),
    ("m.jax", b"\x20\0\0\0" + bytes(40) + b"ML\xefR\x0dStableHLO_v1.9.0\0" + bytes(32),
     "jax.export"),
    ("m.mlir", b"// made by JAX\nmodule @jit_f attributes {a = 1} {\n  func.func public @main()",
     "MLIR text"),
    ("m.mlir", b"module {\n  %0 = stablehlo.add %a, %b : tensor<4xf32>\n}\n", "MLIR text"),
])  # fmt: skip
def test_programs_are_recognised_and_refused(
    name: str, data: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError) as caught:
        recognise(tmp_path / name)
    check_words(caught.value.message, caught.value.hint, words, "example=")


def test_functions_are_no_models_where_jax_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    with pytest.raises(SourceError, match="no model that a frontend knows"):
        wrap(len, np.ones(3), OPTIONS)
    assert "jax" not in sys.modules


@needs_jax
def test_an_exported_program_is_recognised(tmp_path: Path) -> None:
    import jax

    exported = jax.export.export(jax.jit(lambda x: x * 2))(np.ones(3, np.float32))
    (tmp_path / "m.jax").write_bytes(exported.serialize())
    (tmp_path / "m.mlir").write_text(exported.mlir_module())
    (tmp_path / "m.bc").write_bytes(exported.mlir_module_serialized)
    for path in tmp_path.iterdir():
        with pytest.raises(SourceError, match="StableHLO"):
            recognise(path)
    with pytest.raises(SourceError, match="StableHLO"):
        wrap(exported, np.ones(3, np.float32), OPTIONS)


@needs_jax
@pytest.mark.slow
def test_trees_and_options_have_names(tmp_path: Path) -> None:
    from jax import numpy as jnp

    def function(weights: Any, x: Any, *, power: int) -> dict[str, Any]:
        return {"x": x @ weights["w"] + weights["b"], "sum": [x.sum() ** power]}

    example = ({"w": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)},
               jnp.ones((1, 3)))  # fmt: skip
    manifest = mlopsc.import_model(
        functools.partial(function, power=2), tmp_path / "m.mlb", example=example
    ).manifest
    assert {i.name: i.shape for i in manifest.inputs} == {
        "weights_b": (2,), "weights_w": (3, 2), "x": (1, 3)
    }  # fmt: skip
    assert {o.name: o.shape for o in manifest.outputs} == {"sum_0": (), "x_out": (1, 2)}
    assert manifest.framework is not None
    assert manifest.framework.framework.startswith("jax ")
    assert manifest.framework.converter.startswith("jax2onnx ")
    assert manifest.framework.compared


@needs_jax
@pytest.mark.slow
def test_failures_say_what_failed(tmp_path: Path) -> None:
    import jax
    from jax import numpy as jnp

    _, original = wrap(lambda x, y: x + y, np.ones(3, np.float32), OPTIONS)
    with pytest.raises(SourceError) as caught:
        original.export(tmp_path, OPTIONS)
    check_words(caught.value.message, caught.value.hint, "<lambda>", "tuple")
    with pytest.raises(SourceError, match="a str"):
        wrap(lambda x: x, "abc", OPTIONS)
    with pytest.raises(SourceError, match="example"):
        wrap(jax.jit(lambda x: x), None, OPTIONS)
    _, original = wrap(jnp.linalg.eigvals, np.eye(3, dtype=np.float32), OPTIONS)
    with pytest.raises(ConversionError, match=r"jax2onnx 0\.\d+.* fails on eigvals"):
        original.export(tmp_path, OPTIONS)


@needs_jax
@pytest.mark.framework("flax")
@pytest.mark.slow
def test_linen_models_need_their_variables() -> None:
    from flax import linen

    with pytest.raises(SourceError, match=r"without its variables") as caught:
        wrap(linen.Dense(3), np.ones((1, 4), np.float32), OPTIONS)
    assert "model.bind(variables)" in caught.value.hint


@needs_jax
def test_integers_are_drawn_from_the_range_of_the_example() -> None:
    from jax import numpy as jnp

    _, original = wrap(lambda x: x, jnp.array([7, 42, 9]), OPTIONS)
    rng = np.random.default_rng(0)
    drawn = original.draw(rng, [RawInput("x", "int32", (300,))], last=False)["x"]
    assert (drawn.min(), drawn.max()) == (7, 42)
