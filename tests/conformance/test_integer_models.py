"""Real quantised models: the same bits on every target, on real inputs where there are some, in the
memory that they are meant to need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support import SHARED_MODELS, raw_weights

import mlopsc
from mlopsc.errors import MissingToolError
from mlopsc.schema.target import Limits
from mlopsc.targets import load_target, target_names

TINY = SHARED_MODELS / "mlperf-tiny"
MODELS = ("ad01_int8", "kws_int8", "resnet8_int8", "vww_int8")
# Bytes of the arena with inputs and outputs in it.
ARENA = {"ad01_int8": 1200, "kws_int8": 12_000, "resnet8_int8": 50_000, "vww_int8": 56_000}
PATCHED_ARENA = 40_000
CODE = 25_000  # bytes of code and constants beyond the model's own weights and biases

pytestmark = pytest.mark.shared_models


def _vectors(name: str, folder: Path) -> Path | None:
    """Return the model's real inputs as vectors, if there are some."""
    if name == "kws_int8":
        arrays = {"input_1": np.load(TINY / "kws_inputs_int8.npy")[None]}
    elif name == "resnet8_int8":
        picture = np.load(TINY / "resnet8_inputs.npy")  # the scale is 1 and the zero point -128
        arrays = {"input_1_int8": (picture.astype(np.int16) - 128).astype(np.int8)[None]}
    else:
        return None
    path = folder / "vectors.npz"
    np.savez(path, **arrays)
    return path


def _bundle(name: str, folder: Path) -> Path:
    source = TINY / f"{name}.onnx"
    if not source.is_file():
        pytest.skip(f"the extra model {name}.onnx is not beside this checkout")
    made = mlopsc.import_model(source, folder / "net.mlb", vectors=_vectors(name, folder)).manifest
    assert made.vectors.arithmetic == "integer"
    assert made.integers is not None
    assert made.integers.largest_step <= 1
    assert made.integers.decisions == 1.0
    return folder / "net.mlb"


def _check_bits(bundle: Path, targets: Sequence[str], folder: Path) -> None:
    mlopsc.build(bundle, targets, folder)
    missing = []
    for target in targets:
        try:
            report = mlopsc.conform(folder / target)
        except MissingToolError as error:  # said, never passed
            missing.append(f"{target}: {error}")
            continue
        assert report.verdict == "pass", (target, report.outputs)
        assert all(output.first_inexact is None for output in report.outputs)
    if missing:
        pytest.skip("; ".join(missing))


@pytest.mark.parametrize("name", MODELS)
def test_same_bits(name: str, tmp_path: Path) -> None:
    _check_bits(_bundle(name, tmp_path), ["host", "cortex-m4f", "wasm32-simd"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_same_bits_on_every_other_target(name: str, tmp_path: Path) -> None:
    targets = [t for t in map(load_target, target_names()) if t.limits == Limits()]
    done = ("host", "cortex-m4f", "wasm32-simd")
    names = [t.name for t in targets if t.name not in done]
    _check_bits(_bundle(name, tmp_path), names, tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_memory(name: str, tmp_path: Path) -> None:
    bundle = _bundle(name, tmp_path)
    package = mlopsc.build(bundle, "cortex-m4f", tmp_path, io_in_arena=True)["cortex-m4f"]
    memory = package.memory
    assert memory.arena <= ARENA[name]
    assert memory.code + memory.read_only - raw_weights(bundle) <= CODE
    assert mlopsc.conform(tmp_path / "cortex-m4f").verdict == "pass"


def test_memory_of_patches(tmp_path: Path) -> None:
    bundle = _bundle("vww_int8", tmp_path)
    packages = mlopsc.build(
        bundle, "cortex-m4f", tmp_path, io_in_arena=True, arena_limit=PATCHED_ARENA
    )
    assert packages["cortex-m4f"].memory.arena <= PATCHED_ARENA
    assert mlopsc.conform(tmp_path / "cortex-m4f").verdict == "pass"
