"""Values of graphs get other names everywhere, and no two the same."""

from __future__ import annotations

import onnx
from models import model, node, value

from mlopsc.frontends.onnx_names import all_nodes, rename_values


def _branching() -> onnx.ModelProto:
    """Return a model whose branches read the input from outside."""
    bodies = {
        name: onnx.helper.make_graph(
            [node(op, ["x"], [f"{name}_out"])], name, [], [value(f"{name}_out", [2])]
        )
        for name, op in (("then_branch", "Neg"), ("else_branch", "Abs"))
    }
    nodes = [node("If", ["c"], ["z"], **bodies), node("Neg", ["z"], ["label"])]
    inputs = [value("x", [2]), onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])]
    return model(nodes, inputs, [value("label", [2])])


def test_values_are_renamed_in_bodies_and_others_step_aside() -> None:
    made = _branching()
    renamed = rename_values(made.graph, {"x": "z", "c": "label_inner"}, ["label"])
    onnx.checker.check_model(made, full_check=True)
    assert renamed == {"x": "z", "c": "label_inner", "z": "z_inner", "label": "label_inner_"}
    assert [v.name for v in made.graph.input] == ["z", "label_inner"]
    assert [v.name for v in made.graph.output] == ["label_inner_"]
    assert [list(n.input) for n in all_nodes(made.graph)] == [
        ["label_inner"],
        ["z_inner"],
        ["z"],
        ["z"],
    ]


def test_names_can_be_exchanged() -> None:
    made = model([node("Neg", ["x"], ["y"])], [value("x", [2])], [value("y", [2])])
    rename_values(made.graph, {"x": "y", "y": "x"})
    assert (made.graph.input[0].name, made.graph.output[0].name) == ("y", "x")
