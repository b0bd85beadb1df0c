"""Strings are numbered: what outputs of strings become, and what of strings is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from models import Array, model, node, value
from onnx import helper
from pydantic import ValidationError

from mlopsc.bundle import graph_signature
from mlopsc.errors import BrokenPackageError, UnsupportedOpError
from mlopsc.importer.normalise import Normalised, normalise
from mlopsc.importer.normalise.zip_maps import drop_zip_maps
from mlopsc.labels import to_places, to_strings
from mlopsc.reference import run_graph
from mlopsc.schema.common import TensorSpec

ML = "ai.onnx.ml"
OPSET = 19  # where Equal takes strings


def ml(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return node(op, inputs, outputs, domain=ML, **attributes)


def names(*strings: str) -> Array:
    return np.array(strings, object)


def encoder(given: str, made: str, *strings: str) -> onnx.NodeProto:
    """Return a node that gives the strings for 0, 1, 2, ..."""
    keys = list(range(len(strings)))
    return ml("LabelEncoder", [given], [made], keys_int64s=keys, values_strings=list(strings))


def graph(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, Array] | None = None,
    version: int = 3,
) -> onnx.ModelProto:
    made = model(nodes, inputs, outputs, constants, opset=OPSET)
    made.opset_import.append(helper.make_opsetid(ML, version))
    return made


def tables(done: Normalised) -> dict[str, tuple[str, ...] | None]:
    return {spec.name: spec.labels for spec in graph_signature(done.model)[1]}


def check(made: onnx.ModelProto, **inputs: Array) -> Normalised:
    """Check that the normal form gives what the model gives, strings looked up in the tables."""
    done = normalise(made, {})
    kinds = {v.name: v.type.tensor_type.elem_type for v in made.graph.output}
    assert {name for name, table in tables(done).items() if table is not None} == {
        name for name, kind in kinds.items() if kind == onnx.TensorProto.STRING
    }
    expected = run_graph(made.SerializeToString(), inputs)
    got = to_strings(run_graph(done.model, inputs), graph_signature(done.model)[1])
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        assert got[name].tolist() == array.tolist(), name
    return done


I = np.array([[0, 1, 2], [1, 7, 0]])  # noqa: E741


def test_an_encoder_gives_places_in_its_values() -> None:
    made = graph(
        [encoder("x", "y", "z", "ü", "z")],
        [value("x", [2, 3], "int64")],
        [value("y", [2, 3], "string")],
    )
    done = check(made, x=I)
    assert tables(done) == {"y": ("z", "ü", "_Unused")}
    assert run_graph(done.model, {"x": I})["y"].tolist() == [[0, 1, 0], [1, 2, 0]]


@pytest.mark.parametrize("shape", [[], [1], [2, 1, 3]])
def test_strings_have_any_shape(shape: list[int]) -> None:
    made = graph(
        [encoder("x", "y", "a", "b")],
        [value("x", shape, "int64")],
        [value("y", shape, "string")],
    )
    check(made, x=np.ones(shape, np.int64))


@pytest.mark.parametrize("shape", [[], [0], [2, 0], [2, 2]])
def test_constants_are_a_table_and_places(shape: list[int]) -> None:
    strings = np.resize(names("b", "", "b", "\n"), shape).astype(object)
    made = graph(
        [node("Identity", ["c"], ["y"]), node("Neg", ["x"], ["z"])],
        [value("x", [1])],
        [value("y", shape, "string"), value("z", [1])],
        {"c": strings},
    )
    done = check(made, x=np.float32([1]))
    assert tables(done)["y"] == tuple(dict.fromkeys(strings.ravel().tolist()))


def test_strings_that_meet_share_a_table_and_others_do_not() -> None:
    made = graph(
        [
            encoder("x", "s", "p", "q"),
            encoder("x", "t", "q", "r"),
            encoder("x", "u", "q", "p"),
            node("Where", ["c", "s", "t"], ["w"]),
            node("Concat", ["w", "d"], ["y"], axis=1),
            node("Transpose", ["u"], ["z"]),
            node("Equal", ["s", "d"], ["e"]),
        ],
        [value("x", [2, 3], "int64"), value("c", [3], "bool")],
        [value("y", [2, 4], "string"), value("z", [3, 2], "string"), value("e", [2, 3], "bool")],
        {"d": names("q", "new").reshape(2, 1)},
    )
    done = check(made, x=I, c=np.array([True, False, True]))
    assert tables(done) == {"y": ("p", "q", "_Unused", "r", "new"), "z": ("q", "p", "_Unused"),
                            "e": None}  # fmt: skip


def test_strings_that_are_encoded_again_are_looked_up() -> None:
    made = graph(
        [
            encoder("x", "s", "p", "q", "r"),
            node("Flatten", ["s"], ["f"]),
            ml("LabelEncoder", ["f"], ["y"], keys_strings=["r", "p", "new"],
               values_floats=[1.5, 2.5, 3.5], default_float=-9.0),
            ml("LabelEncoder", ["f"], ["z"], keys_strings=["p", "q"], values_strings=["Q", "Q"],
               default_string="none"),
            ml("OneHotEncoder", ["s"], ["h"], cats_strings=["q", "r"]),
        ],
        [value("x", [2, 3], "int64")],
        [value("y", [2, 3]), value("z", [2, 3], "string"), value("h", [2, 3, 2])],
    )  # fmt: skip
    done = check(made, x=I)
    assert tables(done)["z"] == ("Q", "none")
    assert all(n.op_type != "LabelEncoder" for n in onnx.load_from_string(done.model).graph.node)


def test_older_encoders_are_written_as_todays() -> None:
    made = graph(
        [
            ml("CategoryMapper", ["x"], ["s"], cats_int64s=[0, 1, 2, 1],
               cats_strings=["p", "q", "r", "s"]),
            ml("CategoryMapper", ["s"], ["y"], cats_int64s=[5, 6, 7], cats_strings=["p", "s", "p"]),
        ],
        [value("x", [2, 3], "int64")],
        [value("y", [2, 3], "int64"), value("s", [2, 3], "string")],
    )  # fmt: skip
    check(made, x=I)
    made = graph(
        [
            ml("LabelEncoder", ["x"], ["s"], classes_strings=["p", "q", "r"]),
            ml("LabelEncoder", ["s"], ["y"], classes_strings=["q", "p"], default_int64=9),
        ],
        [value("x", [2, 3], "int64")],
        [value("y", [2, 3], "int64"), value("s", [2, 3], "string")],
        version=1,
    )
    check(made, x=I)


def test_tensors_of_pairs_are_read() -> None:
    tensor = helper.make_tensor
    kinds = onnx.TensorProto
    made = graph(
        [
            ml("LabelEncoder", ["x"], ["s"],
               keys_tensor=tensor("k", kinds.INT64, [2], [0, 1]),
               values_tensor=tensor("v", kinds.STRING, [2], [b"p", b"q"]),
               default_tensor=tensor("d", kinds.STRING, [1], [b"none"])),
            ml("LabelEncoder", ["s"], ["y"],
               keys_tensor=tensor("k", kinds.STRING, [2], [b"q", b"none"]),
               values_tensor=tensor("v", kinds.INT16, [2], [7, 8]),
               default_tensor=tensor("d", kinds.INT16, [1], [9])),
        ],
        [value("x", [2, 3], "int64")],
        [value("s", [2, 3], "string"), value("y", [2, 3], "int16")],
        version=4,
    )  # fmt: skip
    assert tables(check(made, x=I))["s"] == ("p", "q", "none")


def test_branches_and_loops_pass_strings_on() -> None:
    made = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 19, "ai.onnx.ml": 3]>
        g (bool c, int64[2] i, int64 n) => (string[2] y, string[2] z) {
            s = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1], values_strings = ["p", "q"]> (i)
            t = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1], values_strings = ["m", "q"]> (i)
            y = If (c) <
                then_branch = left () => (string[2] a) { a = Identity(s) },
                else_branch = right () => (string[2] b) { b = Identity(t) }>
            on = Constant <value = bool {1}> ()
            z = Loop (n, on, s) <body = body (int64 k, bool o, string[2] u) => (bool p, string[2] v)
                { p = Identity(o) v = Where(c, u, t) }>
        }"""
    )
    for c in (True, False):
        for n in (0, 2):
            done = check(made, c=np.array(c), i=np.array([0, 1]), n=np.array(n))
    assert tables(done)["y"] == tables(done)["z"]


LINEAR: dict[str, Any] = {
    "coefficients": [1.0, 2.0, 3.0, -4.0, -5.0, 6.0],
    "intercepts": [0.0, 1.0, 2.0],
}


@pytest.mark.parametrize("classes", [["b", "a", "ü"], ["b", "b", "a"]])
def test_a_classifier_gives_the_number_of_a_class(classes: list[str]) -> None:
    made = graph(
        [ml("LinearClassifier", ["x"], ["label", "y"], classlabels_strings=classes, **LINEAR)],
        [value("x", [4, 2])],
        [value("label", [4], "string"), value("y", [4, 3])],
    )
    done = check(made, x=np.float32([[1, 0], [0, 1], [-1, -1], [1, -1]]))
    assert tables(done)["label"] == tuple(dict.fromkeys(classes))


def test_a_label_that_others_name_first_is_looked_up() -> None:
    made = graph(
        [
            encoder("n", "s", "c", "b", "a"),
            ml("LinearClassifier", ["x"], ["l", "y"], classlabels_strings=["a", "b", "c"],
               **LINEAR),
            node("Concat", ["s", "l"], ["label"], axis=0),
        ],
        [value("n", [3], "int64"), value("x", [4, 2])],
        [value("label", [7], "string"), value("y", [4, 3])],
    )  # fmt: skip
    x = np.float32([[1, 0], [0, 1], [-1, -1], [1, -1]])
    check(made, n=np.array([2, 1, 0]), x=x)


def test_chosen_constants_of_an_export_are_labels() -> None:
    """As skl2onnx writes the labels of classifiers that have no operator of their own."""
    made = graph(
        [
            node("ArgMax", ["x"], ["a"], axis=1),
            ml("ArrayFeatureExtractor", ["classes", "a"], ["e"]),
            node("Cast", ["e"], ["t"], to=onnx.TensorProto.STRING),
            node("Reshape", ["t", "shape"], ["label"]),
        ],
        [value("x", [4, 3])],
        [value("label", [4], "string")],
        {"classes": names("setosa", "versicolor", "virginica"), "shape": np.array([-1])},
    )
    done = check(made, x=np.eye(4, 3, dtype=np.float32))
    assert tables(done) == {"label": ("setosa", "versicolor", "virginica")}


def test_what_computes_with_strings_is_refused_beside_what_does_not() -> None:
    made = graph(
        [
            encoder("x", "s", "p", "q"),
            node("StringConcat", ["s", "s"], ["y"]),
            encoder("x", "z", "p", "q"),
        ],
        [value("x", [2, 3], "int64")],
        [value("y", [2, 3], "string"), value("z", [2, 3], "string")],
    )
    made.opset_import[0].version = 20
    with pytest.raises(UnsupportedOpError, match="'values_strings' holds strings") as caught:
        normalise(made, {})
    errors = [caught.value, *caught.value.also]
    assert any("(StringConcat)" in error.message for error in errors)
    assert all("make_z" not in error.message for error in errors)
    assert not any(getattr(error, "run_time_inputs", ()) for error in errors)


def test_an_input_of_strings_that_is_given_back_is_refused_by_name_and_can_be_bound() -> None:
    made = graph(
        [node("Identity", ["x"], ["y"])], [value("x", [2], "string")], [value("y", [2], "string")]
    )
    with pytest.raises(UnsupportedOpError, match="'x' has element type STRING") as caught:
        normalise(made, {})
    assert "let encoders alone take strings, or feed integers" in str(caught.value.hint)
    assert caught.value.run_time_inputs == ("x",)


def test_text_that_is_no_utf8_is_refused() -> None:
    made = graph([node("Identity", ["c"], ["y"])], [], [value("y", [1], "string")])
    tensor = helper.make_tensor("c", onnx.TensorProto.STRING, [1], [b"\xff"])
    made.graph.initializer.append(tensor)
    with pytest.raises(UnsupportedOpError, match="not UTF-8"):
        normalise(made, {})


def test_zip_map_becomes_its_scores() -> None:
    pairs = helper.make_map_type_proto(
        onnx.TensorProto.STRING, helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
    )
    made = graph(
        [
            ml("LinearClassifier", ["x"], ["label", "p"], classlabels_strings=["b", "a", "c"],
               **LINEAR),
            ml("ZipMap", ["p"], ["y"], classlabels_strings=["b", "a", "c"]),
        ],
        [value("x", [2, 2])],
        [
            value("label", [2], "string"),
            helper.make_value_info("y", helper.make_sequence_type_proto(pairs)),
        ],
    )  # fmt: skip
    x = np.float32([[1, 0], [0, 1]])
    before = made.SerializeToString()
    expected = run_graph(before, {"x": x})
    done = normalise(drop_zip_maps(made), {})
    assert made.SerializeToString() == before
    assert [str(s) for s in graph_signature(done.model)[1]] == [
        "label: int64[2] of 3 labels",
        "y: float32[2, 3]",
    ]
    found = run_graph(done.model, {"x": x})["y"]
    assert [[expected[f"y_{row}"][c] for c in "bac"] for row in range(2)] == found.tolist()


def spec(*labels: str) -> TensorSpec:
    return TensorSpec(name="y", dtype="int64", shape=(2,), labels=labels)


def test_strings_and_places_are_each_others_inverse() -> None:
    strings = to_strings({"y": np.array([1, 0])}, [spec("a", "b")])["y"]
    assert (strings.dtype, strings.tolist()) == (np.dtype(object), ["b", "a"])
    assert to_places(strings, ("a", "b")).tolist() == [1, 0]
    assert to_places(names("c", "b"), ("a", "b")).tolist() == [-1, 1]


@pytest.mark.parametrize("places", [[0, 2], [-1, 0]])
def test_places_outside_the_table_are_refused(places: list[int]) -> None:
    with pytest.raises(BrokenPackageError, match="expected 0 to 1"):
        to_strings({"y": np.array(places)}, [spec("a", "b")])


@pytest.mark.parametrize("change", [{"labels": ["a", "a"]}, {"dtype": "int32"}])
def test_labels_that_are_none_do_not_fit_the_schema(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TensorSpec.model_validate({**spec("a").model_dump(), **change})
