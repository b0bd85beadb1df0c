"""Pass *AlignFunctionOpsets*: functions of the model use its operator sets.

Converters give each function the oldest operator set that has what it uses. Requires: nothing.
Ensures: no unused functions; those that are left import every operator set in the model's version.
A function in which an operator would mean something else then is refused.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from mlopsc.errors import SourceError


class AlignFunctionOpsets(ir.passes.InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change what functions import.

        Raises:
            SourceError: An operator of a function differs between its version and the model's.
        """
        modified = bool(common.RemoveUnusedFunctionsPass()(model).modified)
        for function in model.functions.values():
            for domain, version in function.opset_imports.items():
                common_version = model.opset_imports.setdefault(domain, version)
                if version != common_version:
                    _check(model, function, domain, common_version)
                    function.opset_imports[domain] = common_version
                    modified = True
        return ir.passes.PassResult(model, modified)


def _check(model: ir.Model, function: ir.Function, domain: str, version: int) -> None:
    own = function.opset_imports[domain]
    for node in function.all_nodes():
        if node.domain != domain or node.op_identifier() in model.functions:
            continue
        if _since(node, own) != _since(node, version):
            raise SourceError(
                f"function '{function.name}' uses opset {own} of '{domain or 'ai.onnx'}' and the "
                f"model opset {version}, in which {node.op_type} is another operator",
                hint="export the model and its functions with one opset",
            )


def _since(node: ir.Node, version: int) -> int | None:
    """Return since which version a node's operator is what it is in ``version``."""
    try:
        return onnx.defs.get_schema(node.op_type, version, node.domain).since_version
    except onnx.defs.SchemaError:
        return None
