"""The types of parameters of steps: strict, so that a word is never taken for a number."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

MOST: Final = (1 << 31) - 1  # of a size or a place, and of the elements of a value
OWN: Final = "/"  # what names that steps make begin with


def _check_name(name: str) -> str:
    if name.startswith(OWN) or not name.isprintable():
        raise ValueError(f"the name is {name!r}; expected one that is printable and does not begin "
                         f"with '{OWN}'")  # fmt: skip
    return name


Size = Annotated[int, Field(ge=1, le=MOST, strict=True)]
Count = Annotated[int, Field(ge=0, le=MOST, strict=True)]
Place = Annotated[int, Field(ge=-MOST, le=MOST, strict=True)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Text = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[Text, AfterValidator(_check_name)]
Flag = Annotated[bool, Field(strict=True)]
Layout = Annotated[str, StringConstraints(pattern=r"^[A-Z]+$")]
Letter = Annotated[str, StringConstraints(pattern=r"^[A-Z]$")]
Axis = Place | Letter
Labels = tuple[str, ...] | Text
Window = Literal["hann", "hamming", "blackman", "rectangular"]
