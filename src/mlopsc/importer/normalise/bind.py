"""Pass *BindDimensions*: gives every symbolic dimension of the inputs a size.

Requires: inputs of known rank. Ensures: inputs have static shapes. The first axis of an input is
taken as the batch and becomes 1 unless it is bound; any other open dimension must be bound by its
name, or by ``input:axis`` where it has none.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from mlopsc.errors import OpenShapeError

BATCH = 1
MAX_SIZE = (1 << 31) - 1


class BindDimensions(ir.passes.InPlacePass):
    """See the module's docstring."""

    def __init__(self, bind: Mapping[str, int]) -> None:
        """Take the sizes the user chose."""
        super().__init__()
        self._bind = dict(bind)
        self.bound: dict[str, int] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Bind, forget inferred shapes, and refuse names that fit no dimension."""
        used: set[str] = set()
        names: set[str] = set()
        for value in model.graph.inputs:
            value.shape = self._bind_input(value, used, names)
        unknown = sorted(set(self._bind) - used)
        if unknown:
            known = ", ".join(sorted(names)) or "none"
            raise OpenShapeError(
                f"--bind {unknown[0]}={self._bind[unknown[0]]} fits no dimension of the inputs; "
                f"the open dimensions are: {known}"
            )
        if self.bound:
            for node in model.graph:
                for output in node.outputs:
                    output.shape = None
        return ir.passes.PassResult(model, bool(self.bound))

    def _bind_input(self, value: ir.Value, used: set[str], names: set[str]) -> ir.Shape:
        if value.shape is None:
            raise OpenShapeError(
                f"input '{value.name}' has no shape; expected a fixed number of dimensions",
                hint="export the model with input shapes",
            )
        sizes = []
        for axis, size in enumerate(value.shape):
            if isinstance(size, int):
                if not 0 <= size <= MAX_SIZE:
                    raise OpenShapeError(
                        f"dimension {axis} of input '{value.name}' is {size}; expected a size "
                        f"from 0 to {MAX_SIZE}"
                    )
                sizes.append(size)
                continue
            place = f"{value.name}:{axis}"
            name = str(size.value) if size.value else place
            names.add(name)
            sizes.append(self._choose(value, axis, name, place, used))
        return ir.Shape(sizes)

    def _choose(self, value: ir.Value, axis: int, name: str, place: str, used: set[str]) -> int:
        key = place if place in self._bind else name
        if key in self._bind:
            used.add(key)
            chosen = self._bind[key]
            if not 1 <= chosen <= MAX_SIZE:
                raise OpenShapeError(f"--bind {key}={chosen}: expected a size from 1 to {MAX_SIZE}")
        elif axis == 0:
            chosen = BATCH
        else:
            raise OpenShapeError(
                f"dimension {axis} of input '{value.name}' is symbolic ('{name}') and has no size",
                hint=f"choose one: --bind {name}=N",
            )
        self.bound[name] = chosen
        return chosen
