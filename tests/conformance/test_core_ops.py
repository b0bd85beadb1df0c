"""Every core operator, compiled and run on several targets with both generators, equals the
reference, also on NaN, infinities, signed zeros and subnormals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import op_cases
import op_cases_empty
import op_cases_flow
import op_cases_kernels
import op_cases_ml
import op_cases_types
import op_cases_wrap
import pytest

import mlopsc
from mlopsc.core_ops import CORE_OPS
from mlopsc.dtypes import to_file
from mlopsc.schema.target import Generator


def ordinary() -> list[op_cases.Case]:
    return [
        *op_cases.cases(),
        *op_cases_flow.cases(),
        *op_cases_ml.cases(),
        *op_cases_empty.cases(),
    ]


# Ordinary values, values at the edges of float32, operators of loops and runtime functions,
# arithmetic on integers, integers that wrap inside a kernel, all types, casts between them, and
# operators younger than the others' operator set.
GROUPS = {
    "ordinary": ordinary,
    "special": op_cases.special,
    "kernels": op_cases_kernels.cases,
    "integers": op_cases_kernels.integers,
    "wrap": op_cases_wrap.cases,
    "types": op_cases_types.matrix,
    "without kernel": op_cases_kernels.without_kernel,
    "opset 25": op_cases_types.casts,
    "opset 26": op_cases_kernels.newest,
}
WHERE: list[tuple[str, Generator]] = [
    ("host", "llvm"),
    ("host", "c"),
    ("cortex-m7", "c"),
    ("cortex-m7", "llvm"),
    ("cortex-m4f", "llvm"),
    ("aarch64-generic", "llvm"),
    ("riscv64-gc", "llvm"),
    ("wasm32-simd", "c"),
]


def test_every_core_operator_has_a_case() -> None:
    tested = {case.op for make in GROUPS.values() for case in make()}
    assert set(CORE_OPS) <= tested


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("target", "generator"), WHERE)
def test_core_operators_equal_the_reference(
    tmp_path: Path, group: str, target: str, generator: Generator
) -> None:
    opset = int(group.removeprefix("opset ")) if group.startswith("opset") else op_cases.OPSET
    model, arrays = op_cases.joined_model(GROUPS[group](), opset)
    onnx.save(model, tmp_path / "cases.onnx")
    np.savez(
        tmp_path / "vectors.npz", **{name: to_file(array[None]) for name, array in arrays.items()}
    )
    mlopsc.import_model(
        tmp_path / "cases.onnx", tmp_path / "cases.mlb", vectors=tmp_path / "vectors.npz"
    )
    mlopsc.build(tmp_path / "cases.mlb", target, tmp_path / "out", generator=generator)
    report = mlopsc.conform(tmp_path / "out" / target, bundle=tmp_path / "cases.mlb")
    wrong = [output.name for output in report.outputs if output.first_differing is not None]
    assert wrong == []
    assert len(report.outputs) == sum(case.outputs for case in GROUPS[group]())
