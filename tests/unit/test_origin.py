"""The normal form is compared with the model as it came."""

from __future__ import annotations

from dataclasses import replace

import models
import numpy as np
import pytest

from mlopsc.bundle import Vector
from mlopsc.errors import MismatchError
from mlopsc.importer.origin import compare_with_origin
from mlopsc.reference import Reference, evaluator_version, reference_version
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.graph import StageGraph

OUTPUTS = [TensorSpec(name="y", dtype="float32", shape=(4,))]


def vector() -> Vector:
    a, b = models.random(4), models.random(4, seed=2)
    return Vector({"a": a, "b": b}, {"y": a + b})


def stages() -> list[StageGraph]:
    return [StageGraph("model", models.add().SerializeToString())]


def test_equal_outputs_are_recorded_with_who_computed_them() -> None:
    found = compare_with_origin(stages(), [vector()], (), OUTPUTS)
    assert found.compared
    assert found.reference == reference_version()
    assert found.relative_to_max < 1e-6


def test_another_value_is_refused_and_named() -> None:
    wrong = vector()
    wrong.outputs["y"][2] += 1
    with pytest.raises(MismatchError, match="'y', vector 1, element 2"):
        compare_with_origin(stages(), [vector(), wrong], (), OUTPUTS)


def test_another_shape_is_refused() -> None:
    wrong = replace(vector(), outputs={"y": np.zeros((4, 1), np.float32)})
    with pytest.raises(MismatchError, match=r"float32\[4\], in the normal form float32\[4, 1\]"):
        compare_with_origin(stages(), [wrong], (), OUTPUTS)


def test_a_model_that_nothing_can_run_is_not_compared() -> None:
    found = compare_with_origin([StageGraph("model", b"not a model")], [vector()], (), OUTPUTS)
    assert not found.compared
    assert "cannot load" in found.reason


def test_the_evaluator_answers_where_the_runtime_has_no_kernel() -> None:
    power = models.model(
        [models.node("Pow", ["x", "n"], ["y"])],
        [models.value("x", [3]), models.value("n", [3], "uint32")],
        [models.value("y", [3])],
    )
    reference = Reference([StageGraph("model", power.SerializeToString())])
    assert reference.version == evaluator_version()
    given = {"x": np.array([1, 2, 3], np.float32), "n": np.array([2, 3, 1], np.uint32)}
    assert reference.run(given)["y"].tolist() == [1, 8, 3]
