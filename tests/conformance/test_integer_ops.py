"""Every quantised operator, in every form of quantisation: at most one step from the reference
layer by layer (the import sees to it), and the same bits on every target from both generators."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

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
DEFAULT = {("host", "llvm"), ("cortex-m7", "c")}
# Before a release: their kernels are those of another one with the same generator.
EXHAUSTIVE = {
    ("host", "c"),
    ("cortex-m3", "c"),
    ("cortex-m7", "llvm"),
    ("x86-64-v3", "llvm"),
    ("cortex-m4f", "c"),
    ("wasm32-simd", "c"),
}
# Forms in which kernels differ; the others only have other numbers.
EVERYWHERE = ("int8", "uint8, uint8 weights", "int8, int4 weights", "int16, int8 weights")
TOOLS = {"cortex-m55": "qemu-system-arm"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what makes a bundle with all cases of a form, once."""

    @cache
    def make(form: str) -> Path:
        folder = tmp_path_factory.mktemp("quantised")
        models.save(quantised_model(list(CASES), form), folder / "net.onnx")
        made = mlopsc.import_model(folder / "net.onnx", folder / "net.mlb").manifest
        assert made.vectors.arithmetic == "integer", "something is left to floats"
        assert made.integers is not None
        assert made.integers.largest_step <= 1
        assert made.integers.layers >= 25
        return folder / "net.mlb"

    return make


def _marks(form: str, target: str, generator: Generator) -> list[pytest.MarkDecorator]:
    quick = (target, generator) in DEFAULT and (target != "host" or form in EVERYWHERE)
    rare = (target, generator) in EXHAUSTIVE
    slow = [] if quick else [pytest.mark.exhaustive if rare else pytest.mark.slow]
    return [*slow, *([pytest.mark.tool(TOOLS[target])] if target in TOOLS else [])]


def _where() -> list[Any]:
    """Return form, target and generator: forms without kernels of their own on few targets."""
    return [
        pytest.param(
            form,
            target,
            generator,
            marks=_marks(form, target, generator),
            id=f"{form}-{target}-{generator}",
        )
        for form in FORMS
        for target, generator in WHERE
        if form in EVERYWHERE or (target, generator) in (*DEFAULT, ("aarch64-generic", "llvm"))
    ]


@pytest.mark.parametrize(("form", "target", "generator"), _where())
def test_same_bits(
    bundles: Callable[[str], Path], form: str, target: str, generator: Generator, tmp_path: Path
) -> None:
    mlopsc.build(bundles(form), target, tmp_path, generator=generator)
    report = mlopsc.conform(tmp_path / target)
    wrong = {o.name: o.max_absolute for o in report.outputs if o.first_inexact is not None}
    assert not wrong, "differs from the definition"
    assert report.verdict == "pass"
