"""Every core operator, compiled and run on several targets with both generators, equals the
reference, also on NaN, infinities, signed zeros and subnormals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
from op_cases_types import LEFT_OUT
from type_rows import allowed, types_of

import mlopsc
from mlopsc.core_ops import CORE_OPS
from mlopsc.dtypes import to_file
from mlopsc.schema.target import Generator
from mlopsc.targets import load_target


def ordinary() -> list[op_cases.Case]:
    return [
        *op_cases.cases(),
        *op_cases_flow.cases(),
        *op_cases_ml.cases(),
        *op_cases_empty.cases(),
    ]


# Ordinary values, values at the edges of float32, operators of loops and runtime functions,
# arithmetic on integers, integers that wrap inside a kernel, operators without a kernel of the
# reference, casts between all types, operators younger than the others' operator set, and every
# operator in every type.
GROUPS = {
    "ordinary": op_cases.Group(ordinary),
    "special": op_cases.Group(op_cases.special),
    "kernels": op_cases.Group(op_cases_kernels.cases),
    "integers": op_cases.Group(op_cases_kernels.integers),
    "wrap": op_cases.Group(op_cases_wrap.cases),
    "without kernel": op_cases.Group(op_cases_kernels.without_kernel),
    "casts": op_cases.Group(op_cases_types.casts, 25),
    "newest": op_cases.Group(op_cases_kernels.newest, 26),
    **op_cases_types.groups(),
}
SINGLE = tuple(name for name, group in GROUPS.items() if not group.slow)
TYPES = tuple(name for name, group in GROUPS.items() if group.slow)
# What compilers of machines differ in most, and what is the same arithmetic on integers everywhere.
SAMPLE = ("special", "kernels", "integers")
COMMON = ("wrap", "casts")
REST = tuple(name for name in SINGLE if name not in (*SAMPLE, *COMMON))


class Runs(NamedTuple):
    """The groups that run on one machine: by default, in the full run, and before a release."""

    default: tuple[str, ...]
    full: tuple[str, ...] = ()
    release: tuple[str, ...] = ()


# Processors without vectors, and those whose generator others show already, run in the full run
# only; those that compile the same C or use a generator that is not their own run few groups.
_FEW = Runs((), ("ordinary", "kernels"))
WHERE: dict[tuple[str, Generator], Runs] = {
    ("host", "llvm"): Runs((*SINGLE, *TYPES)),
    ("host", "c"): Runs(SAMPLE, REST, (*COMMON, *TYPES)),
    ("cortex-m7", "c"): Runs(SAMPLE, (*REST, *COMMON, *TYPES)),
    ("cortex-m7", "llvm"): _FEW,
    ("aarch64-generic", "llvm"): Runs(SAMPLE, REST, (*COMMON, *TYPES)),
    ("riscv64-gc", "llvm"): Runs((), (*SAMPLE, *REST), COMMON),
    ("wasm32-simd", "c"): Runs(SAMPLE, REST, COMMON),
    ("cortex-m0plus", "c"): _FEW,
    ("cortex-m55", "c"): _FEW,
    ("riscv32-imac", "c"): _FEW,
}
_MARKS = Runs((), (pytest.mark.slow,), (pytest.mark.exhaustive,))


def _runs() -> Iterator[Any]:
    """Yield each group with each target and generator that it runs on."""
    for (target, generator), runs in WHERE.items():
        run = load_target(target).run
        tools = [pytest.mark.tool(run.qemu.program)] if run.runners == ("qemu",) else []
        for names, marks in zip(runs, _MARKS, strict=True):
            for name in names:
                if target == "host" or not GROUPS[name].hosted:
                    yield pytest.param(target, generator, name, marks=[*marks, *tools])


def test_every_core_operator_has_a_case() -> None:
    tested = {case.op for group in GROUPS.values() for case in group.make()}
    assert set(CORE_OPS) <= tested


def test_every_core_operator_has_a_case_in_every_type() -> None:
    tested = {
        (case.op, dtype)
        for group in GROUPS.values()
        for case in group.make()
        if case.op in CORE_OPS
        for dtype in types_of(case)
    }
    expected = {(op, dtype) for op in CORE_OPS for dtype in allowed(op)}
    assert expected - tested == set(LEFT_OUT)


@pytest.mark.parametrize(("target", "generator", "group"), list(_runs()))
def test_core_operators_equal_the_reference(
    tmp_path: Path, target: str, generator: Generator, group: str
) -> None:
    cases = GROUPS[group].make()
    model, arrays = op_cases.joined_model(cases, GROUPS[group].opset)
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
    assert len(report.outputs) == sum(case.outputs for case in cases)
