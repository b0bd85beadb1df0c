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

from mlopsc.bundle import graph_signature
from mlopsc.lower.flow import Flows
from mlopsc.lower.translate import translate
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.graph import StageGraph


def compile_graph(
    stages: Sequence[StageGraph], target: Any
) -> tuple[Any, Flows, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the Relax module, its control flow and the signature of the joined graph.

    Raises:
        CompilerError: An operator of the graph cannot be lowered.
    """
    module, flows = translate(join_stages(stages))
    transform = relax.transform
    with target, tvm.transform.PassContext(opt_level=3):
        module = tvm.transform.Sequential(
            [
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
    inputs, outputs = graph_signature(stages[0].model)[0], graph_signature(stages[-1].model)[1]
    return module, flows, inputs, outputs


def join_stages(stages: Sequence[StageGraph]) -> onnx.ModelProto:
    """Return the stages as one model; each stage's outputs feed the next one's inputs by name.

    Values of earlier stages get a prefix, so that no name of theirs meets one of a later stage;
    inputs and outputs keep their order, and only that counts.
    """
    joined = onnx.load_model_from_string(stages[0].model)
    for stage in stages[1:]:
        following = onnx.load_model_from_string(stage.model)
        prefix = f"before_{stage.name}/"
        names = [value.name for value in following.graph.input]
        joined = onnx.compose.merge_models(
            onnx.compose.add_prefix(joined, prefix),
            following,
            io_map=[(f"{prefix}{name}", name) for name in names],
            outputs=[value.name for value in following.graph.output],
        )
    return joined
