"""Pass *BindDimensions*: gives every symbolic dimension of the inputs a size.

Requires: inputs of known rank. Ensures: inputs have static shapes. The first axis of an input is
taken as the batch and becomes 1 unless it is bound; any other open dimension must be bound by its
name, or by ``input:axis`` where it has none.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from mlopsc.errors import OpenShapeError, raise_first

BATCH = 1
MAX_SIZE = (1 << 31) - 1


class BindDimensions(ir.passes.InPlacePass):
    """See the module's docstring."""

    def __init__(self, bind: Mapping[str, int]) -> None:
        """Take the sizes the user chose."""
        super().__init__()
        self._bind = dict(bind)
        self.bound: dict[str, int] = {}
        self._problems: list[OpenShapeError] = []

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Bind, forget inferred shapes, and refuse names that fit no dimension."""
        used: set[str] = set()
        names: set[str] = set()
        for value in model.graph.inputs:
            value.shape = self._bind_input(value, used, names)
        known = ", ".join(sorted(names)) or "none"
        for key in sorted(set(self._bind) - used):
            self._refuse(
                f"--bind {key}={self._bind[key]} fits no dimension of the inputs; the open "
                f"dimensions are: {known}"
            )
        raise_first(self._problems)
        if self.bound:
            for node in model.graph:
                for output in node.outputs:
                    output.shape = None
        return ir.passes.PassResult(model, bool(self.bound))

    def _refuse(self, message: str, hint: str = "") -> None:
        self._problems.append(OpenShapeError(message, hint=hint))

    def _bind_input(self, value: ir.Value, used: set[str], names: set[str]) -> ir.Shape | None:
        if value.shape is None:
            self._refuse(
                f"input '{value.name}' has no shape; expected a fixed number of dimensions",
                "export the model with input shapes",
            )
            return None
        sizes = []
        for axis, size in enumerate(value.shape):
            if isinstance(size, int):
                if not 0 <= size <= MAX_SIZE:
                    self._refuse(
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
                self._refuse(f"--bind {key}={chosen}: expected a size from 1 to {MAX_SIZE}")
        elif axis == 0:
            chosen = BATCH
        else:
            self._refuse(
                f"dimension {axis} of input '{value.name}' is symbolic ('{name}') and has no size",
                f"choose one: --bind {name}=N",
            )
            chosen = 1
        self.bound[name] = chosen
        return chosen
