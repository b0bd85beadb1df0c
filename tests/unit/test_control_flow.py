"""``If`` and ``Loop`` in the normal form: what is inlined, unrolled, kept and refused.

Every model is also run by the reference runtime before and after normalising; both must agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from mlopsc.errors import MlopscError, UnsupportedOpError
from mlopsc.importer.normalise import normalise
from mlopsc.reference import run_graph

Array = np.ndarray[Any, Any]
X = np.random.default_rng(3).standard_normal((2, 3)).astype(np.float32)


def parse(text: str, opset: int = 18) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')


def operators(graph: onnx.GraphProto) -> list[str]:
    found = []
    for node in graph.node:
        found.append(node.op_type)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found += [f"{node.op_type}/{name}" for name in operators(attribute.g)]
    return found


def same(text: str, opset: int = 18, **inputs: Array) -> list[str]:
    """Normalise, compare with the original, and return the operators that are left."""
    model = parse(text, opset)
    done = normalise(model, {})
    wanted = run_graph(model.SerializeToString(), inputs)
    given = run_graph(done.model, inputs)
    assert list(wanted) == list(given)
    for name, array in wanted.items():
        assert given[name].dtype == array.dtype
        np.testing.assert_allclose(given[name], array, rtol=1e-6)
    return operators(onnx.load_model_from_string(done.model).graph)


BRANCHES = """
then_branch = left () => (float[2,3] a) { a = Add(x, x) },
else_branch = right () => (float[2,3] e) { e = Mul(x, x) }
"""


@pytest.mark.parametrize(("condition", "left"), [(1, "Add"), (0, "Mul")])
def test_branch_of_a_constant_condition_is_inlined(condition: int, left: str) -> None:
    text = f"""g (float[2,3] x) => (float[2,3] y) <bool c = {{{condition}}}>
    {{ y = If <{BRANCHES}> (c) }}"""
    assert same(text, x=X) == [left]


@pytest.mark.parametrize("condition", [True, False])
def test_condition_of_run_time_stays(condition: bool) -> None:
    text = f"g (float[2,3] x, bool c) => (float[2,3] y) {{ y = If <{BRANCHES}> (c) }}"
    assert same(text, x=X, c=np.array(condition)) == ["If", "If/Add", "If/Mul"]


def test_condition_that_follows_from_shapes_is_known() -> None:
    text = f"""g (float[2,3] x) => (float[2,3] y) <int64 limit = {{5}}> {{
        size = Size(x)
        c = Greater(size, limit)
        y = If <{BRANCHES}> (c)
    }}"""
    assert same(text, x=X) == ["Add"]


def test_branches_of_different_shapes_name_the_condition() -> None:
    text = """g (float[2,3] x, bool c) => (float[n,3] y) { y = If <
        then_branch = left () => (float[4,3] a) { a = Concat <axis = 0> (x, x) },
        else_branch = right () => (float[2,3] e) { e = Mul(x, x) }> (c) }"""
    with pytest.raises(UnsupportedOpError, match=r"FLOAT\[4,3\] if its condition is true") as found:
        normalise(parse(text), {})
    assert found.value.run_time_inputs == ("c",)


def loop(
    body: str,
    *,
    carried: str = "float[2,3] h",
    after: str = "float[2,3] ho",
    count: str = "5",
    results: str = "y",
    outputs: str = "float[2,3] y",
) -> str:
    return f"""g (float[2,3] x) => ({outputs}) <int64 m = {{{count}}}, bool t = {{1}}> {{
        {results} = Loop <body = b (int64 i, bool c, {carried}) => (bool co, {after}) {{
            co = Identity(c)
            {body}
        }}> (m, t, x)
    }}"""


def test_loop_of_static_shapes_stays_whatever_its_trip_count() -> None:
    text = loop("ho = Add(h, x)", count="1000")
    assert same(text, x=X) == ["Loop", "Loop/Identity", "Loop/Add"]


def test_one_iteration_is_inlined() -> None:
    text = loop("f = Cast <to = 1> (i)\n ho = Add(h, f)", count="1")
    assert same(text, x=X) == ["Add"]


def test_no_iteration_gives_the_initial_value_and_an_empty_stack() -> None:
    text = loop(
        "ho = Add(h, x)\n s = Sqrt(ho)",
        after="float[2,3] ho, float[2,3] s",
        results="y, z",
        outputs="float[2,3] y, int64 n",
        count="0",
    ).replace("(m, t, x)", "(m, t, x)\n n = Size(z)")
    assert same(text, x=X) == ["Identity", "Identity"]


def test_stacked_values_keep_a_static_shape() -> None:
    text = loop(
        "ho = Add(h, x)\n s = ReduceSum <keepdims = 0> (ho)",
        after="float[2,3] ho, float s",
        results="y, z",
        outputs="float[2,3] y, float[5] z",
    )
    assert same(text, x=X) == ["Loop", "Loop/Identity", "Loop/Add", "Loop/ReduceSum"]


def test_loop_that_grows_a_tensor_is_unrolled() -> None:
    text = loop(
        "ho = Concat <axis = 0> (h, x)",
        carried="float[p,3] h",
        after="float[q,3] ho",
        outputs="float[12,3] y",
    )
    assert same(text, x=X) == ["Concat"] * 5


def test_loop_whose_counter_decides_a_shape_is_unrolled() -> None:
    body = """one = Constant <value_ints = [1]> ()
            first = Reshape(i, one)
            next = Add(first, one)
            axis = Constant <value_ints = [0]> ()
            part = Slice(x, first, next, axis)
            ho = Add(h, part)"""
    assert same(loop(body, count="2"), x=X) == ["Slice", "Add", "Slice", "Add"]


def test_too_long_to_unroll_is_refused() -> None:
    text = loop(
        "ho = Concat <axis = 0> (h, x)",
        carried="float[p,3] h",
        after="float[q,3] ho",
        outputs="float[q,3] y",
        count="100000",
    )
    with pytest.raises(UnsupportedOpError, match="would have 200000 nodes, at most 16384"):
        normalise(parse(text), {})


def test_what_no_iteration_changes_is_computed_once() -> None:
    text = loop("w = Exp(x)\n v = Neg(w)\n ho = Add(h, v)")
    assert same(text, x=X) == ["Exp", "Neg", "Loop", "Loop/Identity", "Loop/Add"]


def test_carried_value_that_stays_is_captured() -> None:
    text = """g (float[2,3] x, float[2,3] w) => (float[2,3] y, float[2,3] u)
    <int64 m = {4}, bool t = {1}> {
        y, u = Loop <body = b (int64 i, bool c, float[2,3] h, float[2,3] k)
            => (bool co, float[2,3] ho, float[2,3] ko) {
            co = Identity(c)
            ho = Add(h, k)
            ko = Identity(k)
        }> (m, t, x, w)
    }"""
    assert same(text, x=X, w=X + 1) == ["Loop", "Loop/Identity", "Loop/Add", "Identity"]


def test_run_time_trip_count_stays() -> None:
    text = """g (float[2,3] x, int64 m) => (float[2,3] y) {
        y = Loop <body = b (int64 i, bool c, float[2,3] h) => (bool co, float[2,3] ho) {
            co = Identity(c)
            ho = Add(h, x)
        }> (m, , x)
    }"""
    for count in (0, 1, 7):
        left = same(text, x=X, m=np.array(count))
        assert left == ["Loop", "Loop/Identity", "Loop/Add"]


def test_stack_over_a_run_time_trip_count_names_what_decides_it() -> None:
    text = """g (float[2,3] x, int64 m) => (float[n,2,3] y) {
        last, y = Loop <body = b (int64 i, bool c, float[2,3] h)
            => (bool co, float[2,3] ho, float[2,3] s) {
            co = Identity(c)
            ho = Add(h, x)
            s = Neg(ho)
        }> (m, , x)
    }"""
    with pytest.raises(MlopscError) as found:
        normalise(parse(text), {})
    assert getattr(found.value, "run_time_inputs", None) == ("m",)


def test_condition_that_ends_the_loop_stays() -> None:
    text = """g (float[2,3] x, float limit) => (float[2,3] y) <bool t = {1}> {
        y = Loop <body = b (int64 i, bool c, float[2,3] h) => (bool co, float[2,3] ho) {
            ho = Add(h, h)
            s = ReduceMax <keepdims = 0> (ho)
            co = Less(s, limit)
        }> (, t, x)
    }"""
    left = same(text, x=X, limit=np.array(100, np.float32))
    assert left == ["Loop", "Loop/Add", "Loop/ReduceMax", "Loop/Less"]


def test_constant_loop_is_folded() -> None:
    text = """g (float[10] x) => (float[10] y) <int64 m = {10}, bool t = {1}, float s = {1.5}> {
        last, steps = Loop <body = b (int64 i, bool c, float h) => (bool co, float ho, float so) {
            co = Identity(c)
            ho = Add(h, s)
            so = Identity(h)
        }> (m, t, s)
        y = Mul(x, steps)
    }"""
    assert same(text, x=np.ones(10, np.float32)) == ["Mul"]


def test_passes_reach_bodies_inside_bodies() -> None:
    text = """g (float[2,3] x, bool p) => (float[2,3] y)
    <int64 m = {3}, bool t = {1}, float w = {2}> {
        y = Loop <body = b (int64 i, bool c, float[2,3] h) => (bool co, float[2,3] ho) {
            co = Identity(c)
            ho = If <
                then_branch = left () => (float[2,3] a) {
                    w2 = Mul(w, w)
                    size = Shape(h)
                    e = Expand(w2, size)
                    f = Sum(h, e, x)
                    a = Identity(f)
                },
                else_branch = right () => (float[2,3] b) {
                    b = Loop <body = inner (int64 j, bool d, float[2,3] k)
                        => (bool dd, float[2,3] l) {
                        dd = Identity(d)
                        l = Mul(k, h)
                    }> (m, t, h)
                }> (p)
        }> (m, t, x)
    }"""
    for choice in (True, False):
        left = same(text, x=X, p=np.array(choice))
        assert "Loop/If/Sum" not in left and "Loop/If/Shape" not in left
        assert left.count("Loop/If/Add") == 2
        assert "Loop/If/Loop/Mul" in left


def test_equal_names_in_branches_and_outside_stay_apart() -> None:
    text = """g (float[2,3] x, bool c) => (float[2,3] y) <bool t = {1}> {
        y1 = If <
            then_branch = left () => (float[2,3] a) { v = Add(x, x) a = Neg(v) },
            else_branch = right () => (float[2,3] a) { v = Mul(x, x) a = Neg(v) }> (t)
        v = Sub(y1, x)
        y = If <
            then_branch = left () => (float[2,3] a) { a = Neg(v) },
            else_branch = right () => (float[2,3] a) { a = Exp(v) }> (c)
    }"""
    assert same(text, x=X, c=np.array(True))[-3:] == ["If", "If/Neg", "If/Exp"]


@pytest.mark.parametrize("choice", [True, False])
def test_branch_may_return_its_own_constant(choice: bool) -> None:
    text = """g (float[2,3] x, bool c) => (float[2,3] y) {
        y = If <
            then_branch = left () => (float[2,3] a) { a = Identity(x) },
            else_branch = right () => (float[2,3] r) { r = Neg(x) }> (c)
    }"""
    model = parse(text)
    for branch in model.graph.node[0].attribute:
        if branch.g.name == "right":
            del branch.g.node[:]
            branch.g.initializer.append(onnx.numpy_helper.from_array(X + 1, "r"))
    inputs = {"x": X, "c": np.array(choice)}
    given = run_graph(normalise(model, {}).model, inputs)["y"]
    np.testing.assert_array_equal(given, X if choice else X + 1)


def test_loop_may_return_its_own_constant() -> None:
    model = parse(loop("ho = Add(h, x)"))
    (body,) = [a.g for n in model.graph.node for a in n.attribute if a.HasField("g")]
    body.initializer.append(onnx.numpy_helper.from_array(X + 1, body.output[1].name))
    del body.node[-1]
    given = run_graph(normalise(model, {}).model, {"x": X})["y"]
    np.testing.assert_array_equal(given, X + 1)


def test_condition_counts_without_a_first_one() -> None:
    text = """g (float[2,3] x, int64 m) => (float[2,3] y) <int64 two = {2}> {
        y = Loop <body = b (int64 i, bool c, float[2,3] h) => (bool co, float[2,3] ho) {
            ho = Add(h, x)
            co = Less(i, two)
        }> (m, , x)
    }"""
    assert same(text, x=X, m=np.array(10)) == ["Loop", "Loop/Add", "Loop/Less"]


def test_loop_without_end_is_refused() -> None:
    text = loop("ho = Add(h, x)").replace("(m, t, x)", "(, t, x)")
    with pytest.raises(UnsupportedOpError, match="never ends"):
        normalise(parse(text), {})


def test_branch_that_makes_no_sense_is_no_error_if_it_is_not_taken() -> None:
    text = """g (float[2,3] x) => (float[2,3] y) <int64 limit = {4}, int64 zero = {0}> {
        size = Shape(x)
        count = Size(size)
        c = Equal(count, limit)
        y = If <
            then_branch = left () => (float[2,3] a) {
                four = Constant <value_ints = [1, 1, 1, -4]> ()
                parts = Add(size, four)
                m = Neg(parts)
                z = ConstantOfShape(m)
                a = Add(x, z)
            },
            else_branch = right () => (float[2,3] b) { b = Neg(x) }> (c)
    }"""
    done = normalise(parse(text), {})
    assert operators(onnx.load_model_from_string(done.model).graph) == ["Neg"]


COUNTED = """g (float[2,3] x) => (float[2,3] y, float[{count},2,3] s)
<bool on = {{1}}, int32 zero = {{0}}, int32 one = {{1}}, int32 most = {{{most}}}, int64 n = {{{n}}}>
{{ i, y, s = Loop <body = b (int64 k, bool c, int32 i0, float[2,3] a)
     => (bool go, int32 i1, float[2,3] d, float[2,3] e)
   {{ i1 = Add(i0, one)
      f = Cast<to = 1>(i1)
      m = Cast<to = 1>(most)
      less = Less(f, m)
      same = Identity(k)
      there = GreaterOrEqual(same, k)
      go = And(less, there)
      d = Tanh(a)
      e = Identity(a) }}> (n, on, zero, x) }}"""


@pytest.mark.parametrize(("most", "n", "count"), [(4, 9, 4), (9, 5, 5), (1, 7, 1)])
def test_loop_that_counts_by_itself_gets_a_trip_count(most: int, n: int, count: int) -> None:
    left = same(COUNTED.format(most=most, n=n, count=count), x=X)
    assert "Loop/Less" not in left
    assert ("Loop" in left) == (count > 1)
