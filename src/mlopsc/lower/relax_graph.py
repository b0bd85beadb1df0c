"""ONNX graphs → one Relax module whose ``main`` is a straight list of TIR calls.

The stages are joined by name into one graph first, so that fusion sees across them. What holds
afterwards: static shapes, fused operators, constants folded, no Relax operator left in ``main``
except allocation and reshapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from mlopsc.dtypes import BY_ONNX_CODE
from mlopsc.errors import CompilerError
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.graph import StageGraph


def compile_graph(
    stages: Sequence[StageGraph], target: Any
) -> tuple[Any, list[TensorSpec], list[TensorSpec]]:
    """Return the Relax module and the signature of the joined graph.

    Raises:
        CompilerError: TVM cannot translate an operator of the graph.
    """
    model = join_stages(stages)
    try:
        module = from_onnx(model, opset=_opset(model))
    except Exception as error:  # TVM raises many kinds; all mean the same to the user
        text = " ".join(str(error).split())
        raise CompilerError(
            f"the model cannot be translated for the compiler: {text[:400]}"
        ) from error
    transform = relax.transform
    with target, tvm.transform.PassContext(opt_level=3):
        module = tvm.transform.Sequential(
            [
                relax.backend.DispatchSampling(),
                relax.backend.DispatchSortScan(),
                transform.DecomposeOpsForInference(),
                transform.LegalizeOps(),
                transform.AnnotateTIROpPattern(),
                transform.FoldConstant(),
                transform.FuseOps(),
                transform.FuseTIR(),
                transform.DeadCodeElimination(),
                transform.RewriteDataflowReshape(),
                transform.ToNonDataflow(),
                transform.RemovePurityChecking(),
                transform.CallTIRRewrite(),
            ]
        )(module)
    return module, [_spec(v) for v in model.graph.input], [_spec(v) for v in model.graph.output]


def join_stages(stages: Sequence[StageGraph]) -> onnx.ModelProto:
    """Return the stages as one model; each stage's outputs feed the next one's inputs by name."""
    joined = onnx.load_model_from_string(stages[0].model)
    for stage in stages[1:]:
        following = onnx.load_model_from_string(stage.model)
        names = [value.name for value in following.graph.input]
        kept = {value.name for value in [*following.graph.output]}
        joined = onnx.compose.add_prefix(joined, f"before_{stage.name}/")
        joined_inputs = {v.name for v in joined.graph.input}
        joined = onnx.compose.merge_models(
            joined,
            following,
            io_map=[(f"before_{stage.name}/{n}", n) for n in names],
            outputs=[v.name for v in following.graph.output if v.name in kept],
        )
        _strip_prefix(joined, joined_inputs, f"before_{stage.name}/")
    return joined


def _strip_prefix(model: onnx.ModelProto, names: set[str], prefix: str) -> None:
    """Give the model's inputs their own names back after the prefix that avoided clashes."""
    taken = {o for node in model.graph.node for o in node.output}
    new = {n: n.removeprefix(prefix) for n in names if n.removeprefix(prefix) not in taken}
    for value in model.graph.input:
        value.name = new.get(value.name, value.name)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = new.get(name, name)


def _opset(model: onnx.ModelProto) -> int:
    return next(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    return TensorSpec(
        name=value.name,
        dtype=BY_ONNX_CODE[tensor.elem_type].name,
        shape=tuple(d.dim_value for d in tensor.shape.dim),
    )
