"""The single file of every core operator compiles without warnings and computes what it must."""

from __future__ import annotations

from pathlib import Path

import firmware
import numpy as np
import onnx
import op_cases
import pytest
from test_core_ops import GROUPS

import mlopsc
from mlopsc.dtypes import to_file


@pytest.mark.slow
@pytest.mark.tool("gcc", "clang")
@pytest.mark.parametrize("group", [name for name, group in GROUPS.items() if not group.slow])
def test_the_single_file_of_core_operators(group: str, tmp_path: Path) -> None:
    """Every warning is an error with both compilers; the self-test passes with both."""
    cases = GROUPS[group]
    model, arrays = op_cases.joined_model(cases.make(), cases.opset)
    onnx.save(model, tmp_path / "cases.onnx")
    vectors = {name: to_file(array[None]) for name, array in arrays.items()}
    np.savez(tmp_path / "vectors.npz", **vectors)
    mlopsc.import_model(
        tmp_path / "cases.onnx", tmp_path / "cases.mlb", vectors=tmp_path / "vectors.npz"
    )
    mlopsc.build(
        tmp_path / "cases.mlb", "host", tmp_path, generator="c", source_code=True,
        layouts=["source"],
    )  # fmt: skip
    package = tmp_path / "host"
    source = package / "layouts" / "source"
    single = [*sorted(source.glob("*.c")), source / "selftest" / "selftest.c"]
    plain = [p for p in sorted((package / "src").glob("*.c")) if p.name != "weights.c"]
    for compiler in ("gcc", "clang"):
        folder = tmp_path / compiler
        folder.mkdir()
        firmware.compile_strictly(compiler, plain, folder, f"-I{package / 'include'}", "-O1")
        flags = (*firmware.STRICTER, f"-I{source}", "-O1")
        objects = firmware.compile_strictly(compiler, single, folder, *flags)
        firmware.run([compiler, *objects, "-lm", "-o", folder / "selftest"])
        assert firmware.run([folder / "selftest"]) == "PASS 1/1\n"
