"""Stage *conform*: a package and its test vectors → a conformance report.

Runs what ships, from raw inputs, and compares with the reference runtime's outputs: those recorded
in the vectors, or, given the bundle, those its own graph gives now.
"""

from __future__ import annotations

from mlopsc.compare import compare
from mlopsc.conformance.judge import conform_package

__all__ = ["compare", "conform_package"]
