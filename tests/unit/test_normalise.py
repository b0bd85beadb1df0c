"""Normalising: what a graph becomes, and which graphs are refused with which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest
from models import model, node, one_op, random, save, value
from onnx import helper, numpy_helper
from support import check_words

from mlopsc.errors import MlopscError, OpenShapeError, SourceError, UnsupportedOpError
from mlopsc.importer import ImportOptions, import_bundle
from mlopsc.importer.normalise import Normalised, normalise
from mlopsc.importer.normalise.upgrade import OPSET, upgrade_opset


def graph_of(done: Normalised) -> onnx.GraphProto:
    loaded = onnx.load_model_from_string(done.model)
    onnx.checker.check_model(loaded, full_check=True)
    return loaded.graph


def operators(done: Normalised) -> list[str]:
    return [n.op_type for n in graph_of(done).node]


def weights(done: Normalised) -> dict[str, np.ndarray]:
    return {i.name: numpy_helper.to_array(i) for i in graph_of(done).initializer}


def shape_of(done: Normalised, place: str = "input") -> list[int]:
    (only,) = getattr(graph_of(done), place)
    return [d.dim_value for d in only.type.tensor_type.shape.dim]


def test_model_in_normal_form_is_left_alone() -> None:
    done = normalise(one_op("Relu"), {})
    assert operators(done) == ["Relu"]
    assert (done.nodes, done.parameters, done.bound, done.findings) == (1, 0, {}, ())
    assert done.opset == OPSET


def test_normal_form_is_a_fixed_point() -> None:
    first = normalise(one_op("Softplus", ["n", 4]), {})
    again = normalise(onnx.load_model_from_string(first.model), {})
    assert again.model == first.model


def test_same_model_gives_the_same_bytes() -> None:
    assert normalise(one_op("Relu"), {}).model == normalise(one_op("Relu"), {}).model


def test_constants_are_folded() -> None:
    made = model(
        [
            node("Mul", ["a", "a"], ["square"]),
            node("Neg", ["square"], ["w"]),
            node("Add", ["x", "w"], ["y"]),
        ],
        [value("x", [3])],
        [value("y", [3])],
        {"a": np.float32([1, 2, 3])},
    )
    done = normalise(made, {})
    assert operators(done) == ["Add"]
    (constant,) = weights(done).values()
    assert constant.tolist() == [-1, -4, -9]
    assert done.parameters == 3
    assert "FoldConstants" in done.passes


def test_constant_nodes_become_weights() -> None:
    constant = node("Constant", [], ["w"], value=numpy_helper.from_array(random(4)))
    made = model([constant, node("Mul", ["x", "w"], ["y"])], [value("x", [4])], [value("y", [4])])
    done = normalise(made, {})
    assert operators(done) == ["Mul"]
    assert np.array_equal(*weights(done).values(), random(4))


def test_folding_is_exact_for_special_values() -> None:
    special = np.float32([np.nan, np.inf, -np.inf, -0.0, 1e-45])
    made = model(
        [node("Concat", ["a", "a"], ["w"], axis=0), node("Add", ["x", "w"], ["y"])],
        [value("x", [10])],
        [value("y", [10])],
        {"a": special},
    )
    (constant,) = weights(normalise(made, {})).values()
    assert constant.tobytes() == np.concatenate([special, special]).tobytes()


def test_shape_of_a_bound_input_is_folded() -> None:
    made = model(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["first"], axis=0),
            node("Concat", ["first", "rest"], ["target"], axis=0),
            node("Reshape", ["x", "target"], ["y"]),
        ],
        [value("x", ["batch", 2, 3])],
        [value("y", ["batch", 6])],
        {"zero": np.int64([0]), "rest": np.int64([-1])},
    )
    done = normalise(made, {"batch": 5})
    assert operators(done) == ["Reshape"]
    assert shape_of(done, "output") == [5, 6]


@pytest.mark.parametrize(
    ("start", "end", "sizes"), [(1, None, [2, 3]), (0, -1, [4, 2]), (-2, 3, [2, 3])]
)
def test_part_of_a_shape_is_folded(start: int, end: int | None, sizes: list[int]) -> None:
    limits = {"start": start} | ({} if end is None else {"end": end})
    made = model(
        [
            node("Shape", ["x"], ["s"], **limits),
            node("Cast", ["s"], ["f"], to=onnx.TensorProto.FLOAT),
            node("ReduceSum", ["x"], ["total"], keepdims=0),
            node("Add", ["f", "total"], ["y"]),
        ],
        [value("x", [4, 2, 3])],
        [value("y", [2])],
    )
    (constant,) = weights(normalise(made, {})).values()
    assert constant.tolist() == sizes


def test_output_that_is_constant_stays_an_output() -> None:
    made = model([node("Neg", ["w"], ["y"])], [], [value("y", [2])], {"w": np.float32([1, 2])})
    graph = graph_of(normalise(made, {}))
    assert [o.name for o in graph.output] == ["y"]


def test_batch_is_one_by_default() -> None:
    done = normalise(one_op("Relu", ["n", 4]), {})
    assert shape_of(done) == [1, 4]
    assert shape_of(done, "output") == [1, 4]
    assert done.bound == {"n": 1}


def test_dimension_without_a_name_is_bound_by_place() -> None:
    done = normalise(one_op("Relu", [None, None]), {"x:0": 2, "x:1": 5})
    assert shape_of(done) == [2, 5]
    assert done.bound == {"x:0": 2, "x:1": 5}


def test_dimension_is_bound_by_name() -> None:
    done = normalise(one_op("Relu", ["n", "width"]), {"width": 7})
    assert shape_of(done) == [1, 7]
    assert done.bound == {"n": 1, "width": 7}


def test_place_wins_over_name() -> None:
    made = model(
        [node("MatMul", ["a", "b"], ["y"])],
        [value("a", ["n", "k"]), value("b", ["k", "n"])],
        [value("y", ["n", "m"])],
    )
    done = normalise(made, {"n": 3, "k": 4, "b:1": 9})
    assert shape_of(done, "output") == [3, 9]


def test_shapes_follow_from_what_is_bound() -> None:
    made = model(
        [node("Conv", ["x", "w"], ["c"]), node("GlobalAveragePool", ["c"], ["y"])],
        [value("x", ["n", 2, "h", "w_"])],
        [value("y", ["n", 3, 1, 1])],
        {"w": random(3, 2, 3, 3)},
    )
    done = normalise(made, {"h": 9, "w_": 7})
    sizes = {v.name: v.type.tensor_type.shape for v in graph_of(done).value_info}
    assert [d.dim_value for d in sizes["c"].dim] == [1, 3, 7, 5]


def test_open_dimension_is_named_with_what_to_do() -> None:
    with pytest.raises(OpenShapeError) as caught:
        normalise(one_op("Relu", ["n", "width"]), {})
    assert "'width'" in caught.value.message
    assert "'x'" in caught.value.message
    assert "--bind width=" in caught.value.hint


def test_open_dimension_without_a_name_is_named_by_place() -> None:
    with pytest.raises(OpenShapeError) as caught:
        normalise(one_op("Relu", [None, None]), {})
    assert "--bind x:1=" in caught.value.hint


@pytest.mark.parametrize("name", ["height", "x:5", "X", "x:", ":0", "n ", ""])
def test_binding_that_fits_nothing_is_named_with_what_there_is(name: str) -> None:
    with pytest.raises(OpenShapeError) as caught:
        normalise(one_op("Relu", ["n", "width"]), {name: 3, "width": 2})
    assert f"{name}=3" in caught.value.message
    assert "width" in caught.value.message


def test_binding_of_a_fixed_dimension_is_refused() -> None:
    with pytest.raises(OpenShapeError, match="x:1=5"):
        normalise(one_op("Relu", ["n", 4]), {"x:1": 5})


@pytest.mark.parametrize("size", [0, -1, 1 << 63, 10**20])
def test_binding_to_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(OpenShapeError) as caught:
        normalise(one_op("Relu", ["n", 4]), {"n": size})
    assert str(size) in caught.value.message


@pytest.mark.parametrize("shape", [[-1, 4], [1, -7]])
def test_negative_dimension_in_the_file_is_refused(shape: list[int]) -> None:
    with pytest.raises((SourceError, OpenShapeError)) as caught:
        normalise(one_op("Relu", shape), {})
    assert str(min(shape)) in caught.value.message


def test_shape_that_depends_on_values_is_refused() -> None:
    made = model(
        [node("Reshape", ["x", "s"], ["y"])],
        [value("x", [6]), value("s", [2], "int64")],
        [value("y", [None, None])],
    )
    with pytest.raises(UnsupportedOpError) as caught:
        normalise(made, {})
    assert "make_y" in caught.value.message
    assert "'s'" in caught.value.message


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike"])
def test_unsupported_operator_is_named_with_its_node(op: str) -> None:
    made = one_op(op, [4, 4])
    with pytest.raises(UnsupportedOpError) as caught:
        normalise(made, {})
    assert op in caught.value.message
    assert "make_y" in caught.value.message
    assert "core-ops.md" in caught.value.hint


def test_operator_of_another_domain_is_named_with_it() -> None:
    made = model(
        [helper.make_node("FusedGelu", ["x"], ["y"], name="special", domain="com.example")],
        [value("x", [4])],
        [value("y", [4])],
        domains=["com.example"],
    )
    with pytest.raises(UnsupportedOpError, match=r"com\.example::FusedGelu"):
        normalise(made, {})


def test_core_operator_name_in_another_domain_is_not_core() -> None:
    made = model(
        [helper.make_node("Relu", ["x"], ["y"], name="special", domain="com.example")],
        [value("x", [4])],
        [value("y", [4])],
        domains=["com.example"],
    )
    with pytest.raises(UnsupportedOpError, match=r"com\.example::Relu"):
        normalise(made, {})


def branches() -> dict[str, onnx.GraphProto]:
    return {
        name: helper.make_graph(
            [node(op, ["x"], [f"{name}_out"])], name, [], [value(f"{name}_out", [2])]
        )
        for name, op in (("then_branch", "Neg"), ("else_branch", "Abs"))
    }


@pytest.mark.parametrize("dtype", ["string", "complex64"])
def test_foreign_element_type_of_an_input_is_named(dtype: str) -> None:
    made = model(
        [node("Identity", ["x"], ["y"])], [value("x", [2], dtype)], [value("y", [2], dtype)]
    )
    with pytest.raises(UnsupportedOpError) as caught:
        normalise(made, {})
    assert "'x'" in caught.value.message
    assert dtype.upper() in caught.value.message
    assert "float32" in caught.value.message


@pytest.mark.parametrize(("dtype", "wide"), [("float16", "FLOAT"), ("uint16", "INT32")])
def test_operators_compute_in_a_type_that_has_a_kernel(dtype: str, wide: str) -> None:
    made = model(
        [node("Max", ["x", "x2"], ["m"]), node("Reshape", ["m", "shape"], ["y"])],
        [value("x", [2], dtype), value("x2", [2], dtype)],
        [value("y", [1, 2], dtype)],
        {"shape": np.array([1, 2])},
    )
    done = onnx.load_model_from_string(normalise(made, {}).model)
    casts = [n for n in done.graph.node if n.op_type == "Cast"]
    targets = [helper.get_attribute_value(n.attribute[0]) for n in casts]
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    assert targets == [onnx.TensorProto.DataType.Value(wide)] * 2 + [code]
    assert done.graph.node[-1].op_type == "Reshape"  # moves elements: stays in their type
    assert done.graph.output[0].type.tensor_type.elem_type == code


@pytest.mark.parametrize("kind", ["sequence", "optional"])
def test_value_that_is_no_tensor_is_refused(kind: str) -> None:
    tensor = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [2])
    make = (
        helper.make_sequence_type_proto if kind == "sequence" else helper.make_optional_type_proto
    )
    values = [helper.make_value_info(name, make(tensor)) for name in ("x", "y")]
    with pytest.raises(MlopscError) as caught:
        normalise(model([node("Identity", ["x"], ["y"])], values[:1], values[1:]), {})
    assert "'x'" in caught.value.message


def test_identity_and_duplicates_are_removed() -> None:
    made = model(
        [
            node("Identity", ["x"], ["same"]),
            node("Mul", ["same", "w1"], ["a"]),
            node("Mul", ["x", "w2"], ["b"]),
            node("Add", ["a", "b"], ["y"]),
        ],
        [value("x", [3])],
        [value("y", [3])],
        {"w1": random(3), "w2": random(3)},
    )
    done = normalise(made, {})
    assert "Identity" not in operators(done)
    assert len(weights(done)) == 1


def test_equal_nodes_are_computed_once() -> None:
    made = model(
        [
            node("Exp", ["x"], ["a"]),
            node("Exp", ["x"], ["b"]),
            node("Add", ["a", "b"], ["y"]),
        ],
        [value("x", [3])],
        [value("y", [3])],
    )
    assert operators(normalise(made, {})) == ["Exp", "Add"]


def test_input_that_is_given_on_stays_an_output() -> None:
    made = model([node("Identity", ["x"], ["y"])], [value("x", [3])], [value("y", [3])])
    graph = graph_of(normalise(made, {}))
    assert [i.name for i in graph.input] == ["x"]
    assert [o.name for o in graph.output] == ["y"]


def test_unused_nodes_and_weights_are_removed() -> None:
    made = model(
        [node("Relu", ["x"], ["y"]), node("Exp", ["x"], ["unused"])],
        [value("x", [3])],
        [value("y", [3])],
        {"w": random(100)},
    )
    done = normalise(made, {})
    assert operators(done) == ["Relu"]
    assert done.parameters == 0


def test_unused_input_stays_in_the_signature() -> None:
    made = model(
        [node("Relu", ["x"], ["y"])], [value("x", [3]), value("z", [4])], [value("y", [3])]
    )
    assert [i.name for i in graph_of(normalise(made, {})).input] == ["x", "z"]


def test_weights_listed_as_inputs_are_no_inputs() -> None:
    made = model(
        [node("Mul", ["x", "w"], ["y"])],
        [value("x", [3]), value("w", [3])],
        [value("y", [3])],
        {"w": random(3)},
    )
    assert [i.name for i in graph_of(normalise(made, {})).input] == ["x"]


def test_functions_are_inlined() -> None:
    function = helper.make_function(
        "com.example",
        "Twice",
        ["a"],
        ["b"],
        [node("Add", ["a", "a"], ["t"]), node("Relu", ["t"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    made = model(
        [helper.make_node("Twice", ["x"], ["y"], name="call", domain="com.example")],
        [value("x", [3])],
        [value("y", [3])],
        functions=[function],
        domains=["com.example"],
    )
    done = normalise(made, {})
    assert operators(done) == ["Add", "Relu"]
    assert not onnx.load_model_from_string(done.model).functions


def call_of_softplus(version: int, last: str) -> onnx.ModelProto:
    """Return a model with opset 18 whose function has another one."""
    function = helper.make_function(
        "com.example",
        "Twice",
        ["a"],
        ["b"],
        [node("Softplus", ["a"], ["t"]), node(last, ["t"], ["b"])],
        [helper.make_opsetid("", version)],
    )
    return model(
        [helper.make_node("Twice", ["x"], ["y"], name="call", domain="com.example")],
        [value("x", [3])],
        [value("y", [3])],
        functions=[function],
        domains=["com.example"],
    )


@pytest.mark.parametrize("version", [15, 21])
def test_functions_may_have_an_opset_of_their_own(version: int) -> None:
    done = normalise(call_of_softplus(version, "Neg"), {})
    assert operators(done) == ["Softplus", "Neg"]
    assert done.opset == OPSET


def test_function_whose_operators_differ_in_the_models_opset_is_refused() -> None:
    with pytest.raises(SourceError) as caught:
        normalise(call_of_softplus(12, "HardSwish"), {})
    words = "'Twice'", "opset 12", "opset 18", "HardSwish"
    check_words(caught.value.message, caught.value.hint, *words)


def test_names_of_inputs_and_outputs_are_kept() -> None:
    made = model(
        [node("Relu", ["in:0/ä"], ["out put"])], [value("in:0/ä", [3])], [value("out put", [3])]
    )
    graph = graph_of(normalise(made, {}))
    assert (graph.input[0].name, graph.output[0].name) == ("in:0/ä", "out put")


def test_what_is_written_in_documentation_does_not_count() -> None:
    made = one_op("Relu")
    other = one_op("Relu")
    other.graph.doc_string = other.doc_string = "exported on a Tuesday"
    other.graph.node[0].doc_string = "file model.py, line 12"
    assert normalise(made, {}).model == normalise(other, {}).model


@pytest.mark.parametrize(
    ("weight", "finding"),
    [
        ([np.nan, 1, np.nan], "weight 'w' holds 2 NaN of 3 values"),
        ([np.inf, 1, -np.inf], "weight 'w' holds 2 infinite of 3 values"),
    ],
)
def test_odd_weights_are_reported_and_kept(weight: list[float], finding: str) -> None:
    made = model(
        [node("Mul", ["x", "w"], ["y"])],
        [value("x", [3])],
        [value("y", [3])],
        {"w": np.float32(weight)},
    )
    done = normalise(made, {})
    assert done.findings == (finding,)
    assert np.array_equal(weights(done)["w"], np.float32(weight), equal_nan=True)


def test_usual_weights_are_no_finding() -> None:
    made = model(
        [node("Mul", ["x", "w"], ["y"])],
        [value("x", [3])],
        [value("y", [3])],
        {"w": np.float32([0, -0.0, 3e38])},
    )
    assert normalise(made, {}).findings == ()


@pytest.mark.parametrize(
    "made",
    [
        model(
            [node("Add", ["x", "w"], ["y"])], [value("x", [3])], [value("y", [3])], {"w": random(2)}
        ),
        model([node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", [7])]),
        model([node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", [2], "int32")]),
        model([node("Softmax", ["x"], ["y"], axis=9)], [value("x", [2])], [value("y", [2])]),
        model([node("Flatten", ["x"], ["y"])], [value("x", [2, 3])], [value("y", [2, 3, 1])]),
    ],
    ids=["sizes", "declared size", "declared type", "axis", "declared rank"],
)
def test_graph_that_contradicts_itself_is_refused_or_put_right(
    made: onnx.ModelProto, tmp_path: Path
) -> None:
    """Nothing reaches a bundle whose signature is not what the graph computes."""
    try:
        bundle = import_bundle(save(made, tmp_path / "made.onnx"), ImportOptions())
    except SourceError:
        return
    (spec,) = bundle.manifest.outputs
    computed = bundle.vectors[0].outputs["y"]
    assert (spec.dtype, spec.shape) == (computed.dtype.name, computed.shape)


def test_constant_operation_that_fails_is_an_error_of_the_source() -> None:
    made = model(
        [node("Gather", ["table", "index"], ["w"]), node("Add", ["x", "w"], ["y"])],
        [value("x", [1])],
        [value("y", [1])],
        {"table": random(3), "index": np.int64([9])},
    )
    with pytest.raises(SourceError):
        normalise(made, {})


def test_scalars_are_allowed() -> None:
    done = normalise(one_op("Relu", []), {})
    assert shape_of(done) == []


def test_input_of_size_zero_is_refused_or_kept_but_never_guessed() -> None:
    try:
        assert shape_of(normalise(one_op("Relu", [0, 4]), {})) == [0, 4]
    except OpenShapeError as error:
        assert "'x'" in error.message


@pytest.mark.parametrize("op", ["Add", "Mul", "Pow"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_old_operands_start_at_their_axis(op: str, axis: int) -> None:
    """A finding: ONNX's converter places them as if they were matrices."""
    made = model(
        [node(op, ["x", "w"], ["y"], broadcast=1, axis=axis)],
        [value("x", [3, 3, 3, 3]), value("w", [3])],
        [value("y", [3, 3, 3, 3])],
        opset=6,
    )
    upgraded = ir.to_proto(upgrade_opset(ir.from_proto(made), 21))
    rng = np.random.default_rng(0)
    x, w = rng.random((3, 3, 3, 3), np.float32), rng.random(3, np.float32)
    (y,) = onnx.reference.ReferenceEvaluator(upgraded).run(None, {"x": x, "w": w})
    function = {"Add": np.add, "Mul": np.multiply, "Pow": np.power}[op]
    np.testing.assert_allclose(y, function(x, w.reshape(3, *[1] * (3 - axis))), rtol=1e-6)
