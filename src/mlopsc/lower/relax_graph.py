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
from tvm import relax, te, tirx
from tvm.relax import dpl
from tvm.relax.frontend.onnx import from_onnx

from mlopsc.bundle import graph_signature
from mlopsc.errors import CompilerError
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.graph import StageGraph


def compile_graph(
    stages: Sequence[StageGraph], target: Any
) -> tuple[Any, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
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
    module["main"] = _keep_softplus(module["main"])
    transform = relax.transform
    with target, tvm.transform.PassContext(opt_level=3):
        module = tvm.transform.Sequential(
            [
                relax.backend.DispatchSampling(),
                relax.backend.DispatchSortScan(),
                transform.DecomposeOpsForInference(),
                transform.LegalizeOps({"relax.nn.softplus": _softplus}),
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
    return module, inputs, outputs


def _keep_softplus(function: Any) -> Any:
    """Return ``function`` with the frontend's expansion of Softplus put back into one operator."""
    x = dpl.wildcard()
    tail = dpl.is_op("relax.negative")(dpl.is_op("relax.abs")(x))
    log = dpl.is_op("relax.log")(
        dpl.is_op("relax.add")(dpl.is_const(), dpl.is_op("relax.exp")(tail))
    )
    whole = dpl.is_op("relax.add")(dpl.is_op("relax.maximum")(x, dpl.is_const()), log)
    return dpl.rewrite_call(whole, lambda _, found: relax.op.nn.softplus(found[x]), function)


def _softplus(builder: Any, call: Any) -> Any:
    """Lower ``log(1 + exp(x))`` as ``max(x, 0) + log(1 + exp(-|x|))``, which cannot overflow.

    TVM's own form loses small results; in one expression, ``intrinsics`` sees the ``log(1 + y)``.
    """

    def compute(x: Any) -> Any:
        def element(*index: Any) -> Any:
            value = x(*index)
            zero, one = (tirx.const(n, str(x.dtype)) for n in (0, 1))
            return tirx.max(value, zero) + tirx.log(one + tirx.exp(-tirx.abs(value)))

        return te.compute(x.shape, element, name="softplus")

    return builder.call_te(compute, call.args[0], primfunc_name_hint="softplus")


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


def _opset(model: onnx.ModelProto) -> int:
    return next(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))
