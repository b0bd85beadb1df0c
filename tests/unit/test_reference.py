"""The reference runtime: right, repeatable, and silent towards the network and the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest

from mlopsc.errors import SourceError
from mlopsc.reference import Reference, reference_version, run_graph
from mlopsc.schema.graph import StageGraph


def test_graph_is_computed() -> None:
    left, right = models.random(4), models.random(4, seed=2)
    outputs = run_graph(models.add().SerializeToString(), {"a": left, "b": right})
    assert np.array_equal(outputs["y"], left + right)


def test_stages_feed_each_other_by_name() -> None:
    first = models.add("a", "b", "between").SerializeToString()
    second = models.model(
        [models.node("Neg", ["between"], ["y"])],
        [models.value("between", [4])],
        [models.value("y", [4])],
    ).SerializeToString()
    stages = [StageGraph("preprocess", first), StageGraph("model", second)]
    ones = np.ones(4, np.float32)
    assert Reference(stages).run({"a": ones, "b": ones})["y"].tolist() == [-2] * 4


def test_repeated_runs_give_the_same_bits() -> None:
    reference = Reference([StageGraph("model", bound(models.two_convs()))])
    image = models.random(1, 2, 8, 8)
    first, second = (reference.run({"image": image})["scores"].tobytes() for _ in range(2))
    assert first == second


def bound(proto: object) -> bytes:
    from mlopsc.importer.normalise import normalise

    return normalise(proto, {}).model


def test_graph_that_cannot_be_loaded_is_named_by_its_stage() -> None:
    with pytest.raises(SourceError, match="postprocess"):
        Reference([StageGraph("postprocess", b"not a model")])


def test_failure_while_running_is_an_error_of_the_source() -> None:
    reference = Reference([StageGraph("model", models.add().SerializeToString())])
    with pytest.raises(SourceError):
        reference.run({"a": np.ones(4, np.float32), "b": np.ones(3, np.float32)})


def test_version_is_named() -> None:
    name, version = reference_version().split()
    assert name == "onnxruntime"
    assert version[0].isdigit()


def test_nothing_is_recorded_about_the_user(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry keeps an identifier in these folders before it sends anything."""
    folders = {"HOME": "home", "TMPDIR": "temporary", "XDG_CACHE_HOME": "cache"}
    for name in folders.values():
        (tmp_path / name).mkdir()
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    env |= {key: str(tmp_path / name) for key, name in folders.items()}
    code = "import mlopsc.reference, time; time.sleep(1)"
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/*")] == []
