"""Brings a graph to the normal form, pass by pass.

Each pass is one file with what it requires and ensures; common clean-ups come from ``onnx-ir``.
Afterwards ``check.check_normal_form`` holds, or the import fails with the node and the reason.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from mlopsc.bundle import detach
from mlopsc.errors import MlopscError, SourceError
from mlopsc.importer.normalise.batch_norm import FoldBatchNormalization
from mlopsc.importer.normalise.bind import BindDimensions
from mlopsc.importer.normalise.check import check_normal_form, check_tensors, find_oddities
from mlopsc.importer.normalise.conditionals import InlineConditionals
from mlopsc.importer.normalise.counted_loops import CountLoops
from mlopsc.importer.normalise.duplicates import DeduplicateInitializers
from mlopsc.importer.normalise.empties import RemoveEmpties
from mlopsc.importer.normalise.expand import ExpandComposites, Refusals
from mlopsc.importer.normalise.expansions import COMPOSITE, QUANTISED
from mlopsc.importer.normalise.fixes import refuse_maps
from mlopsc.importer.normalise.fold import FoldConstants
from mlopsc.importer.normalise.function_opsets import AlignFunctionOpsets
from mlopsc.importer.normalise.functions import ExpandFunctions
from mlopsc.importer.normalise.identities import RemoveIdentities
from mlopsc.importer.normalise.loops import SimplifyLoops, UnrollLoops
from mlopsc.importer.normalise.quantised_parts import (
    KeepQuantised,
    kept_composites,
    kept_nodes,
)
from mlopsc.importer.normalise.recurrent import ExpandRecurrent
from mlopsc.importer.normalise.reverse_sequence import ExpandReverseSequence
from mlopsc.importer.normalise.scales import FoldScales
from mlopsc.importer.normalise.scan import ExpandScan
from mlopsc.importer.normalise.sequence_inputs import is_tensor
from mlopsc.importer.normalise.sequences import EliminateSequences
from mlopsc.importer.normalise.shapes import InferShapes
from mlopsc.importer.normalise.storage_types import StorageTypes
from mlopsc.importer.normalise.strings import NumberStrings
from mlopsc.importer.normalise.subgraphs import PrepareBodies, RemoveUnused, all_graphs
from mlopsc.importer.normalise.transposes import RemoveTransposes
from mlopsc.importer.normalise.upgrade import OPSET, upgrade_opset
from mlopsc.labels import METADATA_KEY
from mlopsc.schema.bundle import StageName
from mlopsc.schema.graph import StageGraph

# What it has to say about passes that find nothing to do is not for our users.
logging.getLogger("onnx_ir").setLevel(logging.CRITICAL)

IR_VERSION = 10  # what every reference runtime we accept can load
_MAX_ROUNDS = 32


@dataclass(frozen=True)
class Normalised:
    """A graph in normal form.

    Attributes:
        graph: Serialised, with its weights.
        opset: Version of ``ai.onnx``.
        nodes: Number of nodes.
        parameters: Number of weight elements.
        bound: Dimensions that were bound, by name.
        passes: Names of the passes that changed the graph.
        findings: Things to know that are no errors.
    """

    graph: StageGraph
    opset: int
    nodes: int
    parameters: int
    bound: dict[str, int]
    passes: tuple[str, ...]
    findings: tuple[str, ...]

    @property
    def model(self) -> bytes:
        """The serialised graph."""
        return self.graph.model


def normalise(
    proto: onnx.ModelProto,
    bind: Mapping[str, int],
    opset: int = OPSET,
    name: StageName = "model",
) -> Normalised:
    """Return ``proto`` in normal form.

    Args:
        proto: A checked model.
        bind: Sizes of symbolic dimensions, by name or as ``input:axis``.
        opset: The least version of ``ai.onnx`` of the result.
        name: Which stage it is.

    Raises:
        OpenShapeError: A dimension stays symbolic, or a name in ``bind`` fits none.
        UnsupportedOpError: An operator is outside the core set.
        SourceError: The graph contradicts itself.
    """
    refuse_maps(proto)
    model = ir.from_proto(proto)
    check_tensors(model)
    _forget_shapes(model)
    binder = BindDimensions(bind)
    changed: list[str] = []
    for step in (
        AlignFunctionOpsets(),
        common.InlinePass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        PrepareBodies(),
        common.RemoveInitializersFromInputsPass(),
        common.ClearMetadataAndDocStringPass(),
    ):
        _apply(model, step, changed)
    if model.opset_imports.get("", opset) < opset:
        while _apply(model, ExpandScan(), changed):  # its old form cannot be upgraded
            pass
    model = _upgrade(model, opset, changed)
    _apply(model, binder, changed)
    refusals: Refusals = {}
    _settle(model, changed, refusals)
    while _apply(model, UnrollLoops(), changed):
        _settle(model, changed, refusals)
    strings = NumberStrings()
    if _apply(model, strings, changed):
        _settle(model, changed, refusals)
    # First: what is merged later would have users outside of what integers compute.
    _apply(model, common.CommonSubexpressionEliminationPass(), changed)
    _apply(model, KeepQuantised(), changed)
    while _apply(model, ExpandComposites(QUANTISED, refusals, kept_nodes), changed):
        _settle(model, changed, refusals)
    _apply(model, InferShapes(), [])
    if _apply(model, StorageTypes(), changed):
        _apply(model, PrepareBodies(), [])  # unique names for what is new
        _apply(model, FoldConstants(), changed)
    for step in (
        RemoveIdentities(),
        RemoveTransposes(),
        FoldBatchNormalization(),
        FoldScales(),
        common.CommonSubexpressionEliminationPass(),
        DeduplicateInitializers(),
        RemoveUnused(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.TopologicalSortPass(),
        common.NameFixPass(),
        InferShapes(),
    ):
        _apply(model, step, changed)
    model.ir_version = IR_VERSION
    check_normal_form(model, refusals)
    _check_signature(proto, model)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name in strings.tables:
            value.metadata_props[METADATA_KEY] = json.dumps(strings.tables[value.name])
    findings = tuple(find_oddities(model))
    parameters = sum(v.const_value.size for v in model.graph.initializers.values())
    model.producer_name, model.producer_version, model.doc_string = "mlopsc", "", None
    return Normalised(
        graph=detach(model, name),
        opset=model.opset_imports.get("", 0),
        nodes=_count(model),
        parameters=parameters,
        bound=binder.bound,
        passes=tuple(dict.fromkeys(changed)),
        findings=findings,
    )


def _forget_shapes(model: ir.Model) -> None:
    """Forget what a file says of the shapes inside it: exporters err, and inference would believe.

    The signature stays; it is held against what is computed.
    """
    ends = {value for graph in all_graphs(model) for value in (*graph.inputs, *graph.outputs)}
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value not in ends:
                value.shape = None


def _upgrade(model: ir.Model, opset: int, changed: list[str]) -> ir.Model:
    upgraded = upgrade_opset(model, opset)
    if upgraded is not model:
        changed.append("UpgradeOpset")
        lift = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
        _apply(upgraded, lift, changed)
        _apply(upgraded, PrepareBodies(), changed)
    return upgraded


def _count(model: ir.Model) -> int:
    """Return the number of nodes, those of bodies included."""
    return sum(1 for _ in model.graph.all_nodes())


def _settle(model: ir.Model, changed: list[str], refusals: Refusals) -> None:
    """Infer, fold and expand until nothing changes."""
    for _ in range(_MAX_ROUNDS):
        _apply(model, PrepareBodies(), [])  # unique names for what is new
        _apply(model, InferShapes(), [])
        steps = (
            EliminateSequences(),
            RemoveEmpties(),
            FoldConstants(),
            InlineConditionals(),
            ExpandScan(),
            ExpandRecurrent(),
            ExpandReverseSequence(),
            RemoveUnused(),
            CountLoops(),
            SimplifyLoops(),
            ExpandComposites(COMPOSITE, refusals, kept_composites),
            ExpandFunctions(refusals),
        )
        if not any([_apply(model, step, changed) for step in steps]):  # all, not the first
            break


def _check_signature(proto: onnx.ModelProto, model: ir.Model) -> None:
    """Make sure that no pass has renamed, reordered or lost an input or output."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    before = [v.name for v in proto.graph.input if v.name not in constants]
    after = [str(v.name) for v in (*model.graph.inputs, *model.graph.outputs)]
    outputs = [str(v.name) for v in model.graph.outputs]
    for value in proto.graph.output:
        if is_tensor(value):
            before.append(value.name)
        else:
            elements = (f"{value.name}_{k}" for k in itertools.count())
            before += [value.name] if value.name in outputs else []
            before += itertools.takewhile(outputs.__contains__, elements)
    if before != after:
        raise SourceError(
            f"normalising changed the model's signature from {before} to {after}",
            hint="give every input and output a name of its own",
        )


def _apply(model: ir.Model, step: ir.passes.PassBase, changed: list[str]) -> bool:
    try:
        result = step(model)
    except ir.passes.PassError as error:
        cause = error.__cause__ or error
        if isinstance(cause, MlopscError):
            raise cause from error
        raise SourceError(
            f"the graph cannot be normalised ({type(step).__name__}): "
            f"{' '.join(str(cause).split())[:300]}"
        ) from error
    if result.modified:
        changed.append(type(step).__name__.removesuffix("Pass"))
    return bool(result.modified)
