"""The types of parameters of steps: strict, so that a word is never taken for a number."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

Size = Annotated[int, Field(ge=1, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Place = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Text = Annotated[str, StringConstraints(min_length=1)]
Flag = Annotated[bool, Field(strict=True)]
Layout = Annotated[str, StringConstraints(pattern=r"^[A-Z]+$")]
Letter = Annotated[str, StringConstraints(pattern=r"^[A-Z]$")]
Axis = Place | Letter
Labels = tuple[str, ...] | Text
Window = Literal["hann", "hamming", "blackman", "rectangular"]
