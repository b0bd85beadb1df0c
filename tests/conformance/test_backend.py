"""``mlopsc.backend`` is a backend as ONNX defines it; ``test_suite`` runs ONNX's tests with it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from models import model, node, one_op, value
from onnx import helper

import mlopsc.backend
from mlopsc.errors import InputError, UnsupportedOpError

X = np.float32([[1, -2, 3, -4]])


def expand() -> onnx.ModelProto:
    """A shape that is known at run time."""
    return model(
        [node("Expand", ["x", "shape"], ["y"])],
        [value("x", [1, 4]), value("shape", [2], "int64")],
        [value("y", ["rows", "columns"])],
    )


def foreign() -> onnx.ModelProto:
    made = node("Mystery", ["x"], ["y"], domain="acme")
    return model([made], [value("x", [4])], [value("y", [4])], domains=["acme"])


def test_inputs_in_order_by_name_and_alone() -> None:
    rep = mlopsc.backend.prepare(one_op("Relu"))
    for inputs in ([X], (X,), {"x": X}, X):
        outputs = rep.run(inputs)
        assert outputs["y"] is outputs.y is outputs[0]
        np.testing.assert_array_equal(outputs[0], np.maximum(X, 0))
    assert rep.bound_inputs == ()


def test_inputs_that_do_not_fit_are_refused() -> None:
    rep = mlopsc.backend.prepare(one_op("Relu"))
    for inputs in ([], [X, X], [X.astype(np.float64)], {"z": X}, [X[0]]):
        with pytest.raises(InputError):
            rep.run(inputs)


def test_an_input_that_decides_a_shape_is_bound_anew_when_it_changes() -> None:
    rep = mlopsc.backend.prepare(expand())
    for rows in (2, 3, 2):
        (y,) = rep.run([X, np.array([rows, 4])])
        np.testing.assert_array_equal(y, np.broadcast_to(X, (rows, 4)))
        assert rep.bound_inputs == ("shape",)


def test_open_dimensions_get_the_sizes_of_the_arrays() -> None:
    rep = mlopsc.backend.prepare(one_op("Relu", ["n", 4]))
    for rows in (1, 3):
        x = np.broadcast_to(X, (rows, 4))
        np.testing.assert_array_equal(rep.run([x])[0], np.maximum(x, 0))
    assert rep.bound_inputs == ()


def test_what_cannot_be_compiled_is_refused_when_prepared() -> None:
    with pytest.raises(UnsupportedOpError, match="Mystery"):
        mlopsc.backend.prepare(foreign())


def test_values_that_decide_a_shape_are_bound_and_named() -> None:
    found = model(
        [node("NonZero", ["x"], ["y"])], [value("x", [1, 4])], [value("y", [2, "n"], "int64")]
    )
    rep = mlopsc.backend.prepare(found)
    for x in (X, np.float32([[0, 1, 0, 0]])):
        np.testing.assert_array_equal(rep.run([x])[0], np.nonzero(x))
        assert rep.bound_inputs == ("x",)


def test_compatible_is_what_can_be_imported() -> None:
    assert mlopsc.backend.is_compatible(one_op("Relu"))
    assert mlopsc.backend.is_compatible(expand())
    assert not mlopsc.backend.is_compatible(foreign())
    assert not mlopsc.backend.is_compatible(one_op("Relu"), "CUDA")


@pytest.mark.parametrize("info", [None, [(np.dtype("float32"), (1, 4))]])
def test_one_node_runs(info: list[tuple[np.dtype[np.float32], tuple[int, ...]]] | None) -> None:
    made = helper.make_node("Clip", ["x", "", "most"], ["y"])
    (y,) = mlopsc.backend.run_node(made, [X, np.float32(2)], outputs_info=info, opset_version=18)
    np.testing.assert_array_equal(y, np.minimum(X, 2))


def test_model_runs_once() -> None:
    (y,) = mlopsc.backend.run_model(one_op("Neg"), [X])
    np.testing.assert_array_equal(y, -X)


@pytest.mark.parametrize("generator", ["llvm", "c"])
def test_either_generator(generator: str) -> None:
    rep = mlopsc.backend.prepare(one_op("Relu"), generator=generator)
    np.testing.assert_array_equal(rep.run([X])[0], np.maximum(X, 0))


def test_only_the_cpu_is_supported() -> None:
    assert mlopsc.backend.supports_device("CPU")
    assert not mlopsc.backend.supports_device("CUDA")


def test_sequences_are_lists_whose_length_is_bound_anew_when_it_changes() -> None:
    made = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18]>
        g (seq(float[1,4]) s, float[1,4] x) => (seq(float[1,4]) t, float[n,4] y) {
            t = SequenceInsert(s, x)
            y = ConcatFromSequence <axis = 0> (t)
        }"""
    )
    rep = mlopsc.backend.prepare(made)
    for count in (2, 1, 3):
        given = [X + k for k in range(count)]
        t, y = rep.run([given, -X])
        assert isinstance(t, list)
        np.testing.assert_array_equal(np.concatenate(t), np.concatenate([*given, -X]))
        np.testing.assert_array_equal(y, np.concatenate(t))
        assert rep.bound_inputs == ("s",)


def test_an_optional_may_hold_nothing() -> None:
    made = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18]>
        g (optional(float[1,4]) o, float[1,4] x) => (float[1,4] y) {
            has = OptionalHasElement(o)
            y = If (has) <
                then_branch = left () => (float[1,4] a) { e = OptionalGetElement(o) a = Add(e, x) },
                else_branch = right () => (float[1,4] b) { b = Neg(x) }>
        }"""
    )
    rep = mlopsc.backend.prepare(made)
    np.testing.assert_array_equal(rep.run([None, X])[0], -X)
    np.testing.assert_array_equal(rep.run([X, X])[0], X + X)


def test_inputs_that_are_strings_are_bound_anew_when_they_change() -> None:
    made = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 20]>
        g (string[n] s, float[1,4] x) => (string[n] t, float[1,4] y) {
            t = StringConcat(s, s)
            y = Neg(x)
        }"""
    )
    rep = mlopsc.backend.prepare(made)
    for given in (np.array(["a", "\u00fc", "a"], object), np.array(["b"]), np.array(["c"])):
        t, y = rep.run([given, X])
        assert (t.dtype, t.tolist()) == (np.dtype(object), [s + s for s in given.tolist()])
        np.testing.assert_array_equal(y, -X)
        assert rep.bound_inputs == ("s",)
