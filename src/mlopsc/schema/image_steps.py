"""The parameters of steps on images; docstrings go into the documentation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mlopsc.schema.common import Frozen
from mlopsc.schema.step_types import Axis, Count, Flag, Number, Size


class Resize(Frozen):
    """Resizes an image, with half-pixel centres.

    Takes a layout with `H` and `W`. `nearest` keeps the type; `linear` and `cubic` give floats,
    which are not rounded. With `antialias` they are what Pillow and torchvision compute: weights
    beyond the border are left out and the others sum to 1. Without it, `linear` and `cubic` are
    those of OpenCV and of `torch.nn.functional.interpolate`: pixels at the border are repeated.
    `nearest` takes the pixel that the centre lies in, as Pillow and torch's `nearest-exact` do;
    between two pixels it is the second.

    Attributes:
        height: Pixels.
        width: Pixels.
        mode: How to interpolate. The coefficient of `cubic` is -0.5 with `antialias`, otherwise
            -0.75.
        antialias: Whether `linear` and `cubic` widen their kernel when the image shrinks.
        fit: `stretch` gives the size exactly; `inside` keeps the ratio and gives the largest image
            that fits in, `cover` the smallest that covers it; the other side is rounded to the
            nearest, halves up. `pad` or `crop` then make it exact.
    """

    height: Size
    width: Size
    mode: Literal["nearest", "linear", "cubic"] = "linear"
    antialias: Flag = True
    fit: Literal["stretch", "inside", "cover"] = "stretch"


class Crop(Frozen):
    """Cuts a rectangle out of an image.

    Takes a layout with `H` and `W`.

    Attributes:
        height: Pixels that are kept.
        width: Pixels that are kept.
        top: First row; the middle by default, or the row above it.
        left: First column; the middle by default, or the column left of it.
    """

    height: Size
    width: Size
    top: Count | None = None
    left: Count | None = None


class Pad(Frozen):
    """Adds elements around an image, or along one axis.

    Give `height` and `width` (the image moves to the centre, an odd row or column goes to the
    bottom or right), or any of `top`, `bottom`, `left` and `right`, or `axis` with `before` and
    `after`.

    Attributes:
        height: Rows afterwards.
        width: Columns afterwards.
        top: Rows added.
        bottom: Rows added.
        left: Columns added.
        right: Columns added.
        axis: Number or letter.
        before: Elements added in front.
        after: Elements added behind.
        mode: `constant`, `edge` (the nearest element) or `reflect` (mirrored, the edge once).
        value: Of the new elements, with `constant`.
    """

    height: Size | None = None
    width: Size | None = None
    top: Count | None = None
    bottom: Count | None = None
    left: Count | None = None
    right: Count | None = None
    axis: Axis | None = None
    before: Count | None = None
    after: Count | None = None
    mode: Literal["constant", "edge", "reflect"] = "constant"
    value: Number = 0.0

    @model_validator(mode="after")
    def _check_form(self) -> Pad:
        size = (self.height, self.width)
        sides = (self.top, self.bottom, self.left, self.right)
        ends = (self.before, self.after)
        forms = [
            None not in size,
            any(side is not None for side in sides),
            self.axis is not None and any(end is not None for end in ends),
        ]
        given = [value is not None for value in (*size, *sides, self.axis, *ends)]
        used = 2 * forms[0] + sum(side is not None for side in sides) * forms[1]
        used += forms[2] * (1 + sum(end is not None for end in ends))
        if sum(forms) != 1 or used != sum(given):
            raise ValueError(
                "expected 'height' and 'width', or some of 'top', 'bottom', 'left' and 'right', or "
                "'axis' with 'before' and 'after'"
            )
        return self


class Colour(Frozen):
    """Changes the order of colours, to grey (one channel) or from grey.

    Takes a layout with `C`. Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), float32; the other
    ways keep the type.

    Attributes:
        from: What the channels are.
        to: What they become.
    """

    source: Literal["RGB", "BGR", "GREY"] = Field(default="RGB", alias="from")
    to: Literal["RGB", "BGR", "GREY"]
