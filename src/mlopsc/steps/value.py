"""Values of a graph of steps, which know type, shape and layout, and why a step refuses one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from mlopsc.schema.step_types import MOST

Shape = tuple[int | str, ...]
STRING: Final = "string"


class Refusal(Exception):  # noqa: N818 - it is an answer, not a failure
    """Why a step cannot be done; the message follows the step's number and name.

    Attributes:
        hint: What to do, if there is more to say than to change the step.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        """Store them."""
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: In the graph.
        dtype: Element type, or ``string``.
        shape: Sizes; the first may be a name.
        layout: A letter for each axis, or None.
        labels: The strings that it chooses from, if it holds strings.
    """

    name: str
    dtype: str
    shape: Shape
    layout: str | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a value that nothing can hold."""
        check_size(self.shape)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return "float" in self.dtype

    @property
    def is_integer(self) -> bool:
        """Whether the elements are integers; booleans are none."""
        return "int" in self.dtype

    def axis(self, axis: int | str) -> int:
        """Return the number of an axis from 0 on.

        Raises:
            Refusal: There is none.
        """
        if isinstance(axis, str):
            if self.layout is None or axis not in self.layout:
                raise Refusal(
                    f"there is no axis '{axis}' in {self}",
                    "give the input a layout, such as NHWC, or use the number of the axis",
                )
            return self.layout.index(axis)
        if not -self.rank <= axis < self.rank:
            raise Refusal(f"axis {axis} is not in {self}; expected {-self.rank} to {self.rank - 1}")
        return axis % self.rank

    def size(self, axis: int | str) -> int:
        """Return the size of an axis.

        Raises:
            Refusal: There is none, or its size is a name.
        """
        size = self.shape[self.axis(axis)]
        if isinstance(size, str):
            raise Refusal(f"the size of axis {axis} of {self} is open; expected a number")
        return size

    @property
    def sample_axes(self) -> tuple[int, ...]:
        """The axes of one sample: all but the batch."""
        if self.layout is not None:
            return tuple(a for a, letter in enumerate(self.layout) if letter != "N")
        return tuple(range(1, self.rank)) if self.rank > 1 else tuple(range(self.rank))

    def without(self, axis: int) -> str | None:
        """Return the layout without an axis."""
        return self.layout and self.layout[:axis] + self.layout[axis + 1 :]

    def __str__(self) -> str:
        """Render as ``uint8[1, 8, 8, 3] NHWC``."""
        layout = f" {self.layout}" if self.layout else ""
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]{layout}"


def check_size(shape: Shape) -> None:
    """Refuse a shape of more elements than a value may have.

    Raises:
        Refusal: It has more.
    """
    if elements(shape) > MOST:
        raise Refusal(f"a value of shape {list(shape)} has {elements(shape)} elements; expected at "
                      f"most {MOST}", "make sizes smaller")  # fmt: skip


def elements(shape: Shape) -> int:
    """Return the number of elements of a shape, a name counting as 1."""
    return math.prod(size for size in shape if isinstance(size, int))
