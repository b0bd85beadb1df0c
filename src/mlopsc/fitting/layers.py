"""What each step of a package takes: of the timeline, and of the instructions that were counted."""

from __future__ import annotations

from collections.abc import Sequence

from mlopsc.package.limits import layer_name, ram_by_layer
from mlopsc.runners import CallSite
from mlopsc.schema.fit import LayerUse
from mlopsc.schema.timeline import Timeline


def uses_of(timeline: Timeline, sites: Sequence[CallSite]) -> tuple[LayerUse, ...]:
    """Return what each step takes.

    Args:
        timeline: Of the package.
        sites: What was counted, if anything.
    """
    alive = ram_by_layer(timeline)
    counted = instructions_by_layer(timeline, sites)
    return tuple(
        LayerUse(
            name=layer_name(layer),
            kind=layer.kind,
            kernel=layer.kernel,
            nodes=layer.nodes,
            calls=layer.calls,
            macs=layer.macs * layer.calls,
            instructions=counted.get(index),
            weights=sum(layer.weights.values()),
            ram=alive[index],
        )
        for index, layer in enumerate(timeline.layers)
    )


def instructions_by_layer(timeline: Timeline, sites: Sequence[CallSite]) -> dict[int, int]:
    """Return the instructions of the steps, by number.

    The driver calls the kernels from one place each, in the order of the steps; a branch that was
    not taken has none.
    """
    found: dict[int, int] = {}
    kernels = {name for layer in timeline.layers for name in (layer.kernel, layer.function) if name}
    steps = iter(enumerate(timeline.layers))
    for site in sites:
        if site.function not in kernels:
            continue  # a copy, which the compiler made a function
        called = site.function
        index = next((i for i, x in steps if called in (x.kernel, x.function)), None)
        if index is None:
            return {}  # the compiler has moved calls: nothing is better than what is wrong
        found[index] = site.instructions
    return found
