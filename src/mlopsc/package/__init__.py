"""Stage *package*: a lowered program and its kernels → a folder a C programmer can use.

Takes what the compile worker left (``Program``, kernels, weights), the bundle and the target;
fills a folder with headers, libraries, vectors, a descriptor and a working example. What always
holds: the libraries need nothing that ``gate`` does not allow, and ``model.json`` lists every file.
"""

from __future__ import annotations

from mlopsc.package.documents import bundle_files
from mlopsc.package.layouts import check_layouts
from mlopsc.package.limits import Needs, check_limits, needs_of
from mlopsc.package.make import CompiledModel, make_package, with_file

__all__ = [
    "CompiledModel",
    "Needs",
    "bundle_files",
    "check_layouts",
    "check_limits",
    "make_package",
    "needs_of",
    "with_file",
]
