"""Every quantised operator, in every form of quantisation: at most one step from the reference
layer by layer (the import sees to it), and the same bits on every target from both generators."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
from quantised_cases import CASES, FORMS, quantised_model

import mlopsc
from mlopsc.schema.target import Generator

WHERE: list[tuple[str, Generator]] = [
    ("host", "llvm"),
    ("host", "c"),
    ("cortex-m7", "c"),
    ("cortex-m3", "c"),
    ("aarch64-generic", "llvm"),
    ("riscv64-gc", "llvm"),
    ("wasm32-simd", "llvm"),
    ("x86-64-v3", "llvm"),
    ("cortex-m7", "llvm"),
    ("cortex-m0plus", "c"),
    ("riscv32-imc", "c"),
    ("cortex-m4f", "c"),
    ("cortex-m55", "c"),
    ("wasm32-simd", "c"),
]
DEFAULT = {("host", "llvm"), ("cortex-m7", "c"), ("aarch64-generic", "llvm")}


TOOLS = {"cortex-m55": "qemu-system-arm"}


def _marks(target: str, generator: Generator) -> list[pytest.MarkDecorator]:
    slow = [] if (target, generator) in DEFAULT else [pytest.mark.slow]
    return [*slow, *([pytest.mark.tool(TOOLS[target])] if target in TOOLS else [])]


@pytest.fixture(scope="module", params=FORMS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with all cases of one form."""
    folder = tmp_path_factory.mktemp("quantised")
    models.save(quantised_model(list(CASES), request.param), folder / "net.onnx")
    made = mlopsc.import_model(folder / "net.onnx", folder / "net.mlb").manifest
    assert made.vectors.arithmetic == "integer", "something is left to floats"
    assert made.integers is not None
    assert made.integers.largest_step <= 1
    assert made.integers.layers >= 25
    return folder / "net.mlb"


@pytest.mark.parametrize(
    ("target", "generator"),
    [pytest.param(t, g, marks=_marks(t, g), id=f"{t}-{g}") for t, g in WHERE],
)
def test_same_bits(bundle: Path, target: str, generator: Generator, tmp_path: Path) -> None:
    mlopsc.build(bundle, target, tmp_path, generator=generator)
    report = mlopsc.conform(tmp_path / target)
    wrong = {o.name: o.max_absolute for o in report.outputs if o.first_inexact is not None}
    assert not wrong, "differs from the definition"
    assert report.verdict == "pass"
