"""Stage *import*: a framework export → a normalised bundle. Knows nothing of any target.

Takes files; gives a ``Bundle`` in memory whose graphs hold only core operators, static shapes and
folded constants (``docs/core-ops.md``), with test vectors answered by the reference runtime.
"""

from __future__ import annotations

from mlopsc.importer.bundle_model import ImportOptions, import_bundle
from mlopsc.importer.describe import OperatorUse, operators_of

__all__ = ["ImportOptions", "OperatorUse", "import_bundle", "operators_of"]
