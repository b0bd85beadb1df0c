"""Stage *import*: a framework export → a normalised bundle. Knows nothing of any target.

Takes files; gives a ``Bundle`` in memory whose graphs hold only core operators, static shapes and
folded constants (``docs/core-ops.md``), with test vectors answered by the reference runtime.
"""

from __future__ import annotations

from mlopsc.importer.bundle_model import import_bundle
from mlopsc.importer.describe import OperatorUse, operators_of
from mlopsc.importer.make_vectors import SYNTHESISED
from mlopsc.importer.onnx_file import external_locations, load_onnx
from mlopsc.schema.import_options import ImportOptions

__all__ = [
    "SYNTHESISED",
    "ImportOptions",
    "OperatorUse",
    "external_locations",
    "import_bundle",
    "load_onnx",
    "operators_of",
]
