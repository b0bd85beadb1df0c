"""Sequences and optionals in the normal form: only the tensors they held are left."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from mlopsc.errors import OpenShapeError, SourceError, UnsupportedOpError
from mlopsc.importer.normalise import normalise
from mlopsc.importer.normalise.sequence_inputs import bind_sequences
from mlopsc.reference import run_graph

Array = np.ndarray[Any, Any]
X = np.random.default_rng(5).standard_normal((2, 6)).astype(np.float32)


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]>\n{text}')


def same(text: str, bind: dict[str, int] | None = None, **inputs: Array) -> list[str]:
    """Normalise, compare with the original, and return the operators that are left."""
    model, used = bind_sequences(parse(text), bind or {})
    assert used == frozenset(bind or {})
    done = normalise(model, {})
    wanted = run_graph(model.SerializeToString(), inputs)
    given = run_graph(done.model, inputs)
    assert list(wanted) == list(given)
    for name, array in wanted.items():
        assert given[name].dtype == array.dtype
        np.testing.assert_array_equal(given[name], array)
    graph = onnx.load_model_from_string(done.model).graph
    assert all(v.type.HasField("tensor_type") for v in (*graph.input, *graph.output))
    return [node.op_type for node in graph.node]


def test_elements_are_used_directly() -> None:
    text = """g (float[2,6] x) => (float[2,6] y, int64 n) <int64 zero = {0}, int64 last = {-1}> {
        a = Neg(x)
        b = Exp(x)
        s = SequenceConstruct(a, b)
        t = SequenceInsert(s, x, zero)
        u = SequenceErase(t, last)
        first = SequenceAt(u, zero)
        second = SequenceAt(u, last)
        y = Add(first, second)
        n = SequenceLength(u)
    }"""
    assert same(text, x=X) == ["Neg", "Add", "Identity"]


@pytest.mark.parametrize(
    ("split", "operators"),
    [("int64 n = {4}", ["Split", "Neg"]), ("int64[3] n = {1, 2, 3}", ["Split", "Neg"])],
)
def test_split_to_sequence(split: str, operators: list[str]) -> None:
    text = f"""g (float[2,6] x) => (float[2,k] y) <{split}, int64 last = {{-1}}> {{
        s = SplitToSequence <axis = 1> (x, n)
        e = SequenceAt(s, last)
        y = Neg(e)
    }}"""
    assert same(text, x=X) == operators


@pytest.mark.parametrize("keep", [0, 1])
def test_split_into_single_slices(keep: int) -> None:
    text = f"""g (float[2,6] x) => (float y) <int64 two = {{2}}> {{
        s = SplitToSequence <axis = 1, keepdims = {keep}> (x)
        e = SequenceAt(s, two)
        y = ReduceSum <keepdims = 0> (e)
    }}"""
    assert same(text, x=X)[0] == "Split"


@pytest.mark.parametrize(("new", "shape"), [(0, "4,6"), (1, "2,2,6")])
def test_concat_from_sequence(new: int, shape: str) -> None:
    text = f"""g (float[2,6] x) => (float[{shape}] y) {{
        a = Neg(x)
        s = SequenceConstruct(a, x)
        y = ConcatFromSequence <axis = 0, new_axis = {new}> (s)
    }}"""
    assert same(text, x=X)[-1] == "Concat"


@pytest.mark.parametrize("position", [0, 1, -1])
def test_position_of_run_time_among_equal_shapes(position: int) -> None:
    text = """g (float[2,6] x, int64 i) => (float[2,6] y) {
        a = Neg(x)
        s = SequenceConstruct(a, x)
        y = SequenceAt(s, i)
    }"""
    assert same(text, x=X, i=np.array(position))[-1] == "Gather"


def test_position_outside_is_named() -> None:
    text = """g (float[2,6] x) => (float[2,6] y) <int64 i = {2}> {
        s = SequenceConstruct(x, x)
        y = SequenceAt(s, i)
    }"""
    with pytest.raises(SourceError, match="position 2 is outside the sequence, which has 2"):
        normalise(parse(text), {})


def test_output_that_is_a_sequence_becomes_its_elements() -> None:
    text = """g (float[2,6] x) => (seq(float[2,6]) s, float[2,6] y) {
        a = Neg(x)
        s = SequenceConstruct(x, a, a)
        y = Exp(a)
    }"""
    model = parse(text)
    graph = onnx.load_model_from_string(normalise(model, {}).model).graph
    assert [v.name for v in graph.output] == ["s_0", "s_1", "s_2", "y"]
    same(text, x=X)


@pytest.mark.parametrize("count", [1, 3])
def test_input_that_is_a_sequence_is_flattened(count: int) -> None:
    text = """g (seq(float[2,6]) s, float[2,6] x) => (float[2,6] y) <int64 last = {-1}> {
        e = SequenceAt(s, last)
        y = Mul(e, x)
    }"""
    arrays = {f"s_{k}": X + k for k in range(count)}
    assert same(text, {"s": count}, x=X, **arrays) == ["Mul"]


def test_sequence_of_unknown_length_says_how_to_bind_it() -> None:
    text = """g (seq(float[2]) s) => (int64 n) { n = SequenceLength(s) }"""
    with pytest.raises(UnsupportedOpError) as found:
        normalise(parse(text), {})
    assert "--bind s=N" in str(found.value.hint)


@pytest.mark.parametrize("present", [0, 1])
def test_optional_input(present: int) -> None:
    text = """g (optional(float[2,6]) o, float[2,6] x) => (float[2,6] y) {
        has = OptionalHasElement(o)
        y = If (has) <
            then_branch = left () => (float[2,6] a) { e = OptionalGetElement(o) a = Add(e, x) },
            else_branch = right () => (float[2,6] b) { b = Neg(x) }>
    }"""
    if present:
        assert same(text, {"o": 1}, x=X, o=X + 1) == ["Add"]
    else:  # the reference runtime cannot load an Optional that holds nothing
        done = normalise(bind_sequences(parse(text), {"o": 0})[0], {})
        np.testing.assert_array_equal(run_graph(done.model, {"x": X})["y"], -X)


def test_optional_tensor_takes_no_length() -> None:
    text = "g (optional(float[2]) o) => (bool y) { y = OptionalHasElement(o) }"
    with pytest.raises(OpenShapeError, match="--bind o=2"):
        bind_sequences(parse(text), {"o": 2})


@pytest.mark.parametrize("condition", [True, False])
def test_branches_with_sequences_of_one_length(condition: bool) -> None:
    text = """g (float[2,6] x, bool c) => (seq(float[2,6]) s, float[2,6] y) <int64 one = {1}> {
        s, z = If (c) <
            then_branch = left () => (seq(float[2,6]) a, float[2,6] p) {
                n = Neg(x)
                a = SequenceConstruct(x, n)
                p = Exp(x)
            },
            else_branch = right () => (seq(float[2,6]) b, float[2,6] q) {
                m = Abs(x)
                b = SequenceConstruct(m, x)
                q = Identity(m)
            }>
        e = SequenceAt(s, one)
        y = Add(e, z)
    }"""
    left = same(text, x=X, c=np.array(condition))
    assert [op for op in left if op != "Identity"] == ["If", "Add"]


def test_branches_with_sequences_of_other_lengths_name_the_condition() -> None:
    text = """g (float[2] x, bool c) => (seq(float[2]) s) {
        s = If (c) <
            then_branch = left () => (seq(float[2]) a) { a = SequenceConstruct(x, x) },
            else_branch = right () => (seq(float[2]) b) { b = SequenceConstruct(x) }>
    }"""
    with pytest.raises(UnsupportedOpError) as found:
        normalise(parse(text), {})
    problems = [found.value, *found.value.also]
    assert any(getattr(p, "run_time_inputs", ()) == ("c",) for p in problems)


def test_loop_that_grows_a_sequence_is_unrolled() -> None:
    text = """g (float[2,6] x) => (float[2,24] y) <int64 m = {4}, bool t = {1}> {
        empty = SequenceEmpty <dtype = 1> ()
        s = Loop (m, t, empty) <body = b (int64 i, bool c, seq(float[2,6]) q)
            => (bool co, seq(float[2,6]) r) {
            co = Identity(c)
            f = Cast <to = 1> (i)
            e = Mul(x, f)
            r = SequenceInsert(q, e)
        }>
        y = ConcatFromSequence <axis = 1> (s)
    }"""
    assert same(text, x=X) == ["Mul"] * 4 + ["Concat"]


def test_sequence_map() -> None:
    text = """g (float[2,6] x, float[2,6] z) => (seq(float[2,6]) y) {
        s = SequenceConstruct(x, z)
        y = SequenceMap (s, x) <body = b (float[2,6] e, float[2,6] f) => (float[2,6] g0) {
            g0 = Add(e, f)
        }>
    }"""
    left = same(text, x=X, z=X * 2)
    assert [op for op in left if op != "Identity"] == ["Add", "Add"]
