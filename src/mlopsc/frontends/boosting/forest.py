"""What a boosted model is: trees, what is added to their sum, and what the sum becomes.

Readers fill an ``Ensemble`` from a file that nobody vouches for; ``check`` makes sure that every
walk ends and reads what is there, before a framework's own loader sees the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from mlopsc.errors import MlopscError, SourceError
from mlopsc.frontends.rounding import above, below

LEQ, LT, GT, MEMBER = 0, 1, 3, 6  # as ai.onnx.ml::TreeEnsemble numbers them
IDENTITY: Final = "identity"
SIGMOID: Final = "sigmoid"
SOFTMAX: Final = "softmax"
EXP: Final = "exp"
SIGN: Final = "sign"  # 1 above 0, else 0
SQUARE: Final = "square"  # keeping the sign
LOG1P_EXP: Final = "log1p_exp"
Result = TypeVar("Result")
Label = int | float | str


@dataclass(frozen=True)
class Leaf:
    """An end of a tree: one value, or one per output."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class Split:
    """One comparison; ``then`` and ``other`` are places in ``Tree.nodes``.

    Attributes:
        feature: Column of the input.
        mode: ``LEQ``, ``LT``, ``GT`` or ``MEMBER``.
        threshold: What is compared with, as precise as the file has it.
        missing: Whether NaN goes where the comparison holds.
        then: Where it goes on if the comparison holds.
        other: Where otherwise.
        members: The categories, of ``MEMBER``.
    """

    feature: int
    mode: int
    threshold: float
    missing: bool
    then: int
    other: int
    members: tuple[float, ...] = ()


@dataclass(frozen=True)
class Tree:
    """A tree; it starts at ``root``.

    Attributes:
        nodes: Some of which may not be reached.
        root: A place in ``nodes``.
        target: The output to which the first value of a leaf is added.
    """

    nodes: Mapping[int, Leaf | Split]
    root: int = 0
    target: int = 0

    def reached(self) -> Iterator[tuple[int, Leaf | Split]]:
        """Yield the nodes from the root down, ``then`` before ``other``.

        Raises:
            SourceError: A node is not there, or is reached twice.
        """
        pending, seen = [self.root], set[int]()
        while pending:
            place = pending.pop()
            if place in seen:
                raise SourceError(f"node {place} is reached twice; expected a tree")
            if place not in self.nodes:
                raise SourceError(f"it leads to node {place}, which is not there")
            seen.add(place)
            node = self.nodes[place]
            yield place, node
            if isinstance(node, Split):
                pending += [node.other, node.then]


@dataclass
class Ensemble:
    """A boosted model.

    Attributes:
        features: Columns of the input.
        targets: Outputs of the trees.
        trees: They are added, in this order.
        base: What is added to the sum, per output.
        divisor: What the sum of the trees is divided by, before ``base`` is added.
        factor: What the sum is multiplied with before ``link``.
        coefficients: Of a linear model, features x outputs, in place of trees.
        link: What the sum becomes: ``IDENTITY`` and so on.
        labels: The classes, or None if it is no classifier. Several outputs that are linked by
            ``SIGMOID`` with the labels 0 and 1 are questions of their own.
        many: Whether each output is a question of its own, to be answered 0 or 1.
        label_of_sum: Whether the label of two classes is decided by the sum's sign, not by the
            rounded probability.
        zero_is_missing: Features whose zeros are missing values.
        names: Of the features, if the file has them.
        objective: As the framework calls it.
        written_by: Name and version of what wrote it.
        configuration: What else the file says; JSON values.
        notes: What a user should know; sentences.
    """

    features: int
    targets: int = 1
    trees: Sequence[Tree] = ()
    base: Sequence[float] = ()
    divisor: int = 1
    factor: float = 1.0
    coefficients: np.ndarray[Any, Any] | None = None
    link: str = IDENTITY
    labels: tuple[Label, ...] | None = None
    many: bool = False
    label_of_sum: bool = False
    zero_is_missing: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    objective: str = ""
    written_by: str = ""
    configuration: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def check(ensemble: Ensemble) -> None:
    """Make sure that every walk ends and that all it reads is there.

    Raises:
        SourceError: A tree is none, or names a feature or an output that does not exist.
    """
    if not 1 <= ensemble.features <= 1 << 20 or not 1 <= ensemble.targets <= 1 << 16:
        raise SourceError(f"it has {ensemble.features} features and {ensemble.targets} outputs")
    if len(ensemble.base) not in (0, ensemble.targets):
        raise SourceError(f"it has {len(ensemble.base)} base scores for {ensemble.targets} outputs")
    if not np.isfinite(np.asarray(ensemble.base, np.float64)).all():
        raise SourceError("a base score is not finite")
    for number, tree in enumerate(ensemble.trees):
        try:
            for place, node in tree.reached():
                _check_node(ensemble, tree, place, node)
        except SourceError as error:
            raise SourceError(f"tree {number}: {error.message}") from error


def _check_node(ensemble: Ensemble, tree: Tree, place: int, node: Leaf | Split) -> None:
    if isinstance(node, Leaf):
        if not node.values or not 0 <= tree.target <= ensemble.targets - len(node.values):
            raise SourceError(
                f"leaf {place} has {len(node.values)} values from output {tree.target} on; "
                f"there are {ensemble.targets} outputs"
            )
        if not all(map(math.isfinite, node.values)):
            raise SourceError(f"a value of leaf {place} is not finite")
    elif not 0 <= node.feature < ensemble.features:
        raise SourceError(f"node {place} reads feature {node.feature} of {ensemble.features}")
    elif math.isnan(node.threshold):
        raise SourceError(f"the threshold of node {place} is not a number")


def read_checked(path: Path | None, title: str, read: Callable[[], Ensemble]) -> Ensemble:
    """Return what ``read`` reads, checked.

    Args:
        path: Where it came from, for messages; None if it was in memory.
        title: The framework.
        read: Raises whatever a file that is damaged makes it raise.

    Raises:
        SourceError: It is damaged.
        ConversionError: It holds what cannot be exported.
    """
    where = "the model" if path is None else f"'{path}'"
    try:
        ensemble = read()
        check(ensemble)
    except SourceError as error:
        raise SourceError(
            f"{where} cannot be read as a model of {title}: {error.message}", hint=error.hint
        ) from error
    except (MlopscError, MemoryError):
        raise
    except KeyError as error:
        raise SourceError(
            f"{where} cannot be read as a model of {title}: {error} is missing"
        ) from error
    except Exception as error:  # readers meet what no document says
        text = " ".join(str(error).split())
        raise SourceError(
            f"{where} cannot be read as a model of {title}: {type(error).__name__}: {text[:300]}"
        ) from error
    return ensemble


def limit_of(threshold: float, mode: int) -> np.float32:
    """Return the float32 with which float32 features compare as with ``threshold``, exactly."""
    if mode in (LEQ, GT):
        return np.float32(below(threshold))
    if mode == LT:
        return np.float32(above(threshold))
    with np.errstate(over="ignore"):
        return np.float32(threshold)
