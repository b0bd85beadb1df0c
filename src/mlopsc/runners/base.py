"""What every runner provides, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from mlopsc.package_reader import LoadedPackage
from mlopsc.schema.target import Target

Array = np.ndarray[Any, Any]
GARBAGE = 0xA5


class CallSite(NamedTuple):
    """A place where the driver of a model calls a function: one step of the model.

    Attributes:
        function: Symbol of what is called.
        calls: How often.
        instructions: Of all calls, with those of the functions that it calls.
    """

    function: str
    calls: int
    instructions: int


@dataclass(frozen=True)
class Execution:
    """Results of running a package on several sets of inputs.

    Attributes:
        outputs: Per set of inputs, arrays by output name.
        instructions: Executed on the first set, where the runner counts them.
        profile: Of those, by symbol.
        stack_bytes: Deepest stack of that call below its caller, where the runner measures it.
        sites: Of those, by the places where the driver calls, in the order of each one's first.
    """

    outputs: list[dict[str, Array]]
    instructions: int | None = None
    profile: dict[str, int] = field(default_factory=dict)
    stack_bytes: int | None = None
    sites: list[CallSite] = field(default_factory=list)


class Runner(Protocol):
    """The functions of a runner module."""

    def describe(self, target: Target) -> str:
        """Return name and version of what will execute packages of ``target``.

        Raises:
            MissingToolError: Something it needs is not there.
        """

    def execute(
        self,
        package: LoadedPackage,
        inputs: list[dict[str, Array]],
        *,
        count: bool,
        threads: int | None,
    ) -> Execution:
        """Run the package on each set of inputs; measure the first if asked (``count``).

        ``threads`` is the number that a call may use; only *native* is given more than one.

        Raises:
            BrokenPackageError: The library fails.
        """
