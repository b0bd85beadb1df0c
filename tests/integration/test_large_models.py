"""Models with gigabytes of weights: mapped from file to file, never held in memory."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support import REPOSITORY

from mlopsc import pipeline
from mlopsc.bundle import read_bundle
from mlopsc.errors import LimitError, SourceError
from mlopsc.importer import ImportOptions, import_bundle
from mlopsc.reference import Reference

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def benchmark() -> ModuleType:
    """Return ``benchmarks/large_model.py``, which makes such models and watches memory."""
    path = REPOSITORY / "benchmarks" / "large_model.py"
    spec = importlib.util.spec_from_file_location("large_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anonymous_memory(folder: Path, gib: float, side: int) -> tuple[float, int]:
    """Import a model; return the anonymous memory that took and the size of its weights."""
    folder.mkdir()
    large = benchmark()
    model = large.make_model(folder, gib, side=side)
    command = ["-m", "mlopsc", "import", str(model), "-o", str(folder / "chain.mlb")]
    figures = large.watch([sys.executable, *command])
    size = (folder / "weights.bin").stat().st_size
    bundle = read_bundle(folder / "chain.mlb")
    (stage,) = bundle.stages
    assert sum(len(w.data) for w in stage.weights.values()) == size
    for number, weight in enumerate(stage.weights.values()):
        assert int.from_bytes(weight.data[:4], "little") == number + 1
    assert bundle.manifest.origin is not None and bundle.manifest.origin.compared
    assert all(np.isfinite(a).all() for v in bundle.vectors for a in v.outputs.values())
    return figures["anonymous"], size


def test_import_takes_little_memory_of_its_own(tmp_path: Path) -> None:
    base, _ = anonymous_memory(tmp_path / "small", 0, side=16)
    taken, size = anonymous_memory(tmp_path / "large", 0.3125, side=2048)
    assert size == 320 << 20
    assert taken - base < size / 4


@pytest.mark.slow
def test_import_of_more_than_2_gib_takes_little_memory_of_its_own(tmp_path: Path) -> None:
    base, _ = anonymous_memory(tmp_path / "small", 0, side=16)
    taken, size = anonymous_memory(tmp_path / "large", 2.5, side=8192)
    assert size > 1 << 31
    assert taken - base < 256 << 20


@pytest.mark.slow
def test_weights_do_not_stay_resident(tmp_path: Path) -> None:
    """A quarter of them at most, although all of them are read several times."""
    large = benchmark()
    model, bundle = large.make_model(tmp_path, 2, side=8192), tmp_path / "chain.mlb"
    large.run(tmp_path, "keygen", "-o", tmp_path / "key", "--no-password")
    figures = [
        large.run(tmp_path, "import", model, "-o", bundle, "--no-cache"),
        large.run(tmp_path, "sign", bundle, "--key", tmp_path / "key"),
        large.run(tmp_path, "verify", bundle, "--key", tmp_path / "key.pub"),
    ]
    assert bundle.stat().st_size > 2 << 30
    assert max(found["resident"] for found in figures) < 512 << 20


def test_model_too_large_for_a_library_is_refused_before_it_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = benchmark().make_model(tmp_path, 0, side=64)
    weights = (tmp_path / "weights.bin").stat().st_size
    monkeypatch.setattr(pipeline, "_compile", lambda *given: pytest.fail("it was compiled"))
    monkeypatch.setattr(pipeline, "MAX_WEIGHTS", weights - 1)
    with pytest.raises(LimitError, match=str(weights)):
        pipeline.build(model, ["host"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_reference_holds_no_large_weights_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlopsc.reference.LARGE_BYTES", 1024)
    bundle = import_bundle(benchmark().make_model(tmp_path, 0, side=64), ImportOptions())
    again = Reference(bundle.stages).run(bundle.vectors[0].inputs)
    for name, expected in bundle.vectors[0].outputs.items():
        np.testing.assert_array_equal(again[name], expected)
    with pytest.raises(SourceError, match="evaluator"):
        Reference(bundle.stages, specification=True)
