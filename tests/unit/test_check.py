"""``mlopsc import --check`` says what the import says, with all problems, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from models import model, node, value
from support import run_cli, unchanged

from mlopsc import pipeline
from mlopsc.cli import cli
from mlopsc.errors import MlopscError, OpenShapeError, SourceError, UnsupportedOpError
from mlopsc.importer import ImportOptions, OperatorUse


def foreign(*names: str, shape: models.Shape = (4,)) -> onnx.ModelProto:
    """A chain of operators of a foreign domain."""
    values = ["x", *(f"v{i}" for i in range(len(names) - 1)), "y"]
    nodes = [
        node(name, [values[i]], [values[i + 1]], domain="acme") for i, name in enumerate(names)
    ]
    return model(nodes, [value("x", shape)], [value("y", shape)], domains=["acme"])


def run_time_shape() -> onnx.ModelProto:
    return model(
        [node("Reshape", ["x", "shape"], ["y"])],
        [value("x", [4]), value("shape", [2], "int64")],
        [value("y", ["rows", "columns"])],
    )


def values_decide() -> onnx.ModelProto:
    return model(
        [node("NonZero", ["x"], ["y"])], [value("x", [4])], [value("y", [1, "found"], "int64")]
    )


def not_a_model() -> onnx.ModelProto:
    return model([node("Relu", ["absent"], ["y"])], [value("x", [4])], [value("y", [4])])


def open_dimensions() -> onnx.ModelProto:
    shape = ["batch", "height", "width"]
    return model([node("Relu", ["x"], ["y"])], [value("x", shape)], [value("y", shape)])


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], type[MlopscError], int]] = {
    "foreign operators": (lambda: foreign("One", "Two", "Three"), UnsupportedOpError, 3),
    "a shape at run time": (run_time_shape, UnsupportedOpError, 1),
    "values decide the shape": (values_decide, UnsupportedOpError, 1),
    "open dimensions": (open_dimensions, OpenShapeError, 2),
    "no valid graph": (not_a_model, SourceError, 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_verdict_is_the_error_of_the_import(name: str, tmp_path: Path) -> None:
    make, kind, count = REFUSED[name]
    source = models.save(make(), tmp_path / "m.onnx")
    with pytest.raises(kind) as caught:
        pipeline.import_model(source, tmp_path / "m.mlb", ImportOptions())
    problems = pipeline.check_model(source, ImportOptions()).problems
    assert len(problems) == count
    first = problems[0]
    assert type(first) is kind
    assert (first.message, first.hint) == (caught.value.message, caught.value.hint)
    assert [p.message for p in problems[1:]] == [p.message for p in caught.value.also]


def test_every_problem_names_its_node_and_a_fix(tmp_path: Path) -> None:
    source = models.save(foreign("One", "Two"), tmp_path / "m.onnx")
    one, two = pipeline.check_model(source, ImportOptions()).problems
    assert (one.node, one.op) == ("make_v0", "acme::One")
    assert (two.node, two.op) == ("make_y", "acme::Two")
    for problem in (one, two):
        assert problem.node in problem.message
        assert problem.op in problem.message
        assert problem.hint


def test_what_follows_from_a_problem_is_none(tmp_path: Path) -> None:
    made = model(
        [
            node("Mystery", ["x"], ["a"], domain="acme"),
            node("Relu", ["a"], ["b"]),
            node("Add", ["b", "b"], ["y"]),
        ],
        [value("x", [4])],
        [value("y", [4])],
        domains=["acme"],
    )
    source = models.save(made, tmp_path / "m.onnx")
    assert len(pipeline.check_model(source, ImportOptions()).problems) == 1


def test_options_count(tmp_path: Path) -> None:
    source = models.save(open_dimensions(), tmp_path / "m.onnx")
    options = ImportOptions(bind={"height": 2, "width": 3})
    verdict = pipeline.check_model(source, options)
    assert verdict.problems == ()
    assert verdict.inputs == ("x: float32[1, 2, 3]",)
    assert verdict.operators == (OperatorUse("Relu", 1, ("float32",)),)


def test_accepted_model_is_described(tmp_path: Path) -> None:
    source = models.save(models.several(), tmp_path / "m.onnx")
    with unchanged(tmp_path):
        result = CliRunner().invoke(cli, ["import", "--check", str(source)])
    assert result.exit_code == 0
    assert f"{source}: ONNX model; ok" in result.stdout
    for line in ("input    left: float32[2, 3]", "1 Greater: bool, float32", "1 MatMul: float32"):
        assert line in result.stdout


def test_as_json(tmp_path: Path) -> None:
    source = models.save(foreign("One", "Two"), tmp_path / "m.onnx")
    with unchanged(tmp_path):
        result = run_cli("import", "--check", "--json", source)
    assert result.returncode == UnsupportedOpError.exit_code
    found = json.loads(result.stdout)
    assert found["verdict"] == "refused"
    assert [(p["kind"], p["op"]) for p in found["problems"]] == [
        ("UnsupportedOpError", "acme::One"),
        ("UnsupportedOpError", "acme::Two"),
    ]
    assert all(p["exit_code"] == 11 and p["hint"] for p in found["problems"])

    source = models.save(models.add(), tmp_path / "ok.onnx")
    result = run_cli("import", "--check", "--json", source)
    assert result.returncode == 0
    found = json.loads(result.stdout)
    assert found["verdict"] == "ok"
    assert found["operators"] == [{"op": "Add", "nodes": 1, "types": ["float32"]}]


def test_import_says_that_there_is_more(tmp_path: Path) -> None:
    source = models.save(foreign("One", "Two", "Three"), tmp_path / "m.onnx")
    result = run_cli("import", source, "-o", tmp_path / "m.mlb")
    assert result.returncode == UnsupportedOpError.exit_code
    assert "and 2 more" in result.stderr
    assert "acme::Two" not in result.stderr


def test_vectors_are_checked_too(tmp_path: Path) -> None:
    source = models.save(models.add(), tmp_path / "m.onnx")
    np.savez(tmp_path / "v.npz", a=np.zeros((1, 5), np.float32), b=np.zeros((1, 4), np.float32))
    options = ImportOptions(vectors=tmp_path / "v.npz")
    with pytest.raises(MlopscError) as caught:
        pipeline.import_model(source, tmp_path / "m.mlb", options)
    (problem,) = pipeline.check_model(source, options).problems
    assert (type(problem), problem.message) == (caught.type, caught.value.message)


@pytest.mark.parametrize("extra", [["-o", "m.mlb"], ["--force"]])
def test_check_and_output_exclude_each_other(extra: list[str]) -> None:
    result = run_cli("import", "--check", "m.onnx", *extra)
    assert result.returncode == 2
    assert "--check" in result.stderr
