"""Runner *native*: the shared library, loaded into the worker process."""

from __future__ import annotations

import platform

import numpy as np

from mlopsc.loader import Model, check_runs_here
from mlopsc.package_reader import LoadedPackage
from mlopsc.runners.base import GARBAGE, Array, Execution
from mlopsc.schema.target import Target


def describe(target: Target) -> str:
    """See ``base.Runner``."""
    check_runs_here(target)
    return f"native {platform.machine()}"


def execute(
    package: LoadedPackage,
    inputs: list[dict[str, Array]],
    *,
    count: bool,
    threads: int | None,
) -> Execution:
    """See ``base.Runner``; native runs count nothing."""
    del count
    model = Model(package, threads)
    results = []
    for arrays in inputs:
        outputs = {s.name: np.empty(s.shape, s.dtype) for s in model.outputs}
        arena = model.new_arena()
        for memory in (arena, *(o.reshape(-1).view(np.uint8) for o in outputs.values())):
            memory.fill(GARBAGE)
        model.call_into(arrays, outputs, arena)
        results.append(outputs)
    return Execution(results)
