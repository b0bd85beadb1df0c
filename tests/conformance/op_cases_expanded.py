"""Cases for the operators that normalising rewrites in terms of core ones, by operator set version.

What they become does not depend on the target, so they are tested on one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from op_cases import Case, Const, f, i, ints


def _floats(*values: float) -> Const:
    return Const(np.array(values, np.float32))


def _resize() -> list[Case]:
    image, row = f("resize", 1, 2, 5, 6), f("resize1", 7)

    def case(label: str, x: Any = image, *inputs: Any, **attributes: Any) -> Case:
        given = inputs or (None, None, ints(1, 2, 7, 9))
        return Case("Resize", label, (x, *given), attributes=attributes)

    cases = []
    for mode in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric"):
        for kind in ("nearest", "linear", "cubic"):
            up, down = _floats(1, 1, 1.7, 2.3), _floats(1, 1, 0.6, 0.45)
            options = {"mode": kind, "coordinate_transformation_mode": mode}
            cases.append(case(f"{kind}_{mode}_up", image, None, up, **options))
            cases.append(case(f"{kind}_{mode}_down", image, None, down, **options))
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        cases.append(case(f"nearest_{rounding}", nearest_mode=rounding))
        cases.append(
            case(
                f"nearest_{rounding}_corners",
                nearest_mode=rounding,
                coordinate_transformation_mode="align_corners",
            )
        )
    crop = _floats(0, 0, -0.2, 0.3, 1, 1, 0.6, 1.2)
    for kind in ("nearest", "linear", "cubic"):
        cases.append(
            case(
                f"crop_{kind}",
                image,
                crop,
                None,
                ints(1, 2, 4, 7),
                mode=kind,
                coordinate_transformation_mode="tf_crop_and_resize",
                extrapolation_value=2.5,
            )
        )
    for kind in ("linear", "cubic"):
        for outside in (0, 1):
            cases.append(
                case(
                    f"antialias_{kind}_{outside}",
                    image,
                    None,
                    None,
                    ints(1, 2, 3, 4),
                    mode=kind,
                    antialias=1,
                    exclude_outside=outside,
                )
            )
    special = image.copy()
    special[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    cases += [
        case("special", special, mode="linear"),
        case("special_antialias", special, None, None, ints(1, 2, 2, 3), mode="linear",
             antialias=1),
        case("outside", mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5),
        case("row", row, None, None, ints(3)),
        case("axes", image, None, None, ints(8, 3), axes=[3, 2], mode="nearest"),
        case("not_larger", image, None, None, ints(8, 7), axes=[2, 3],
             keep_aspect_ratio_policy="not_larger"),
        case("not_smaller", image, None, None, ints(8, 7), axes=[2, 3],
             keep_aspect_ratio_policy="not_smaller", mode="linear"),
        case("volume", f("resize5", 1, 2, 3, 4, 5), None, None, ints(1, 2, 4, 3, 7), mode="linear"),
        case("u8", i("resizeu8", 1, 2, 5, 6, dtype="uint8", low=0, high=256), mode="linear"),
        case("i8", i("resizei8", 1, 2, 5, 6, dtype="int8", low=-128, high=128), mode="linear"),
        case("i32", i("resizei32", 1, 2, 5, 6), mode="linear"),
        case("u8_antialias", i("resizeu8", 1, 2, 5, 6, dtype="uint8", low=0, high=256), None, None,
             ints(1, 2, 2, 4), mode="linear", antialias=1),
    ]  # fmt: skip
    return cases


def _old_resize() -> list[Case]:
    x, up, down = f("upsample", 1, 2, 5, 4), _floats(1, 1, 2, 2.5), _floats(1, 1, 0.6, 0.5)
    return [
        Case("Resize", f"{kind}_{way}", (x, scales), attributes={"mode": kind})
        for kind in ("nearest", "linear")
        for way, scales in (("up", up), ("down", down))
    ]


def _upsample() -> list[Case]:
    x, scales = f("upsample", 1, 2, 3, 4), _floats(1, 1, 2, 2.5)
    return [
        Case("Upsample", kind, (x, scales), attributes={"mode": kind})
        for kind in ("nearest", "linear")
    ]


# By version of the operator set; where a form ended or began.
CASES = {9: _upsample, 10: _old_resize, 20: _resize}
