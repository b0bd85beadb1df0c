"""Packages in the forms that build systems of firmware take: one module per form.

Takes ``Parts``, what a package is made of; gives files below ``layouts/<form>/``. All forms carry
the same C, ``single.py``'s, so only targets whose kernels are C have them. What always holds: the
same parts give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from mlopsc.errors import InputError
from mlopsc.package.layouts.arduino import arduino
from mlopsc.package.layouts.cmsis_pack import cmsis_pack
from mlopsc.package.layouts.parts import Parts
from mlopsc.package.layouts.source import source
from mlopsc.package.layouts.zephyr import zephyr
from mlopsc.schema.build_options import BuildOptions, Layout
from mlopsc.schema.target import Target

__all__ = ["Parts", "check_layouts", "layout_files"]

LAYOUTS: Final[dict[Layout, Callable[[Parts], dict[str, bytes]]]] = {
    "source": source,
    "cmsis-pack": cmsis_pack,
    "zephyr": zephyr,
    "arduino": arduino,
}


def layout_files(names: Iterable[Layout], parts: Parts) -> dict[str, bytes]:
    """Return the files of the layouts ``names`` by path below ``layouts/``."""
    return {
        f"{name}/{path}": data
        for name in dict.fromkeys(names)
        for path, data in LAYOUTS[name](parts).items()
    }


def check_layouts(target: Target, options: BuildOptions) -> None:
    """Refuse layouts for a target whose kernels are not C.

    Raises:
        InputError: There are layouts, and nothing that they could hold.
    """
    generator = options.generator or target.compile.generator
    if options.layouts and generator != "c":
        raise InputError(
            f"target '{target.name}' has kernels in LLVM IR; layout '{options.layouts[0]}' is made "
            "of C",
            hint="add --generator c",
        )
