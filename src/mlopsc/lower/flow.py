"""How control flow stands in Relax: as calls of external functions that ``flatten`` recognises.

``Loop`` and ``If`` have no kernel. Their bodies become Relax functions of the same module; the
function around them calls a symbol that exists nowhere, which no pass of TVM looks into.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlopsc.lower.micro_calls import MicroCall


@dataclass(frozen=True)
class LoopFlow:
    """A loop.

    The call's arguments are, in order: the trip count if it is ``counted`` at run time, the
    condition if ``conditional``, the initial carried values, what the body captures. Its results
    are the final carried values and the stacks.

    Attributes:
        body: Name of the function of one iteration. It takes the iteration's number, the condition
            (always), the carried values and what it captures; it gives the condition if
            ``conditional``, the carried values and one element of each stack.
        trip_count: The trip count if it is constant; None for no limit or if ``counted``.
        counted: Whether the trip count is an argument.
        conditional: Whether a condition can end the loop.
        carried: Number of carried values.
    """

    body: str
    trip_count: int | None
    counted: bool
    conditional: bool
    carried: int


@dataclass(frozen=True)
class IfFlow:
    """A conditional.

    The call's arguments are the condition, what the first branch captures, what the second does.

    Attributes:
        then: Name of the function of the first branch. It takes what it captures.
        otherwise: Name of the function of the second.
        captured: How many values the first branch captures.
    """

    then: str
    otherwise: str
    captured: int


@dataclass(frozen=True)
class MicroFlow:
    """A hand-written kernel that computes a whole node.

    The call's arguments are the activations, then the constants; its result is the node's.

    Attributes:
        call: What is called.
        node: Name of the node.
        op: Its operator.
    """

    call: MicroCall
    node: str
    op: str


Flows = dict[str, LoopFlow | IfFlow | MicroFlow]  # by the name of the external function
