"""ONNX graphs → one Relax module whose ``main`` is a straight list of TIR calls.

The stages are joined by name into one graph first, so that fusion sees across them. What holds
afterwards: static shapes, fused operators, constants folded, no Relax operator left in ``main``
except allocation and reshapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import tvm
from tvm import relax

from mlopsc.bundle import graph_signature, load_graph
from mlopsc.integer import use_integers
from mlopsc.lower.attention import block_attention
from mlopsc.lower.flow import Flows
from mlopsc.lower.grouped import rewrite_groups
from mlopsc.lower.integer_layout import use_integer_forms
from mlopsc.lower.layout import use_blocked_layout
from mlopsc.lower.micro import Variant
from mlopsc.lower.origins import Fused, OriginFinder
from mlopsc.lower.panels import use_panels
from mlopsc.lower.patches import Patches, possible_patches, use_patches
from mlopsc.lower.translate import translate
from mlopsc.lower.transposed import use_interleaved_convolutions
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.graph import StageGraph
from mlopsc.schema.target import Accuracy, Hardware


def compile_graph(
    stages: Sequence[StageGraph],
    target: Any,
    lanes: int,
    hardware: Hardware,
    *,
    accuracy: Accuracy,
    micro: Variant | None,
    patches: Patches | None = None,
) -> tuple[Any, Flows, Fused, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the Relax module, its control flow, whose nodes its kernels compute, the signature.

    Raises:
        CompilerError: An operator of the graph cannot be lowered.
    """
    model = join_stages(stages)
    use_integers(model)
    if patches is not None:
        use_patches(model, patches)
    if lanes > 1:
        model = block_attention(model, lanes, hardware.l2_bytes)
        model = use_interleaved_convolutions(rewrite_groups(model, lanes), accuracy)
        model = use_blocked_layout(model, lanes, accuracy=accuracy)
        model = use_panels(model, lanes, hardware.l2_bytes)
        model = use_integer_forms(model, hardware, lanes)
    module, flows, origins = translate(model, micro)
    transform = relax.transform
    with target, tvm.transform.PassContext(opt_level=3):
        module = tvm.transform.Sequential(
            [transform.AnnotateTIROpPattern(), transform.FoldConstant()]
        )(module)
        finder = OriginFinder(module, origins)
        module = transform.FuseOps()(module)
        fused = finder.find(module)
        module = tvm.transform.Sequential(
            [
                transform.FuseTIR(),
                transform.DeadCodeElimination(),
                transform.RewriteDataflowReshape(),
                transform.ToNonDataflow(),
                transform.RemovePurityChecking(),
                transform.CallTIRRewrite(),
            ]
        )(module)
    inputs, outputs = graph_signature(stages[0].model)[0], graph_signature(stages[-1].model)[1]
    return module, flows, fused, inputs, outputs


def patches_of(stages: Sequence[StageGraph], align: int, *, io_in_arena: bool) -> list[Patches]:
    """Return the ways to compute the first layers of a model in patches, the least work first."""
    model = join_stages(stages)
    use_integers(model)
    return possible_patches(model.graph, align, io_in_arena=io_in_arena)


def join_stages(stages: Sequence[StageGraph]) -> ir.Model:
    """Return the stages as one graph; each stage's outputs feed the next one's inputs by name.

    Names of values may repeat; inputs and outputs keep their order, and only that counts.
    """
    models = [load_graph(stage) for stage in stages]
    joined = models[0].graph
    for number, model in enumerate(models[1:]):
        following = model.graph
        given = {value.name: value for value in joined.outputs}
        for value in following.inputs:
            ir.convenience.replace_all_uses_with(value, given[value.name])
        for constant in list(following.initializers.values()):
            following.initializers.pop(constant.name)
            constant.name = f"{number}/{constant.name}"
            joined.register_initializer(constant)
        outputs, nodes = list(following.outputs), list(following)
        following.outputs.clear()
        following.remove(nodes)
        joined.outputs.clear()
        joined.outputs.extend(outputs)
        joined.extend(nodes)
    return models[0]
